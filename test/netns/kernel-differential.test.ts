/**
 * The kernel's programs take no packet that the daemon would drop, and make of each what the daemon would
 * (test/support/kernel_differential.cc). 5,000 random packets each way; FLANNELETTE_DIFFERENTIAL and
 * FLANNELETTE_SEED ask for others.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ipBatch } from '../../src/testbed/topology.js';
import { join } from 'node:path';
import { canKernel } from '../support/can-kernel.js';
import { requireIsolation, ROOT } from '../support/test-lab.js';

const NATIVE = join(ROOT, 'test', 'native');
const PROGRAM = join(NATIVE, 'build', 'kernel-differential');
const NAMESPACE = 'differential';
const PACKETS = Number(process.env['FLANNELETTE_DIFFERENTIAL'] ?? 5_000);
const SEED = process.env['FLANNELETTE_SEED'] ?? '1';
/** A packet goes three ways, in about 0.3 ms; on a busy machine many times that. */
const LIMIT_MS = 60_000 + 20 * PACKETS;

interface Tally {
  readonly packets: number;
  readonly taken: number;
  readonly left: number;
  readonly different: number;
  /** Taken with a wrong outer UDP checksum, which the programs do not look at. */
  readonly unchecked: number;
}

describe.skipIf(!canKernel)(
  'random packets, by the programs of mode kernel and by the daemon',
  () => {
    beforeAll(async () => {
      await requireIsolation();
      const argv = ['make', '-s', '-j2', '-C', NATIVE, 'build/kernel-differential'];
      await run(argv, { timeoutMs: 300_000 });
      await ipBatch(undefined, [`netns add ${NAMESPACE}`]);
      const settings = ['ip_forward=0', 'conf.all.rp_filter=0', 'conf.default.rp_filter=0'];
      await run(
        inNamespace(NAMESPACE, ['sysctl', '-qw', ...settings.map((text) => `net.ipv4.${text}`)]),
      );
      await ipBatch(NAMESPACE, [
        'link set lo up',
        'link add eth0 type veth peer name wire',
        'address add 10.168.0.2/24 dev eth0',
        'link set eth0 up',
        'link set wire up',
        'neighbour add 10.168.0.3 lladdr 02:00:00:00:00:03 dev eth0',
        'neighbour add 10.168.0.4 lladdr 02:00:00:00:00:04 dev eth0',
      ]);
      const off = ['tx', 'sg', 'tso', 'gso', 'gro'].flatMap((feature) => [feature, 'off']);
      for (const device of ['eth0', 'wire']) {
        await run(inNamespace(NAMESPACE, ['ethtool', '-K', device, ...off]));
      }
    }, 310_000);
    afterAll(() => ipBatch(undefined, [`netns delete ${NAMESPACE}`]));

    it.each(['true', 'false'])(
      'are taken alike with --source-check=%s, byte for byte',
      async (check) => {
        const argv = [PROGRAM, String(PACKETS), SEED, check];
        const { stdout, stderr } = await run(inNamespace(NAMESPACE, argv), {
          timeoutMs: LIMIT_MS,
          accept: [0, 1],
        });
        expect(stderr).toBe('');
        const tallies = JSON.parse(stdout) as { readonly out: Tally; readonly in: Tally };
        for (const { taken, left, different } of [tallies.out, tallies.in]) {
          expect(different).toBe(0);
          // Enough of both that it means something.
          expect(taken).toBeGreaterThan(0.05 * PACKETS);
          expect(left).toBeGreaterThan(0.05 * PACKETS);
        }
      },
      LIMIT_MS,
    );
  },
);
