/**
 * The way of a packet from one container to the other, step by step: devices where it can be captured,
 * and the processes between them.
 *
 *   container        host                                switch     host                     container
 *   process -1- eth0  port docker0 flannel0 -2- daemon -3- eth0  up up  eth0 -4- daemon -5- flannel0 docker0 port  eth0 -6- process
 *
 * The numbers are crossings of the border between user and kernel.
 */
import { containerPort, switchPort } from '../../testbed/topology.js';
import type { TracePlan } from './plan.js';

export type StepName =
  | 'sender'
  | 'container out'
  | 'port in'
  | 'docker0 in'
  | 'flannel0 out'
  | 'encapsulation'
  | 'eth0 out'
  | 'switch in'
  | 'switch out'
  | 'eth0 in'
  | 'decapsulation'
  | 'flannel0 in'
  | 'docker0 out'
  | 'port out'
  | 'container in'
  | 'receiver';

export interface Crossing {
  /** 1 to 3 on the sending side, 4 to 6 on the receiving. */
  readonly number: number;
  readonly name: string;
  readonly from: 'user' | 'kernel';
  readonly to: 'user' | 'kernel';
}

export interface Step {
  readonly name: StepName;
  /** The container, the host or the switch. */
  readonly where: string;
  /** The device's or process's name. */
  readonly device: string;
  readonly side: 'user' | 'kernel';
  /** At a device: the packet enters by it or leaves by it. */
  readonly direction?: 'in' | 'out';
  /** The border crossed to get here. */
  readonly crossing?: Crossing;
}

/** A step where packets can be captured. */
export interface Tap extends Step {
  readonly direction: 'in' | 'out';
  /** Undefined: the lab's own. */
  readonly namespace: string | undefined;
}

function intoKernel(number: number, name: string): Crossing {
  return { number, name, from: 'user', to: 'kernel' };
}

function intoUser(number: number, name: string): Crossing {
  return { number, name, from: 'kernel', to: 'user' };
}

/** Whether the receiver is a process: the kernel answers an echo request itself. */
export function endsInProcess({ proto }: TracePlan): boolean {
  return proto !== 'icmp';
}

export function wayOf(plan: TracePlan): readonly (Step | Tap)[] {
  const { from, to } = plan;
  const tap = (
    name: StepName,
    where: string,
    device: string,
    direction: 'in' | 'out',
    crossing?: Crossing,
  ): Tap => {
    const namespace = where === 'switch' ? undefined : where;
    const step = { name, where, namespace, device, direction, side: 'kernel' } as const;
    return crossing === undefined ? step : { ...step, crossing };
  };
  const user = (name: StepName, where: string, device: string, crossing?: Crossing): Step => {
    const step = { name, where, device, side: 'user' } as const;
    return crossing === undefined ? step : { ...step, crossing };
  };
  const receiver: Step = endsInProcess(plan)
    ? user('receiver', to.container, 'receiver', intoUser(6, "container's receive"))
    : { name: 'receiver', where: to.container, device: 'ICMP', side: 'kernel' };
  return [
    user('sender', from.container, plan.proto === 'icmp' ? 'ping' : 'sender'),
    tap('container out', from.container, 'eth0', 'out', intoKernel(1, "container's send")),
    tap('port in', from.host, containerPort(from), 'in'),
    tap('docker0 in', from.host, 'docker0', 'in'),
    tap('flannel0 out', from.host, 'flannel0', 'out'),
    user('encapsulation', from.host, 'daemon', intoUser(2, 'TUN read')),
    tap('eth0 out', from.host, 'eth0', 'out', intoKernel(3, 'UDP send')),
    tap('switch in', 'switch', switchPort(from), 'in'),
    tap('switch out', 'switch', switchPort(to), 'out'),
    tap('eth0 in', to.host, 'eth0', 'in'),
    user('decapsulation', to.host, 'daemon', intoUser(4, 'UDP receive')),
    tap('flannel0 in', to.host, 'flannel0', 'in', intoKernel(5, 'TUN write')),
    tap('docker0 out', to.host, 'docker0', 'out'),
    tap('port out', to.host, containerPort(to), 'out'),
    tap('container in', to.container, 'eth0', 'in'),
    receiver,
  ];
}

export function isTap(step: Step | Tap): step is Tap {
  return 'namespace' in step;
}
