/**
 * What can be counted of packets on a host's way from its container to the wire. The daemons and their
 * eBPF programs count packets. An interface counts what passes through it, and a train of many packets
 * passes as one; its bytes tell how many there were, because a train has its headers once and the
 * rest of each packet:
 *
 *   container-1 eth0   [Ethernet IP UDP] [payload] [payload] ...       bytes = 42 x passes + 64 x packets
 *   host-1 eth0        [Ethernet IP UDP] [inner IP UDP payload] ...    bytes = 42 x passes + 92 x packets
 */
import { UDP_OVERHEAD_BYTES } from '../../forward/udp/udp-settings.js';
import type { HostPlan } from '../../testbed/topology.js';
import { ETHERNET_BYTES } from '../../testbed/wire/pcap.js';

/** What an interface counts; of a daemon, packets are the passes. */
export interface Counter {
  readonly passes: number;
  readonly bytes: number;
}

/** Bytes that a train of UDP has once, and those around the payload that each of its packets has. */
export interface TrainShape {
  readonly once: number;
  readonly each: number;
}

/** What is counted at one place; a counter is undefined when nobody there counts these packets. */
export interface Count {
  readonly where: string;
  readonly device: string;
  /** Towards the wire, and from it. */
  readonly out: Counter | undefined;
  readonly in: Counter | undefined;
  /** How trains look that go out and come in; undefined where packets are counted one by one. */
  readonly trains: { readonly out: TrainShape; readonly in: TrainShape } | undefined;
}

export interface LinkCounters {
  readonly rx: Counter;
  readonly tx: Counter;
  readonly txDropped: number;
}

/** By device. */
export type Links = ReadonlyMap<string, LinkCounters>;

export type Direction = 'encapsulate' | 'decapsulate';

/** Of a daemon that carries packets. */
export interface DaemonCounts {
  /** What eBPF programs carry is in no counter of flannel0. */
  readonly kernelPath: boolean;
  readonly sent: (direction: Direction) => Counter;
  readonly inKernel: (direction: Direction) => Counter;
  readonly drops: readonly { direction: Direction; reason: string; packets: number }[];
}

/** A host and its container, as read at one moment. */
export interface HostCounts {
  readonly plan: HostPlan;
  readonly host: Links;
  readonly container: Links;
  /** Undefined when the kernel alone forwards. */
  readonly daemon: DaemonCounts | undefined;
  /** Datagrams that the host's sockets had no room for. */
  readonly socketDrops: number;
}

export interface Drop {
  readonly where: string;
  readonly reason: string;
  /** Who is to blame. */
  readonly cause: string;
  /** Undefined when it is not known. */
  readonly packets: number | undefined;
}

const IP_UDP = UDP_OVERHEAD_BYTES;
/** Of an IP packet, as layer-3 devices count it, and a bridge what it receives. */
export const BARE: TrainShape = { once: IP_UDP, each: 0 };
/** With Ethernet. */
export const FRAMED: TrainShape = { once: ETHERNET_BYTES + IP_UDP, each: 0 };

/** A device where packets towards the wire leave by `out`. */
export function deviceCount(
  where: string,
  links: Links,
  device: string,
  out: 'rx' | 'tx',
  shapes: { readonly rx: TrainShape; readonly tx: TrainShape },
): Count {
  const link = links.get(device);
  const into = out === 'tx' ? 'rx' : 'tx';
  return {
    where,
    device,
    out: link?.[out],
    in: link?.[into],
    trains: { out: shapes[out], in: shapes[into] },
  };
}

/** The container's own device and its bridge, whatever the backend. */
export function containerCounts({ plan, host, container }: HostCounts): readonly Count[] {
  const framed = { rx: FRAMED, tx: FRAMED };
  return [
    deviceCount(plan.container, container, 'eth0', 'tx', framed),
    deviceCount(plan.host, host, 'docker0', 'rx', { rx: BARE, tx: FRAMED }),
  ];
}

/**
 * Of a tunnel of the kernel's own: its device counts what is inside, without the `overhead` bytes that it puts
 * on, and a train is one there already: all headers once.
 */
export function tunnelCounts(
  counts: HostCounts,
  device: string,
  overhead: number,
): readonly Count[] {
  const { plan, host } = counts;
  const whole: TrainShape = { once: ETHERNET_BYTES + overhead + BARE.once, each: 0 };
  return [
    ...containerCounts(counts),
    deviceCount(plan.host, host, device, 'tx', { rx: BARE, tx: BARE }),
    deviceCount(plan.host, host, 'eth0', 'tx', { rx: whole, tx: whole }),
  ];
}

export function tunnelDrops(counts: HostCounts, device: string): readonly Drop[] {
  return [deviceDrops(counts, device, `the kernel of ${counts.plan.host} could not send them`)];
}

/** A device that gave packets up, as its driver counts them. */
export function deviceDrops(
  { plan, host }: HostCounts,
  device: string,
  cause: string,
  reason = 'queue full',
): Drop {
  const packets = host.get(device)?.txDropped;
  return { where: `${plan.host} ${device}`, reason, cause, packets };
}
