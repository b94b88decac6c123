/**
 * Our segments equal the kernel's: random TSO and USO packets, cut by native/core/segment.h and by the
 * kernel's own GSO in front of a veth that has no offload, compared byte by byte
 * (test/support/kernel_segments.cc). 100,000 packets; FLANNELETTE_SEGMENTS and FLANNELETTE_SEED ask for
 * others.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseIpv4 } from '../../src/config/ipv4.js';
import { probeKernel } from '../../src/dataplane/dataplane.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ipBatch } from '../../src/testbed/topology.js';
import { join } from 'node:path';
import { requireIsolation, ROOT } from '../support/test-lab.js';

const NATIVE = join(ROOT, 'test', 'native');
const PROGRAM = join(NATIVE, 'build', 'kernel-segments');
const NAMESPACE = 'segments';
const PACKETS = Number(process.env['FLANNELETTE_SEGMENTS'] ?? 100_000);
const SEED = process.env['FLANNELETTE_SEED'] ?? '1';
/** A packet and its segments take about 0.1 ms, on a busy machine many times that. */
const LIMIT_MS = 60_000 + 2 * PACKETS;

interface Tally {
  readonly packets: number;
  readonly segments: number;
  readonly different: number;
  readonly notCut: number;
  readonly refused: number;
}

const hasUso = probeKernel().some(({ name, state }) => name === 'tun-uso' && state === 'yes');

describe('segments of random packets', () => {
  /** The first of them, byte by byte. */
  let differences: string;
  let tallies: { readonly tcp: Tally; readonly udp: Tally };

  beforeAll(async () => {
    await requireIsolation();
    await run(['make', '-s', '-C', NATIVE, 'build/kernel-segments'], { timeoutMs: 120_000 });
    await ipBatch(undefined, [`netns add ${NAMESPACE}`]);
    const settings = ['ip_forward=1', 'conf.all.rp_filter=0', 'conf.default.rp_filter=0'];
    await run(
      inNamespace(NAMESPACE, ['sysctl', '-qw', ...settings.map((text) => `net.ipv4.${text}`)]),
    );
    // Nobody has the MAC address: the far end shows the frames to the capture and drops them.
    await ipBatch(NAMESPACE, [
      'tuntap add mode tun name tun0 vnet_hdr',
      'link set tun0 up mtu 65535',
      'link add out0 type veth peer name in0',
      'link set out0 up mtu 65535',
      'link set in0 up mtu 65535',
      'address add 10.168.0.2/24 dev out0',
      'neighbour add 10.168.0.3 lladdr 02:00:00:00:00:03 dev out0',
      'route add 100.96.1.0/24 dev tun0',
      'route add 100.96.2.0/24 via 10.168.0.3',
    ]);
    const off = ['tx', 'sg', 'tso', 'gso', 'gro'].flatMap((feature) => [feature, 'off']);
    for (const device of ['out0', 'in0']) {
      await run(inNamespace(NAMESPACE, ['ethtool', '-K', device, ...off]));
    }
    const addresses = ['100.96.1.2', '100.96.2.3'].map((text) =>
      String(parseIpv4('address', text)),
    );
    const argv = [PROGRAM, 'tun0', 'in0', ...addresses, String(PACKETS), SEED];
    const { stdout, stderr } = await run(inNamespace(NAMESPACE, argv), {
      timeoutMs: LIMIT_MS,
      accept: [0, 1],
    });
    differences = stderr;
    tallies = JSON.parse(stdout) as typeof tallies;
  }, LIMIT_MS + 150_000);
  afterAll(() => ipBatch(undefined, [`netns delete ${NAMESPACE}`]));

  it("of TCP equal the kernel's", () => {
    const { packets, segments, ...faults } = tallies.tcp;
    expect(differences).toBe('');
    expect(faults).toEqual({ different: 0, notCut: 0, refused: 0 });
    expect(packets).toBeGreaterThan(0.55 * PACKETS);
    // Cut by the kernel, and not carried whole to the capture.
    expect(segments).toBeGreaterThan(3 * packets);
  });

  it.skipIf(!hasUso)("of UDP equal the kernel's", () => {
    const { packets, segments, ...faults } = tallies.udp;
    expect(differences).toBe('');
    expect(faults).toEqual({ different: 0, notCut: 0, refused: 0 });
    expect(packets).toBeGreaterThan(0.35 * PACKETS);
    expect(segments).toBeGreaterThan(3 * packets);
  });
});
