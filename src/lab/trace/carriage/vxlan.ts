/**
 * The vxlan backend: the kernel's device flannel.1 puts the packet into an Ethernet frame for the other
 * VTEP, that behind a VXLAN header, and that into a datagram. Each address comes from an entry that
 * the daemon has put: route -> neighbour -> forwarding entry.
 */
import { VXLAN_PORT, VXLAN_VNI } from '../../../testbed/wire/vxlan.js';
import { VXLAN_DEVICE } from '../../backends/vxlan.js';
import { fdbEntry, nextHopNeighbour, neighbour, route, routeIn, socket } from '../look-up.js';
import { tap } from '../step.js';
import type { Carriage } from './carriage.js';

export const VXLAN: Carriage = {
  envelope: 'vxlan',
  statement: `between the hosts, and only there, it is in a VXLAN frame with VNI ${VXLAN_VNI}`,
  sending: ({ host }) => [
    tap('tunnel out', host, VXLAN_DEVICE, 'out', { ttlTakenBy: ['host'] }),
    tap('eth0 out', host, 'eth0', 'out'),
  ],
  receiving: ({ host }) => [
    tap('eth0 in', host, 'eth0', 'in'),
    tap('tunnel in', host, VXLAN_DEVICE, 'in', { keepsStamp: true }),
  ],
  decideSending: ({ plan, host, wire, macOf }) => [
    // The frame inside is for the VTEP that the route names.
    ['docker0 in', neighbour(host.host, plan.to.tunAddress, VXLAN_DEVICE)],
    [
      'tunnel out',
      fdbEntry(host.host, macOf('tunnel out'), VXLAN_DEVICE),
      route(host.host, [wire.to]),
      nextHopNeighbour(host.host, wire.to, 'eth0'),
    ],
  ],
  decideReceiving: ({ plan, host, wire }) => [
    [
      'eth0 in',
      route(host.host, [wire.to, 'from', wire.from, 'iif', 'eth0']),
      socket(
        `UDP ${wire.to}:${VXLAN_PORT}`,
        `the kernel's VXLAN, VNI ${VXLAN_VNI}: ${VXLAN_DEVICE}`,
      ),
    ],
    ['tunnel in', routeIn(plan, VXLAN_DEVICE)],
  ],
};
