/**
 * The way of a packet from one container to the other, step by step: devices where it can be captured,
 * and what is between them.
 *
 *   container        host                             switch     host                     container
 *   process -1- eth0  port docker0 [carriage] eth0     up up     eth0 [carriage] docker0 port  eth0 -n- process
 *
 * What is between docker0 and the wire is the carriage's (carriage): with the udp backend flannel0, the
 * daemon and four more crossings of the border between user and kernel, with host-gw nothing.
 */
import { containerPort, switchPort } from '../../testbed/topology.js';
import type { Carriages } from './carriage/carriage.js';
import type { TracePlan } from './plan.js';
import { tap, user, type Crossing, type Draft, type Step, type Tap } from './step.js';

/** Whether the receiver is a process: the kernel answers an echo request itself. */
export function endsInProcess({ proto }: TracePlan): boolean {
  return proto !== 'icmp';
}

export function wayOf(plan: TracePlan, carriages: Carriages): readonly (Step | Tap)[] {
  const { from, to } = plan;
  return numbered([
    sender(plan),
    tap('container out', from.container, 'eth0', 'out', {
      crossing: { name: "container's send", from: 'user', to: 'kernel' },
    }),
    tap('port in', from.host, containerPort(from), 'in'),
    tap('docker0 in', from.host, 'docker0', 'in'),
    ...carriages.sending.sending(from),
    tap('switch in', 'switch', switchPort(from), 'in'),
    tap('switch out', 'switch', switchPort(to), 'out'),
    ...carriages.receiving.receiving(to),
    tap('docker0 out', to.host, 'docker0', 'out', { ttlTakenBy: ['host'] }),
    tap('port out', to.host, containerPort(to), 'out'),
    tap('container in', to.container, 'eth0', 'in'),
    receiver(plan),
  ]);
}

function sender({ from, proto, size }: TracePlan): Draft {
  const work =
    proto === 'icmp'
      ? `sends an echo request with ${size} bytes; the kernel adds the IPv4 header`
      : `sends ${size} bytes; the kernel adds the ${proto.toUpperCase()} and IPv4 headers`;
  return user('sender', from.container, proto === 'icmp' ? 'ping' : 'sender', { work: [work] });
}

function receiver(plan: TracePlan): Draft {
  const { to, size } = plan;
  if (endsInProcess(plan)) {
    return user('receiver', to.container, 'receiver', {
      crossing: { name: "container's receive", from: 'kernel', to: 'user' },
      work: [`receives the ${size} bytes`],
    });
  }
  return {
    name: 'receiver',
    where: to.container,
    device: 'ICMP',
    side: 'kernel',
    work: ['answers the echo request within the kernel: no process, no crossing'],
  };
}

/** Crossings are counted from the sending process on. */
function numbered(drafts: readonly Draft[]): readonly (Step | Tap)[] {
  let number = 0;
  return drafts.map(({ crossing, ...step }) => {
    if (crossing === undefined) return step;
    number += 1;
    return { ...step, crossing: { number, ...crossing } satisfies Crossing };
  });
}
