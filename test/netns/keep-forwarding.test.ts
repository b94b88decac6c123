/**
 * Backends whose packets the kernel forwards go on with what an earlier daemon, or another program, has
 * left there, and leave it themselves when asked to.
 */
import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { LEASE_FILE, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { ipBatch, type HostPlan } from '../../src/testbed/topology.js';
import { indexOf, TestLab, tunDevices } from '../support/test-lab.js';
import { lostBy } from '../support/two-flannels.js';

const KEEP = ['--keep-forwarding'];

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

const config = (type: string, backend: object = {}): object => ({
  Network: '100.96.0.0/16',
  Backend: { Type: type, ...backend },
});

async function setUp(type: string, flags: readonly string[]): Promise<TestLab> {
  lab = await TestLab.bare(2);
  await writeLeaseFile(lab.hosts, config(type), { BackendType: type });
  for (const plan of lab.hosts) {
    await lab.attachContainer(await lab.startDaemon(plan, { flags }));
  }
  return lab;
}

async function routes(plan: HostPlan): Promise<string[]> {
  const words = ['ip', '-4', 'route', 'show', 'root', '100.96.0.0/16'];
  const { stdout } = await run(inNamespace(plan.host, words));
  return stdout
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.includes('docker0'));
}

const becomes = (plan: HostPlan, wanted: readonly string[]) =>
  expect.poll(() => routes(plan), { timeout: 15_000 }).toEqual(wanted);

const ROUTE = {
  vxlan: '100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink',
  'host-gw': '100.96.2.0/24 via 10.168.0.3 dev eth0',
};

/** The near host's daemon ends, and the next begins. */
async function restart(
  now: TestLab,
  signal: NodeJS.Signals,
  flags: readonly string[],
  meanwhile: () => Promise<void> = async () => undefined,
): Promise<void> {
  const { near, nearDaemon, daemons } = now;
  nearDaemon.program.kill(signal);
  await nearDaemon.program.ended;
  daemons.shift();
  await meanwhile();
  const next = await now.startDaemon(near, { flags });
  daemons.reverse();
  await waitFor('the daemon', 10_000, async () => ((await next.status()).ready ? true : undefined));
}

/** The same beside 1,000 datagrams a second each way: those lost. */
async function lostOverRestart(...how: Parameters<typeof restart>): Promise<number> {
  const ends = await lostBy(how[0], async () => restart(...how));
  return ends.reduce((sum, { lost }) => sum + lost, 0);
}

async function leases(): Promise<Record<string, object>> {
  return (JSON.parse(await readFile(LEASE_FILE, 'utf8')) as { leases: Record<string, object> })
    .leases;
}

describe.each(['vxlan', 'host-gw'] as const)('%s', (type) => {
  it('loses no packet over a stop and a start with --keep-forwarding', async () => {
    const now = await setUp(type, KEEP);
    await becomes(now.near, [ROUTE[type]]);
    expect(await lostOverRestart(now, 'SIGTERM', KEEP)).toBe(0);
    await becomes(now.near, [ROUTE[type]]);
    // Without the flag the next end leaves nothing.
    expect(await lostOverRestart(now, 'SIGTERM', [])).toBe(0);
    await now.nearDaemon.stop();
    expect(await routes(now.near)).toEqual([]);
  });

  it('loses no packet over kill -9 and a start, whatever the flags', async () => {
    const now = await setUp(type, []);
    await becomes(now.near, [ROUTE[type]]);
    expect(await lostOverRestart(now, 'SIGKILL', [])).toBe(0);
    await becomes(now.near, [ROUTE[type]]);
  });
});

describe('vxlan', () => {
  it('removes what is in the device for hosts whose lease ended meanwhile, and nothing else', async () => {
    const now = await setUp('vxlan', KEEP);
    const { near } = now;
    await becomes(near, [ROUTE.vxlan]);
    const mac = '02:00:00:00:00:09';
    const lost = await lostOverRestart(now, 'SIGTERM', KEEP, async () => {
      await ipBatch(near.host, [
        'route add 100.96.9.0/24 via 100.96.9.0 dev flannel.1 onlink',
        `neigh add 100.96.9.0 lladdr ${mac} dev flannel.1 nud permanent`,
        'route add 100.96.8.0/24 via 10.168.0.1 dev eth0',
      ]);
      const entry = `bridge fdb add ${mac} dev flannel.1 dst 10.168.0.9 self permanent`;
      await run(inNamespace(near.host, entry.split(' ')));
    });
    expect(lost).toBe(0);
    await becomes(near, [ROUTE.vxlan, '100.96.8.0/24 via 10.168.0.1 dev eth0']);
    const { stdout } = await run(
      inNamespace(near.host, ['bridge', 'fdb', 'show', 'dev', 'flannel.1']),
    );
    expect(stdout).toContain('10.168.0.3');
    expect(stdout).not.toContain(mac);
  });

  it('makes a device anew that does not fit what is asked for', async () => {
    const now = await setUp('vxlan', KEEP);
    const { near } = now;
    await becomes(near, [ROUTE.vxlan]);
    const before = await indexOf(near, 'flannel.1');
    await restart(now, 'SIGTERM', KEEP);
    expect(await indexOf(near, 'flannel.1')).toBe(before);
    await restart(now, 'SIGTERM', KEEP, async () => {
      await writeLeaseFile([], config('vxlan', { Port: 4789 }), {}, await leases());
    });
    expect(await indexOf(near, 'flannel.1')).not.toBe(before);
    const { stdout } = await run(inNamespace(near.host, ['ip', '-d', 'link', 'show', 'flannel.1']));
    expect(stdout).toContain('dstport 4789');
  });
});

describe('udp', () => {
  it('refuses the flag: without the daemon nothing forwards', async () => {
    lab = await TestLab.bare(1);
    await writeLeaseFile(lab.hosts, config('udp'));
    await expect(lab.startDaemon(lab.near, { flags: KEEP })).rejects.toThrow(
      '--keep-forwarding: true is not valid: expected Backend.Type vxlan or host-gw, or --mode=kernel by FOU, with which the kernel goes on by itself; it is udp',
    );
    expect(await tunDevices(lab.near.host)).toEqual([]);
  });
});
