/** The host-gw backend in the lab: packets go from host to host as they are. */
import { PLAIN_FORMAT } from '../../testbed/wire/format.js';
import type { HostPlan } from '../../testbed/topology.js';
import type { Route } from './route.js';
import { leaseValueOf, type LabBackend } from './backend.js';
import { containerCounts, deviceCount, FRAMED, type Count, type HostCounts } from './counts.js';

const TYPE = 'host-gw';

export const HOST_GW: LabBackend = {
  type: TYPE,
  directRouting: false,
  hasModes: false,
  device: undefined,
  overhead: 0,
  carrier: "the hosts' routes",
  object: { Type: TYPE },
  leaseType: TYPE,
  leaseValue: (plan) => Promise.resolve(leaseValueOf(plan, TYPE)),
  format: PLAIN_FORMAT,
  ttlTaken: 1,
  routes: (_plan, peers) => directRoutes(peers),
  counts: plainCounts,
  drops: () => [],
  afterLeave: 'silent',
};

/** `SUBNET via HOST` by eth0. */
export function directRoutes(peers: readonly HostPlan[]): readonly Route[] {
  return peers.map(({ subnet, address }) => ({ dst: subnet, gateway: address, dev: 'eth0' }));
}

/** Where packets pass that leave by eth0 as they are. */
export function plainCounts(counts: HostCounts): readonly Count[] {
  const { plan, host } = counts;
  return [
    ...containerCounts(counts),
    deviceCount(plan.host, host, 'eth0', 'tx', { rx: FRAMED, tx: FRAMED }),
  ];
}
