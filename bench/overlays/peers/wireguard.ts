/** wireguard-go, WireGuard in user space, configured with wg(8). */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inNamespace, Program, run } from '../../../src/testbed/programs.js';
import { cachedTool } from '../../../src/testbed/tools.js';
import { ipBatch, type HostPlan } from '../../../src/testbed/topology.js';
import type { Subject } from '../subject.js';
import { endsOf, runPrograms, untilReady, useDevice } from './ends.js';

/** Header 16, tag 16, UDP 8, and an outer header of 40, as wg-quick(8) reckons: it may be IPv6. */
const OVERHEAD = 80;
const PORT = 51_820;
const START_LIMIT_MS = 10_000;

/** Control sockets are named by the device and lie in one directory for all hosts. */
const deviceOf = (plan: HostPlan): string => `wg${plan.number}`;

/** Debian's is older than its segmentation offload. */
const built = cachedTool('wireguard-go');

export const wireguard: Subject = {
  name: 'wireguard-go',
  what: `wireguard-go ${built?.version ?? 'of Debian'}; encrypts (ChaCha20-Poly1305)`,
  main: true,
  needs: {
    wg: 'wireguard-tools',
    ...(built === undefined ? { 'wireguard-go': 'wireguard-go' } : {}),
  },
  mtu: (mtu) => mtu - OVERHEAD,
  setUp: async (underlay) => {
    const ends = await endsOf('wireguard', underlay);
    const publicKeys = new Map<HostPlan, string>();
    for (const { plan, directory } of ends) {
      const { stdout: secret } = await run(['wg', 'genkey']);
      await writeFile(keyFile(directory), secret, { mode: 0o600 });
      const { stdout } = await run(['wg', 'pubkey'], { input: secret });
      publicKeys.set(plan, stdout.trim());
    }
    return runPrograms(async (programs) => {
      for (const end of ends) {
        const { plan, other, directory } = end;
        const device = deviceOf(plan);
        const inside = (...argv: string[]): string[] => inNamespace(plan.host, argv);
        programs.push(new Program(inside(built?.path ?? 'wireguard-go', '-f', device)));
        await untilReady(programs, START_LIMIT_MS, async () => {
          const { code } = await run(inside('wg', 'show', device), { accept: [0, 1] });
          return code === 0;
        });
        const self = ['listen-port', String(PORT), 'private-key', keyFile(directory)];
        const peer = ['peer', publicKeys.get(other) ?? '', 'allowed-ips', other.subnet];
        peer.push('endpoint', `${other.address}:${PORT}`);
        await run(inside('wg', 'set', device, ...self, ...peer));
        await ipBatch(plan.host, useDevice(device, end, underlay.mtu - OVERHEAD));
      }
    });
  },
};

function keyFile(directory: string): string {
  return join(directory, 'private-key');
}
