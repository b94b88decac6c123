/**
 * The udp backend in the modes of user space: the daemon reads the packet from flannel0 and sends it in
 * a datagram, and the other daemon does the reverse. Four crossings of the border.
 */
import { TUNNEL_PORT } from '../../../testbed/daemon-process.js';
import { UDP_DEVICE } from '../../backends/udp.js';
import { leaseOf, route, routeIn, socket, sourceCheck } from '../look-up.js';
import { tap, user } from '../step.js';
import type { Carriage } from './carriage.js';

export const USER_SPACE: Carriage = {
  envelope: 'udp',
  statement: 'between the daemons, and only there, it is the payload of a datagram',
  sending: ({ host }) => [
    tap('tunnel out', host, UDP_DEVICE, 'out', { ttlTakenBy: ['host'] }),
    user('encapsulation', host, 'daemon', {
      crossing: { name: 'TUN read', from: 'kernel', to: 'user' },
      work: [
        'reads the packet from flannel0, takes 1 from the TTL, looks the host up,',
        'and sends the packet as the payload of one UDP datagram',
      ],
    }),
    tap('eth0 out', host, 'eth0', 'out', {
      crossing: { name: 'UDP send', from: 'user', to: 'kernel' },
      ttlTakenBy: ['daemon'],
    }),
  ],
  receiving: ({ host }) => [
    tap('eth0 in', host, 'eth0', 'in'),
    user('decapsulation', host, 'daemon', {
      crossing: { name: 'UDP receive', from: 'kernel', to: 'user' },
      work: [
        'receives the datagram, checks its sender, takes 1 from the TTL,',
        'and writes the payload to flannel0',
      ],
    }),
    tap('tunnel in', host, UDP_DEVICE, 'in', {
      crossing: { name: 'TUN write', from: 'user', to: 'kernel' },
      ttlTakenBy: ['daemon'],
    }),
  ],
  decideSending: ({ plan, host, status, wire }) => [
    [
      'tunnel out',
      {
        kind: 'TUN',
        key: UDP_DEVICE,
        found: 'the process that created the device reads it: the daemon',
      },
    ],
    ['encapsulation', leaseOf(status, plan.to.containerAddress), route(host.host, [wire.to])],
  ],
  decideReceiving: ({ plan, host, status, wire }) => [
    [
      'eth0 in',
      route(host.host, [wire.to, 'from', wire.from, 'iif', 'eth0']),
      socket(`UDP ${wire.to}:${TUNNEL_PORT}`, 'the daemon'),
    ],
    [
      'decapsulation',
      sourceCheck(status, plan, wire.from),
      { kind: 'TUN', key: UDP_DEVICE, found: 'what the daemon writes enters the kernel here' },
    ],
    ['tunnel in', routeIn(plan, UDP_DEVICE)],
  ],
};
