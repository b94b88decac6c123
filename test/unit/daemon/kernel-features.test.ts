import { describe, expect, it } from 'vitest';
import { knownFeatures, summarizeFeatures } from '../../../src/daemon/kernel-features.js';
import type { FeatureState, KernelFeature } from '../../../src/dataplane/dataplane.js';

const probed = (name: string, state: KernelFeature['state'], detail = 'tried') => ({
  name,
  state,
  since: '3.0',
  detail,
});
const DENIED = 'unshare CLONE_NEWNET: Operation not permitted';
const TUN = ['tun', 'tun-vnet-hdr', 'tun-tso', 'tun-uso', 'multiqueue'].map((name) =>
  probed(name, 'untried', DENIED),
);
const QUEUES = { tunPackets: 1_000, socketReceiveBytes: 1, socketSendBytes: 1 };
const used = (name: FeatureState['name'], state: FeatureState['state']): FeatureState => ({
  name,
  state,
  errno: 0,
});
const states = (features: readonly KernelFeature[]) =>
  Object.fromEntries(features.map(({ name, state }) => [name, state]));

describe('what is known of the kernel', () => {
  it('is what was probed while there is no data plane', () => {
    expect(knownFeatures(TUN, undefined)).toEqual(TUN);
  });

  it('grows by what an open data plane uses', () => {
    const features = [used('tun-tso', 'active'), used('multiqueue', 'unused')];
    expect(states(knownFeatures(TUN, { features, queues: QUEUES }))).toEqual({
      tun: 'yes',
      'tun-vnet-hdr': 'yes',
      'tun-tso': 'yes',
      'tun-uso': 'untried',
      multiqueue: 'untried',
    });
  });

  it('is not changed by a refusal, which may be of the route or the descriptor', () => {
    const features = [probed('udp-gso', 'yes'), probed('udp-gro', 'untried')];
    const inUse = [used('udp-gso', 'refused'), used('udp-gro', 'refused')];
    expect(knownFeatures(features, { features: inUse, queues: QUEUES })).toEqual(features);
  });

  it('knows nothing of a TUN while no device is open', () => {
    expect(knownFeatures(TUN, { features: [], queues: null })).toEqual(TUN);
  });

  it('is one line of a log, with the reason of what was not tried', () => {
    const features = [probed('mmsg', 'yes'), probed('udp-gro', 'no', 'ENOPROTOOPT'), ...TUN];
    expect(summarizeFeatures(features)).toEqual({
      available: ['mmsg'],
      missing: ['udp-gro'],
      untried: TUN.map(({ name }) => name),
      untriedBecause: DENIED,
    });
    expect(summarizeFeatures(features.slice(0, 2))).toEqual({
      available: ['mmsg'],
      missing: ['udp-gro'],
    });
  });
});
