/** A daemon's life while traffic runs: a blocked event loop, peers that come and go, the end. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { requestJson } from '../../src/daemon/status-client.js';
import { statusSocketPath } from '../../src/daemon/options.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import {
  startDaemons,
  subnetFileOf,
  writeLeaseFile,
  LEASE_FILE,
} from '../../src/testbed/daemon-process.js';
import { addHost, hostPlan, removeHost } from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { COMMAND, counters, ROOT, TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

/**
 * Of this test's Node, in kB, once the start's share has been given back; the programs of the package
 * are bundled and take 5 MB less.
 */
const MAX_MEMORY_KB: Readonly<Record<string, number>> = { '20': 50_000 };

describe('a daemon', () => {
  it('takes little memory once it has settled, and carries packets as before', async () => {
    lab = await TestLab.setUp({ mode: 'offload' });
    const { nearDaemon, near, far } = lab;
    const [major = ''] = process.versions.node.split('.');
    const most = MAX_MEMORY_KB[major] ?? 75_000;
    const settled = await waitFor(`${most} kB`, 10_000, async () => {
      const used = await residentKb(nearDaemon.program.pid);
      return used < most ? used : undefined;
    });
    expect(settled).toBeGreaterThan(20_000);
    const { received } = await ping(near, far.containerAddress, {
      count: 50,
      intervalSeconds: 0.02,
    });
    expect(received).toBe(50);
    expect((await nearDaemon.status()).routes).toHaveLength(1);
    expect(await residentKb(nearDaemon.program.pid)).toBeLessThan(most);
  });
});

async function residentKb(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]);
}

describe('forwarding', () => {
  it('goes on while the event loop is blocked for 5 s', async () => {
    lab = await TestLab.bare(2);
    const { near, far } = lab;
    const [farDaemon] = await startDaemons([far], { command: COMMAND, mode: 'batch' });
    if (farDaemon === undefined) throw new Error('no daemon');
    lab.daemons.push(farDaemon);
    const script = join(ROOT, 'test', 'support', 'embedded-daemon.mjs');
    const embedded = new Program(
      inNamespace(near.host, [process.execPath, script, LEASE_FILE, subnetFileOf(near)]),
    );
    try {
      const socket = statusSocketPath(subnetFileOf(near));
      await waitFor('the embedded daemon', 10_000, () =>
        requestJson(socket, '/readyz', 1_000).catch(() => undefined),
      );
      // Straight between the hosts' ends of the tunnel: no containers needed.
      const stream = new Program(
        inNamespace(near.host, ['ping', '-q', '-n', '-i', '0.01', '-c', '650', far.tunAddress]),
      );
      await waitFor('ping', 2_000, () => (stream.running ? true : undefined));
      embedded.kill('SIGUSR2');
      await waitFor('the block', 2_000, () => embedded.stdout.includes('blocked') || undefined);
      await expect(requestJson(socket, '/status', 1_000)).rejects.toThrow('did not answer');
      await stream.ended;
      expect(embedded.stdout).toContain('free');
      expect(stream.stdout).toContain('650 packets transmitted, 650 received, 0% packet loss');
    } finally {
      expect(await embedded.stop()).toBe(0);
    }
  });

  it('goes on between two hosts while a third joins and leaves', async () => {
    lab = await TestLab.setUp();
    const { near, far } = lab;
    const third = hostPlan(3);
    const stream = new Program(
      inNamespace(near.container, [
        ...['ping', '-q', '-n', '-i', '0.01', '-c', '400', far.containerAddress],
      ]),
    );
    await addHost(third);
    lab.hosts.push(third);
    await writeLeaseFile([near, far, third]);
    const [daemon] = await startDaemons([third], { command: COMMAND, mode: 'batch' });
    if (daemon === undefined) throw new Error('no daemon');
    await waitFor('the route to the third host', 5_000, async () => {
      const { received } = await ping(near, third.tunAddress, { count: 1 });
      return received === 1 ? true : undefined;
    });
    await daemon.stop();
    await writeLeaseFile([near, far]);
    await waitFor('the end of the route', 5_000, async () => {
      const argv = inNamespace(near.container, ['ping', '-c1', '-W1', third.tunAddress]);
      const { stdout } = await run(argv, { accept: [0, 1] });
      return stdout.includes('Destination Net Unreachable') ? true : undefined;
    });
    await stream.ended;
    expect(stream.stdout).toContain('400 packets transmitted, 400 received, 0% packet loss');
    lab.hosts.pop();
    await removeHost(third);
  });

  it('is back within 5 s after flannel0 was deleted, and counters never fall', async () => {
    lab = await TestLab.setUp();
    const { near, far, nearDaemon } = lab;
    expect(await ping(near, far.containerAddress, { count: 5 })).toMatchObject({ received: 5 });
    const before = await counters(nearDaemon, 'encapsulate');
    await run(inNamespace(near.host, ['ip', 'link', 'delete', 'flannel0']));
    await waitFor('the tunnel', 5_000, async () => {
      const { received } = await ping(near, far.containerAddress, { count: 1 });
      return received === 1 ? true : undefined;
    });
    const after = await counters(nearDaemon, 'encapsulate');
    expect(after.sentPackets).toBeGreaterThanOrEqual(before.sentPackets);
    expect((await nearDaemon.status()).dataPlane?.restarts).toBeGreaterThan(0);
  });
});

describe('the end', () => {
  it.each(['basic', 'batch'] as const)('comes within 2 s under load, mode %s', async (mode) => {
    lab = await TestLab.setUp({ mode });
    const { near, far, nearDaemon } = lab;
    const end = new AbortController();
    const load = { seconds: 30, bytes: 64, signal: end.signal };
    const flood = new IperfTarget(far).udp(near, load).catch(() => undefined);
    await waitFor('the flood', 5_000, async () => {
      const { sentPackets } = await counters(nearDaemon, 'encapsulate');
      return sentPackets > 10_000 ? true : undefined;
    });
    const started = Date.now();
    nearDaemon.program.kill('SIGTERM');
    expect(await nearDaemon.program.ended).toBe(0);
    expect(Date.now() - started).toBeLessThan(2_000);
    expect(await tunDevices(near.host)).toEqual([]);
    const { stdout } = await run(inNamespace(near.host, ['ip', 'route', 'show', '100.96.0.0/16']));
    expect(stdout).toBe('');
    expect(existsSync(statusSocketPath(subnetFileOf(near)))).toBe(false);
    // subnet.env stays, as flanneld leaves it: the next run takes the same subnet.
    expect(existsSync(subnetFileOf(near))).toBe(true);
    end.abort();
    await flood;
    await lab.startDaemon(near);
    expect(await ping(near, far.containerAddress, { count: 3 })).toMatchObject({ received: 3 });
  });

  it('by kill -9 leaves nothing that a new daemon trips over', async () => {
    lab = await TestLab.setUp();
    const { near, far, nearDaemon } = lab;
    nearDaemon.program.kill('SIGKILL');
    await nearDaemon.program.ended;
    expect(await tunDevices(near.host)).toEqual([]);
    await lab.startDaemon(near);
    expect(await ping(near, far.containerAddress, { count: 3 })).toMatchObject({ received: 3 });
  });
});
