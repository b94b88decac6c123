/**
 * Mode offload against itself, the other modes and itself with features switched off or refused:
 * transfers are byte-exact both ways, and the features in use are the ones expected.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { DaemonSettings } from '../../src/lab/daemon-process.js';
import { IperfTarget, ping } from '../../src/lab/traffic.js';
import { transfer } from '../support/transfer.js';
import { counters, TestLab } from '../support/test-lab.js';

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.lower();
  lab = undefined;
});

/** Two hosts of their own settings each, and their containers. */
async function raise(
  near: Partial<DaemonSettings>,
  far: Partial<DaemonSettings>,
  mtu = 1500,
): Promise<TestLab> {
  const bare = await TestLab.bare(2, {}, { mtu });
  lab = bare;
  for (const [plan, settings] of [
    [bare.near, near],
    [bare.far, far],
  ] as const) {
    await bare.attachContainer(await bare.startDaemon(plan, settings));
  }
  return bare;
}

const disable = (features: string): Partial<DaemonSettings> => ({
  mode: 'offload',
  flags: [`--disable=${features}`],
});
const OFFLOAD = { mode: 'offload' } as const;

describe('a transfer is byte-exact both ways', () => {
  it.each<[string, Partial<DaemonSettings>, Partial<DaemonSettings>]>([
    ['offload and offload', OFFLOAD, OFFLOAD],
    ['offload and basic', OFFLOAD, { mode: 'basic' }],
    ['offload and batch', OFFLOAD, { mode: 'batch' }],
    ['no TSO and no trains sent', disable('tun-tso,tun-uso'), disable('udp-gso')],
    ['no trains received and none of mmsg', disable('udp-gro'), disable('mmsg')],
    [
      'trains refused both ways and all off',
      disable('udp-gso,udp-gro'),
      disable('tun-tso,tun-uso,udp-gso,udp-gro,mmsg'),
    ],
  ])('between %s', async (_what, near, far) => {
    const { near: one, far: two } = await raise(near, far);
    await Promise.all([transfer(one, two, 7001), transfer(two, one, 7002)]);
  });

  it.each([576, 1400, 9000])('at an MTU of %i', async (mtu) => {
    const { near, far } = await raise(OFFLOAD, OFFLOAD, mtu);
    await Promise.all([transfer(near, far, 7001), transfer(far, near, 7002)]);
    const size = mtu - 28 - 28;
    const large = await ping(near, far.containerAddress, { count: 5, size, dontFragment: true });
    expect(large.received).toBe(5);
  });
});

describe('the features', () => {
  it('are in use, say so, and cross the kernel in few calls', async () => {
    const { near, far, nearDaemon, farDaemon } = await raise(OFFLOAD, OFFLOAD);
    const states = (await nearDaemon.status()).dataPlane?.features ?? [];
    expect(states.map(({ name, state }) => `${name} ${state}`)).toEqual([
      'mmsg active',
      'tun-tso active',
      'tun-uso active',
      'udp-gso active',
      'udp-gro active',
      'multiqueue unused',
    ]);
    await new IperfTarget(far).tcp(near, { seconds: 1 });
    const sent = await counters(nearDaemon, 'encapsulate');
    expect(sent.readCalls).toBeLessThan(sent.receivedPackets / 3);
    expect(sent.writeCalls).toBeLessThan(sent.sentPackets / 3);
    const received = await counters(farDaemon, 'decapsulate');
    expect(received.writeCalls).toBeLessThan(received.sentPackets / 3);
  });

  it('that are disabled stay off', async () => {
    const { nearDaemon } = await raise(disable('udp-gso,tun-uso'), OFFLOAD);
    const status = await nearDaemon.status();
    expect(status.mode).toBe('offload');
    expect(status.dataPlane?.features.filter(({ state }) => state === 'disabled')).toEqual([
      { name: 'tun-uso', state: 'disabled', errno: 0 },
      { name: 'udp-gso', state: 'disabled', errno: 0 },
    ]);
  });
});
