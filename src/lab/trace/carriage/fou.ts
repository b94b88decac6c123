/**
 * The udp backend in mode kernel where the kernel has FOU: its own tunnel puts the packet into a datagram
 * and takes it out again. Whom it is for says the route; whom it may come from, a set of nf_tables.
 */
import { TUNNEL_PORT } from '../../../testbed/daemon-process.js';
import { UDP_DEVICE } from '../../backends/udp.js';
import { nextHopNeighbour, route, routeIn, socket, sourceCheck } from '../look-up.js';
import { tap } from '../step.js';
import type { Carriage } from './carriage.js';

export const FOU: Carriage = {
  envelope: 'udp',
  statement: 'between the hosts, and only there, it is the payload of a datagram',
  sending: ({ host }) => [
    tap('tunnel out', host, UDP_DEVICE, 'out', { ttlTakenBy: ['host'] }),
    tap('eth0 out', host, 'eth0', 'out'),
  ],
  receiving: ({ host }) => [
    tap('eth0 in', host, 'eth0', 'in'),
    tap('tunnel in', host, UDP_DEVICE, 'in', { keepsStamp: true }),
  ],
  decideSending: ({ host, wire }) => [
    ['tunnel out', route(host.host, [wire.to]), nextHopNeighbour(host.host, wire.to, 'eth0')],
  ],
  decideReceiving: ({ plan, host, status, wire }) => [
    [
      'eth0 in',
      route(host.host, [wire.to, 'from', wire.from, 'iif', 'eth0']),
      socket(`UDP ${wire.to}:${TUNNEL_PORT}`, `the kernel's FOU: ${UDP_DEVICE}`),
    ],
    ['tunnel in', sourceCheck(status, plan, wire.from), routeIn(plan, UDP_DEVICE)],
  ],
};
