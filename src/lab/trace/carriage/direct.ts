/** host-gw, and DirectRouting of the other backends: the hosts route the packet as it is. */
import { nextHopNeighbour, reachOf, routeIn } from '../look-up.js';
import { tap } from '../step.js';
import type { Carriage } from './carriage.js';

export const DIRECT: Carriage = {
  envelope: undefined,
  statement: 'between the hosts, as everywhere, it has no header but its own and Ethernet',
  sending: ({ host }) => [tap('eth0 out', host, 'eth0', 'out', { ttlTakenBy: ['host'] })],
  receiving: ({ host }) => [tap('eth0 in', host, 'eth0', 'in')],
  decideSending: ({ plan, host, status }) => [
    [
      'docker0 in',
      ...reachOf(status, plan.to.containerAddress),
      nextHopNeighbour(host.host, plan.to.address, 'eth0'),
    ],
  ],
  decideReceiving: ({ plan }) => [['eth0 in', routeIn(plan, 'eth0')]],
};
