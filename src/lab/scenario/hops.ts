/**
 * Packets at each hop. The daemons count packets. An interface counts what passes through it, and a
 * train of many packets passes as one; its bytes tell how many there were, because a train has its
 * headers once and the rest of each packet:
 *
 *   container-1 eth0   [Ethernet IP UDP] [payload] [payload] ...       bytes = 42 x passes + 64 x packets
 *   host-1 eth0        [Ethernet IP UDP] [inner IP UDP payload] ...    bytes = 42 x passes + 92 x packets
 */
import type { DaemonProcess } from '../../testbed/daemon-process.js';
import { UDP_OVERHEAD_BYTES } from '../../forward/udp/udp-settings.js';
import { inNamespace, run } from '../../testbed/programs.js';
import { readSnmp } from '../../testbed/snmp.js';
import type { HostPlan } from '../../testbed/topology.js';

/** What went one way through a hop. */
export interface Passage {
  readonly packets: number;
  /** How often the kernel carried them through an interface; undefined at a daemon. */
  readonly passes: number | undefined;
}

/** The order of hops is that of the way from near to far. */
export interface Hop {
  readonly where: string;
  readonly device: string;
  readonly forward: Passage;
  readonly back: Passage;
}

export interface Drop {
  readonly where: string;
  readonly reason: string;
  /** Who is to blame. */
  readonly cause: string;
  readonly packets: number;
}

export interface HopCounts {
  readonly hops: readonly Hop[];
  readonly drops: readonly Drop[];
}

/** What an interface counts; of a daemon, packets are the passes. */
export interface Counter {
  readonly passes: number;
  readonly bytes: number;
}

export interface HopReading {
  readonly where: string;
  readonly device: string;
  readonly forward: Counter;
  readonly back: Counter;
  /** How a train of UDP looks there; undefined at a daemon. */
  readonly train: TrainShape | undefined;
}

/** Bytes that a train has once, and those around the payload that each of its packets has. */
export interface TrainShape {
  readonly once: number;
  readonly each: number;
}

/** Counters since the start of everything; subtract an earlier reading with `since`. */
export interface Reading {
  readonly hops: readonly HopReading[];
  readonly drops: readonly Drop[];
}

/** Stands for the programs of mode kernel. */
export const PROGRAMS = 'eBPF';

const ETHERNET = 14;
const IP_UDP = UDP_OVERHEAD_BYTES;
/** In flannel0, and as a bridge counts what it receives: without Ethernet. */
const BARE: TrainShape = { once: IP_UDP, each: 0 };
const FRAMED: TrainShape = { once: ETHERNET + IP_UDP, each: 0 };
/** Each datagram of a train has a whole inner packet. */
const TUNNELLED: TrainShape = { once: ETHERNET + IP_UDP, each: IP_UDP };

export async function readHops(
  near: HostPlan,
  far: HostPlan,
  daemons: readonly [DaemonProcess, DaemonProcess],
): Promise<Reading> {
  const [nearHost, farHost, nearContainer, farContainer] = await Promise.all([
    readLinks(near.host),
    readLinks(far.host),
    readLinks(near.container),
    readLinks(far.container),
  ]);
  const [nearDaemon, farDaemon] = await Promise.all(daemons.map(readDaemon));
  // An interface counts what enters it on the way there, and what leaves it on the way back.
  const link = (
    where: string,
    device: string,
    links: Links,
    outward: boolean,
    train: TrainShape,
  ): HopReading => {
    const { rx, tx } = links.get(device) ?? NOTHING;
    const [forward, back] = outward ? [tx, rx] : [rx, tx];
    return { where, device, forward, back, train };
  };
  const counted = (
    where: string,
    device: string,
    forward: Direction,
    counter: ((direction: Direction) => Counter) | undefined,
  ): HopReading => ({
    where,
    device,
    train: undefined,
    forward: counter?.(forward) ?? NONE,
    back: counter?.(forward === 'encapsulate' ? 'decapsulate' : 'encapsulate') ?? NONE,
  });
  const hops = [
    link(near.container, 'eth0', nearContainer, true, FRAMED),
    link(near.host, 'docker0', nearHost, false, BARE),
    link(near.host, 'flannel0', nearHost, true, BARE),
    counted(near.host, 'daemon', 'encapsulate', nearDaemon?.sent),
    // Mode kernel: what the programs carry passes flannel0's counters and the daemon's threads.
    counted(near.host, PROGRAMS, 'encapsulate', nearDaemon?.inKernel),
    link(near.host, 'eth0', nearHost, true, TUNNELLED),
    link(far.host, 'eth0', farHost, false, TUNNELLED),
    counted(far.host, PROGRAMS, 'decapsulate', farDaemon?.inKernel),
    counted(far.host, 'daemon', 'decapsulate', farDaemon?.sent),
    link(far.host, 'flannel0', farHost, false, BARE),
    link(far.host, 'docker0', farHost, true, FRAMED),
    link(far.container, 'eth0', farContainer, false, FRAMED),
  ];

  const drops: Drop[] = [];
  for (const [plan, links, of] of [
    [near, nearHost, nearDaemon],
    [far, farHost, farDaemon],
  ] as const) {
    const cause = `the daemon of ${plan.host} did not read in time`;
    drops.push({
      where: `${plan.host} flannel0`,
      reason: 'queue full',
      cause,
      packets: links.get('flannel0')?.txDropped ?? 0,
    });
    drops.push({
      where: `${plan.host} UDP socket`,
      reason: 'buffer full',
      cause,
      packets: await readUdpBufferErrors(plan.host),
    });
    drops.push(...(of?.drops(plan.host) ?? []));
  }
  for (const plan of [near, far]) {
    drops.push({
      where: `${plan.container} UDP socket`,
      reason: 'buffer full',
      cause: `the program in ${plan.container} did not read in time; the tunnel had delivered them`,
      packets: await readUdpBufferErrors(plan.container),
    });
  }
  return { hops, drops };
}

export function since(now: Reading, earlier: Reading): Reading {
  const difference = (counter: Counter, before: Counter = NONE): Counter => ({
    passes: counter.passes - before.passes,
    bytes: counter.bytes - before.bytes,
  });
  return {
    hops: now.hops.map((hop, index) => ({
      ...hop,
      forward: difference(hop.forward, earlier.hops[index]?.forward),
      back: difference(hop.back, earlier.hops[index]?.back),
    })),
    drops: now.drops.map((drop, index) => ({
      ...drop,
      packets: drop.packets - (earlier.drops[index]?.packets ?? 0),
    })),
  };
}

/**
 * The packets behind a reading. `payloadBytes`: those of the UDP datagrams that went forward, perhaps in
 * trains; what else there was (ARP, the TCP connection by which iperf3 arranges its load) is counted
 * with an error of a few packets. Without it nothing travels in trains.
 */
export function countPackets({ hops, drops }: Reading, payloadBytes?: number): HopCounts {
  return {
    drops,
    hops: hops.map(({ where, device, train, forward, back }) => ({
      where,
      device,
      forward: {
        packets:
          train === undefined || payloadBytes === undefined
            ? forward.passes
            : packetsOf(forward, train, payloadBytes),
        passes: train && forward.passes,
      },
      back: { packets: back.passes, passes: train && back.passes },
    })),
  };
}

function packetsOf(
  { passes, bytes }: Counter,
  { once, each }: TrainShape,
  payload: number,
): number {
  return Math.max(passes, Math.round((bytes - passes * once) / (each + payload)));
}

/** The counts of two times after each other, without eBPF programs that carried nothing. */
export function together(first: HopCounts, second: HopCounts): HopCounts {
  const { hops, drops } = sumOf(first, second);
  const isIdle = ({ device, forward, back }: Hop): boolean =>
    device === PROGRAMS && forward.packets + back.packets === 0;
  return { drops, hops: hops.filter((hop) => !isIdle(hop)) };
}

function sumOf(first: HopCounts, second: HopCounts): HopCounts {
  const sum = (a: Passage, b: Passage | undefined): Passage => ({
    packets: a.packets + (b?.packets ?? 0),
    passes: a.passes === undefined ? undefined : a.passes + (b?.passes ?? 0),
  });
  return {
    hops: first.hops.map((hop, index) => ({
      ...hop,
      forward: sum(hop.forward, second.hops[index]?.forward),
      back: sum(hop.back, second.hops[index]?.back),
    })),
    drops: first.drops.map((drop, index) => ({
      ...drop,
      packets: drop.packets + (second.drops[index]?.packets ?? 0),
    })),
  };
}

interface LinkCounters {
  readonly rx: Counter;
  readonly tx: Counter;
  readonly txDropped: number;
}

type Links = ReadonlyMap<string, LinkCounters>;
const NONE: Counter = { passes: 0, bytes: 0 };
const NOTHING: LinkCounters = { rx: NONE, tx: NONE, txDropped: 0 };

interface LinkJson {
  ifname: string;
  stats64: {
    rx: { packets: number; bytes: number };
    tx: { packets: number; bytes: number; dropped: number };
  };
}

async function readLinks(namespace: string): Promise<Links> {
  const { stdout } = await run(inNamespace(namespace, ['ip', '-j', '-s', 'link']));
  const counter = ({ packets, bytes }: { packets: number; bytes: number }): Counter => ({
    passes: packets,
    bytes,
  });
  return new Map(
    (JSON.parse(stdout) as LinkJson[]).map(({ ifname, stats64: { rx, tx } }) => [
      ifname,
      { rx: counter(rx), tx: counter(tx), txDropped: tx.dropped },
    ]),
  );
}

async function readUdpBufferErrors(namespace: string): Promise<number> {
  return (await readSnmp(namespace))('Udp', 'RcvbufErrors');
}

type Direction = 'encapsulate' | 'decapsulate';

interface Daemon {
  readonly sent: (direction: Direction) => Counter;
  readonly inKernel: (direction: Direction) => Counter;
  readonly drops: (host: string) => Drop[];
}

async function readDaemon(daemon: DaemonProcess): Promise<Daemon> {
  const threads = (await daemon.status()).dataPlane?.threads ?? [];
  // Each queue pair has a thread or more for each direction.
  const sum = (
    direction: Direction,
    counterOf: (thread: (typeof threads)[number]) => Counter,
  ): Counter =>
    threads
      .filter((thread) => thread.direction === direction)
      .map(counterOf)
      .reduce((a, b) => ({ passes: a.passes + b.passes, bytes: a.bytes + b.bytes }), NONE);
  return {
    sent: (direction) =>
      sum(direction, ({ sentPackets: passes, sentBytes: bytes }) => ({ passes, bytes })),
    inKernel: (direction) =>
      sum(direction, ({ kernelPackets: passes, kernelBytes: bytes }) => ({ passes, bytes })),
    drops: (host) =>
      threads.flatMap((thread) =>
        Object.entries(thread.drops).map(([reason, packets]) => ({
          where: `${host} daemon, ${thread.direction}`,
          reason: reason.replaceAll('_', ' '),
          cause: `the daemon of ${host} refused them, or the kernel refused them to it`,
          packets,
        })),
      ),
  };
}
