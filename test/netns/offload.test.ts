/**
 * Mode offload with features switched off: transfers are byte-exact both ways, and the features in
 * use are the ones expected. Pairs of modes are in exact.test.ts, refusals in refusals.test.ts.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { DaemonSettings } from '../../src/testbed/daemon-process.js';
import { IperfTarget } from '../../src/testbed/traffic.js';
import { transferBothWays } from '../support/exact.js';
import { counters, TestLab } from '../support/test-lab.js';

const BYTES = 32 * 1024 * 1024;

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

/** Two hosts of their own settings each, and their containers. */
async function setUp(
  near: Partial<DaemonSettings>,
  far: Partial<DaemonSettings>,
): Promise<TestLab> {
  lab = await TestLab.pair(near, far);
  return lab;
}

const disable = (features: string): Partial<DaemonSettings> => ({
  mode: 'offload',
  flags: [`--disable=${features}`],
});
const OFFLOAD = { mode: 'offload' } as const;

describe('a transfer is byte-exact both ways', () => {
  it.each<[string, Partial<DaemonSettings>, Partial<DaemonSettings>]>([
    ['no TSO and no trains sent', disable('tun-tso,tun-uso'), disable('udp-gso')],
    ['no trains received and none of mmsg', disable('udp-gro'), disable('mmsg')],
    [
      'trains refused both ways and all off',
      disable('udp-gso,udp-gro'),
      disable('tun-tso,tun-uso,udp-gso,udp-gro,mmsg'),
    ],
  ])('between %s', async (_what, near, far) => {
    const { near: one, far: two } = await setUp(near, far);
    await transferBothWays(one, two, BYTES);
  });
});

describe('the features', () => {
  it('are in use, say so, and cross the kernel in few calls', async () => {
    const { near, far, nearDaemon, farDaemon } = await setUp(OFFLOAD, OFFLOAD);
    const states = (await nearDaemon.status()).dataPlane?.features ?? [];
    expect(states.map(({ name, state }) => `${name} ${state}`)).toEqual([
      'mmsg active',
      'tun-tso active',
      'tun-uso active',
      'udp-gso active',
      'udp-gro active',
      'multiqueue unused',
      'fou unused',
      'kernel-path unused',
      'seccomp active',
    ]);
    await new IperfTarget(far).tcp(near, { seconds: 1 });
    const sent = await counters(nearDaemon, 'encapsulate');
    expect(sent.readCalls).toBeLessThan(sent.receivedPackets / 3);
    expect(sent.writeCalls).toBeLessThan(sent.sentPackets / 3);
    const received = await counters(farDaemon, 'decapsulate');
    expect(received.writeCalls).toBeLessThan(received.sentPackets / 3);
  });

  it('that are disabled stay off', async () => {
    const { nearDaemon } = await setUp(disable('udp-gso,tun-uso'), OFFLOAD);
    const status = await nearDaemon.status();
    expect(status.mode).toBe('offload');
    expect(status.dataPlane?.features.filter(({ state }) => state === 'disabled')).toEqual([
      { name: 'tun-uso', state: 'disabled', errno: 0 },
      { name: 'udp-gso', state: 'disabled', errno: 0 },
    ]);
  });
});
