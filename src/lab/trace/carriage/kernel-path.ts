/**
 * The udp backend in mode kernel: eBPF programs put the packet into a datagram and take it out again,
 * and no process sees it (docs/kernel-mode.md).
 *
 *   docker0 -> [encapsulate, at flannel0] -> eth0 ~~~ eth0 -> [decapsulate] -> fx... -> [admit] -> flannel0
 */
import { TUNNEL_PORT } from '../../../testbed/daemon-process.js';
import type { HostPlan } from '../../../testbed/topology.js';
import { PROGRAMS, UDP_DEVICE } from '../../backends/udp.js';
import { leaseOf, program, route, routeIn, sourceCheck } from '../look-up.js';
import { tap } from '../step.js';
import type { Carriage } from './carriage.js';

export const KERNEL_PATH: Carriage = {
  envelope: 'udp',
  statement: 'between the hosts, and only there, it is the payload of a datagram',
  sending: ({ host }) => [
    {
      name: 'encapsulation',
      where: host,
      device: PROGRAMS,
      side: 'kernel',
      work: [
        'at flannel0, in front of its captures: takes 1 from the TTL, looks the host up,',
        'puts IPv4 and UDP headers in front, and sends it by eth0; no process, no crossing',
      ],
    },
    tap('eth0 out', host, 'eth0', 'out', { ttlTakenBy: ['host', 'program'] }),
  ],
  receiving: (plan) => [
    tap('eth0 in', plan.host, 'eth0', 'in'),
    {
      name: 'decapsulation',
      where: plan.host,
      device: PROGRAMS,
      side: 'kernel',
      work: [
        'at eth0: checks the sender, takes 1 from the TTL, and makes it a datagram of the',
        "kernel's VXLAN-GPE device, which takes the headers off; no process, no crossing",
      ],
    },
    tap('decapsulated in', plan.host, gpeDevice(plan), 'in', {
      ttlTakenBy: ['program'],
      keepsStamp: true,
    }),
    tap('tunnel in', plan.host, UDP_DEVICE, 'in', { keepsStamp: true }),
  ],
  decideSending: ({ plan, host, status, wire }) => [
    [
      'encapsulation',
      program('encapsulate', `${UDP_DEVICE}, on the way out`),
      leaseOf(status, plan.to.containerAddress),
      route(host.host, [wire.to]),
    ],
  ],
  decideReceiving: ({ plan, host, status, wire }) => [
    ['eth0 in', program('decapsulate', 'eth0, on the way in')],
    ['decapsulation', sourceCheck(status, plan, wire.from)],
    [
      'decapsulated in',
      program('admit', `${gpeDevice(host)}: what decapsulate marked, and only that`),
    ],
    ['tunnel in', routeIn(plan, UDP_DEVICE)],
  ],
};

/** Name of the device that takes datagrams apart: `fx`, address and port (native/sys/kernel_path.cc). */
function gpeDevice({ address }: HostPlan): string {
  const bytes = address.split('.').map((part) => Number(part).toString(16).padStart(2, '0'));
  return `fx${bytes.join('')}${TUNNEL_PORT.toString(16).padStart(4, '0')}`;
}
