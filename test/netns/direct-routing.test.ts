/**
 * DirectRouting of the udp backend: hosts of one segment send to each other by plain kernel routes, the
 * others by the tunnel, beside a host that knows nothing of it, as a flanneld of the udp backend.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { DaemonMode } from '../../src/daemon/options.js';
import { writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import type { DaemonStatus } from '../../src/daemon/status.js';
import { hostPlan, type HostPlan } from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { counters, remakeUplink, TestLab } from '../support/test-lab.js';
import { canKernel } from '../support/can-kernel.js';

const PLAIN = { Network: '100.96.0.0/16', Backend: { Type: 'udp', Port: 8285 } };
const DIRECT = { ...PLAIN, Backend: { ...PLAIN.Backend, DirectRouting: true } };

type Reached = DaemonStatus['routes'][number];

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

/** Each host starts with a configuration of its own: a running daemon does not take another one. */
async function setUp(near: object, far: object, mode: DaemonMode = 'offload'): Promise<TestLab> {
  lab = await TestLab.bare(2);
  for (const [plan, config] of [
    [lab.near, near],
    [lab.far, far],
  ] as const) {
    await writeLeaseFile(lab.hosts, config);
    await lab.attachContainer(await lab.startDaemon(plan, { mode }));
  }
  await routeTo(lab.near, lab.far.subnet, near === DIRECT ? [direct(lab.far)] : []);
  return lab;
}

const direct = ({ subnet, address }: HostPlan): string => `${subnet} via ${address} dev eth0`;

async function routes(plan: HostPlan, subnet: string): Promise<string[]> {
  const { stdout } = await run(inNamespace(plan.host, ['ip', '-4', 'route', 'show', subnet]));
  return stdout.split('\n').flatMap((line) => line.trim() || []);
}

async function routeTo(plan: HostPlan, subnet: string, wanted: string[]): Promise<void> {
  await expect.poll(() => routes(plan, subnet), { timeout: 10_000 }).toEqual(wanted);
}

async function reached({ near, far }: TestLab): Promise<void> {
  expect((await ping(near, far.containerAddress, { count: 3 })).received).toBe(3);
  expect((await ping(far, near.containerAddress, { count: 3 })).received).toBe(3);
}

async function carried({ nearDaemon }: TestLab): Promise<number[]> {
  return [
    (await counters(nearDaemon, 'encapsulate')).sentPackets,
    (await counters(nearDaemon, 'decapsulate')).sentPackets,
  ];
}

const MODES: DaemonMode[] = canKernel ? ['offload', 'kernel'] : ['offload'];

describe.each(MODES)('DirectRouting in mode %s', (mode) => {
  it('sends to hosts of the segment without the tunnel, and puts a route back', async () => {
    const now = await setUp(DIRECT, DIRECT, mode);
    const { near, far, nearDaemon } = now;
    await reached(now);
    expect((await new IperfTarget(far).tcp(near, { seconds: 1 })).gbps).toBeGreaterThan(0);
    expect(await carried(now)).toEqual([0, 0]);
    const { routes: known, problems } = await nearDaemon.status();
    expect(known).toEqual([
      { subnet: far.subnet, nextHop: far.address, way: 'direct', why: 'on the segment of eth0' },
    ]);
    expect(problems).toEqual([]);

    // Without its route the host is reached by the tunnel, until the route is back.
    await run(inNamespace(near.host, ['ip', 'route', 'del', far.subnet]));
    await reached(now);
    await routeTo(near, far.subnet, [direct(far)]);

    await nearDaemon.stop();
    expect(await routes(near, far.subnet)).toEqual([]);
  });
});

describe('a host of DirectRouting', () => {
  it('works with one that sends by the tunnel', async () => {
    const now = await setUp(DIRECT, PLAIN);
    await reached(now);
    const [out = 0, into = 0] = await carried(now);
    expect(out).toBe(0);
    expect(into).toBeGreaterThanOrEqual(6);
    const { problems } = await now.nearDaemon.status();
    expect(problems).toEqual([]);
  });

  it('has the tunnel for a host that is off the segment, and follows one that moves', async () => {
    const now = await setUp(DIRECT, DIRECT);
    const { near, far, nearDaemon } = now;
    // A host without a daemon: one that finds its own lease elsewhere registers again.
    const third = hostPlan(3);
    const wayTo = async (wanted: string): Promise<Reached> =>
      waitFor(`the way ${wanted}`, 5_000, async () =>
        (await nearDaemon.status()).routes.find(
          ({ subnet, way }) => subnet === third.subnet && way === wanted,
        ),
      );
    await writeLeaseFile([near, far, { ...third, address: '192.0.2.7' }], DIRECT);
    const off = await wayTo('tunnel');
    expect(off).toMatchObject({ nextHop: '192.0.2.7', why: 'not on the segment of eth0' });
    expect(await routes(near, third.subnet)).toEqual([]);
    await writeLeaseFile([near, far, third], DIRECT);
    await wayTo('direct');
    await routeTo(near, third.subnet, [direct(third)]);
    await writeLeaseFile([near, far, { ...third, address: '192.0.2.7' }], DIRECT);
    await wayTo('tunnel');
    await routeTo(near, third.subnet, []);
    await reached(now);
  });

  it('goes on directly when the external interface is deleted and made again', async () => {
    const now = await setUp(DIRECT, DIRECT);
    await remakeUplink(now.near);
    await routeTo(now.near, now.far.subnet, [direct(now.far)]);
    await waitFor('the other container', 15_000, async () => {
      const { received } = await ping(now.near, now.far.containerAddress, { count: 3 });
      return received === 3 ? true : undefined;
    });
  });

  it('refuses what is neither true nor false', async () => {
    lab = await TestLab.bare(1);
    await writeLeaseFile(lab.hosts, { ...PLAIN, Backend: { Type: 'udp', DirectRouting: 1 } });
    await expect(lab.startDaemon(lab.near)).rejects.toThrow(
      'Backend.DirectRouting: 1 is not valid: expected true or false',
    );
  });
});
