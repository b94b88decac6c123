/** A program that embeds a daemon keeps its process: its signals are its own. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Daemon } from '../../src/index.js';
import { FakeDataPlane } from '../support/fake-dataplane.js';
import { FakeFirewall } from '../support/fake-firewall.js';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** libuv's own, from the first program on that is started. */
const SIGCHLD = 1n << 16n;

/** What JavaScript listens for, and what the kernel knows of signals that are ignored or handled. */
async function processState(): Promise<object> {
  const status = await readFile('/proc/self/status', 'utf8');
  const masks = [...status.matchAll(/^Sig(Ign|Cgt):\s*(\w+)$/gm)].map(
    ([, name, mask]) => `${name} ${BigInt(`0x${mask}`) & ~SIGCHLD}`,
  );
  const listeners = process
    .eventNames()
    .filter((name) => String(name).startsWith('SIG'))
    .map((name) => [name, process.listenerCount(name)]);
  return { masks, listeners };
}

it('a daemon that runs and ends leaves signals and process alone', async () => {
  const leaseFile = join(directory, 'leases.json');
  // A reservation, so that nothing is written.
  const leases = { '100.96.1.0-24': { PublicIP: '10.168.0.2' } };
  const content = { version: 1, config: { Network: '100.96.0.0/16' }, leases };
  await writeFile(leaseFile, JSON.stringify(content));
  const subnetFile = join(directory, 'subnet.env');
  const options = { store: { kind: 'file', path: leaseFile }, subnetFile } as const;
  const stop = new AbortController();
  const before = await processState();
  const running = new Daemon(options, undefined, {
    openDataPlane: (given) => new FakeDataPlane(given),
    createFirewall: (kind) => new FakeFirewall(kind),
    probeKernel: () => [],
    hostInterfaces: () => [
      {
        name: 'eth0',
        index: 2,
        mtu: 1500,
        up: true,
        loopback: false,
        addresses: [{ address: 0x0aa80002, prefix: 24 }],
      },
    ],
    defaultInterface: () => Promise.resolve('eth0'),
  }).run(stop.signal);
  await expect.poll(() => readFile(options.subnetFile, 'utf8').catch(() => '')).toContain('SUBNET');
  expect(await processState()).toEqual(before);
  stop.abort();
  await running;
  expect(await processState()).toEqual(before);
});
