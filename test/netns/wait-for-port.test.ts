/**
 * A daemon that gets ready beside the program that has the port, and forwards once that has ended: a flanneld
 * that is replaced. That is a real one where there is one (src/testbed/flanneld.ts), and on the lease file a
 * stand-in.
 */
import { release } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import {
  DaemonProcess,
  LEASE_FILE_FLAGS,
  writeLeaseFile,
} from '../../src/testbed/daemon-process.js';
import type { EtcdServer } from '../../src/testbed/etcd-server.js';
import { FLANNELD, startFlanneld } from '../../src/testbed/flanneld.js';
import { type Program, waitFor } from '../../src/testbed/programs.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { ENDPOINT, startEtcdFor } from '../support/etcd-lab.js';
import { COMMAND, TestLab, tunDevices } from '../support/test-lab.js';
import { expectLittleLost, startStandIn } from '../support/two-flannels.js';

const MTU = 1_472;
const WAIT = ['--wait-for-port'];

let lab: TestLab | undefined;
let etcd: EtcdServer | undefined;
let other: Program | undefined;
afterEach(async () => {
  await other?.stop();
  other = undefined;
  await lab?.tearDown();
  lab = undefined;
  await etcd?.stop();
  etcd = undefined;
});

/** Two hosts, of which the near one has the other program. */
async function setUp(
  storeFlags: readonly string[],
  start: (plan: HostPlan) => Promise<Program>,
): Promise<TestLab> {
  const now = await TestLab.bare(2);
  lab = now;
  const [near, far] = now.hosts;
  if (near === undefined || far === undefined) throw new Error('no hosts');
  if (storeFlags === LEASE_FILE_FLAGS) await writeLeaseFile(now.hosts);
  else etcd = await startEtcdFor(now.hosts);
  other = await start(near);
  await now.startDaemon(far, { storeFlags });
  return now;
}

async function standIn(plan: HostPlan): Promise<Program> {
  const daemon = startStandIn(plan);
  await daemon.ready();
  return daemon.program;
}

/** The daemon that is to follow, once it waits. */
async function beside(
  now: TestLab,
  storeFlags: readonly string[],
  mode: 'auto' | 'kernel' = 'auto',
): Promise<DaemonProcess> {
  const settings = { command: COMMAND, mode, storeFlags, flags: WAIT };
  const next = new DaemonProcess(now.near, settings);
  now.daemons.push(next);
  await waitFor('the daemon beside it', 30_000, async () => {
    if (!next.program.running) throw await next.ended();
    const status = await next.status().catch(() => undefined);
    expect(status?.ready ?? false).toBe(false);
    return status?.phase === 'waiting for the UDP port' ? true : undefined;
  });
  return next;
}

async function change(now: TestLab, storeFlags: readonly string[]): Promise<void> {
  await expectLittleLost(now, async () => {
    const next = await beside(now, storeFlags);
    await other?.stop();
    other = undefined;
    await next.ready();
  });
  expect(await tunDevices(now.near.host)).toHaveLength(1);
}

/** It has device and sockets, beside those of the other program. */
async function registered({ program }: DaemonProcess): Promise<void> {
  await waitFor('the network', 10_000, () =>
    program.stderr.includes('network registered') ? true : undefined,
  );
}

async function expectAllAnswered({ near, far }: TestLab): Promise<void> {
  expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
}

describe('--wait-for-port', () => {
  it('follows another program on a lease file', async () => {
    const now = await setUp(LEASE_FILE_FLAGS, standIn);
    for (const plan of now.hosts) await now.addContainer(plan, MTU);
    await change(now, LEASE_FILE_FLAGS);
  });

  it.runIf(FLANNELD !== undefined)('follows a real flanneld on etcd', async () => {
    const flags = [`--etcd-endpoints=${ENDPOINT}`];
    const now = await setUp(flags, async (plan) => {
      const { program } = await startFlanneld(FLANNELD ?? '', plan, flags);
      return program;
    });
    for (const plan of now.hosts) await now.addContainer(plan, MTU);
    await change(now, flags);
  });

  it('carries the packets beside the other program, which is to end', async () => {
    const now = await setUp(LEASE_FILE_FLAGS, standIn);
    for (const plan of now.hosts) await now.addContainer(plan, MTU);
    const next = await beside(now, LEASE_FILE_FLAGS);
    await registered(next);
    await expectAllAnswered(now);
    const carried = (await next.status()).dataPlane?.threads ?? [];
    for (const { sentPackets } of carried) expect(sentPackets).toBeGreaterThanOrEqual(20);
  });

  // Before Linux 5.12 what diverts packets stays when the process is killed.
  const [major = 0, minor = 0] = release().split('.').map(Number);
  it.each([
    ['is stopped', 'SIGTERM', true],
    ['is killed', 'SIGKILL', major > 5 || (major === 5 && minor >= 12)],
  ] as const)('leaves the other program as it was when it %s', async (_, signal, goes) => {
    const now = await setUp(LEASE_FILE_FLAGS, standIn);
    for (const plan of now.hosts) await now.addContainer(plan, MTU);
    const devices = await tunDevices(now.near.host);
    const next = await beside(now, LEASE_FILE_FLAGS);
    await registered(next);
    await expectAllAnswered(now);
    next.program.kill(signal);
    expect(await next.program.ended).toBe(signal === 'SIGTERM' ? 0 : 137);
    await waitFor('the end of its device', 5_000, async () =>
      (await tunDevices(now.near.host)).length === devices.length ? true : undefined,
    );
    if (goes) await expectAllAnswered(now);
  });

  it('waits in mode kernel, which has no way beside another program', async () => {
    const now = await setUp(LEASE_FILE_FLAGS, standIn);
    for (const plan of now.hosts) await now.addContainer(plan, MTU);
    const next = await beside(now, LEASE_FILE_FLAGS, 'kernel');
    await waitFor(
      'the reason',
      5_000,
      () => next.program.stderr.includes('cannot forward beside another program') || undefined,
    );
    await expectAllAnswered(now);
    await other?.stop();
    other = undefined;
    await next.ready();
    await expectAllAnswered(now);
  });

  it('is asked for: without it the start fails and names the port', async () => {
    const now = await setUp(LEASE_FILE_FLAGS, standIn);
    const next = new DaemonProcess(now.near, { command: COMMAND, mode: 'auto' });
    expect(await next.program.ended).not.toBe(0);
    expect(next.program.stderr).toContain('UDP port 8285 is taken');
    expect(next.program.stderr).toContain('--wait-for-port');
  });
});
