/** Packets at each hop: who counted them, and how many. What nobody counts is not known. */
import type { DaemonProcess } from '../../testbed/daemon-process.js';
import { inNamespace, run } from '../../testbed/programs.js';
import { readSnmp } from '../../testbed/snmp.js';
import type { HostPlan } from '../../testbed/topology.js';
import type { LabBackend } from '../backends/backend.js';
import type {
  Count,
  Counter,
  DaemonCounts,
  Direction,
  Drop,
  HostCounts,
  Links,
  TrainShape,
} from '../backends/counts.js';
import { PROGRAMS } from '../backends/udp.js';

/** What went one way through a hop. */
export interface Passage {
  /** Undefined: not known. */
  readonly packets: number | undefined;
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

export interface HopCounts {
  readonly hops: readonly Hop[];
  readonly drops: readonly Drop[];
}

export interface HopReading {
  readonly where: string;
  readonly device: string;
  readonly forward: Counter | undefined;
  readonly back: Counter | undefined;
  /** How a train of UDP that goes forward looks there; undefined where packets are counted. */
  readonly train: TrainShape | undefined;
}

/** Counters since the start of everything; subtract an earlier reading with `since`. */
export interface Reading {
  readonly hops: readonly HopReading[];
  readonly drops: readonly Drop[];
}

export async function readHops(
  near: HostPlan,
  far: HostPlan,
  daemons: readonly [DaemonProcess, DaemonProcess],
  [nearBackend, farBackend]: readonly [LabBackend, LabBackend],
): Promise<Reading> {
  const [one, two] = await Promise.all([readHost(near, daemons[0]), readHost(far, daemons[1])]);
  const out = nearBackend.counts(one).map(({ where, device, out: forward, in: back, trains }) => ({
    ...{ where, device, forward, back },
    train: trains?.out,
  }));
  const into = farBackend
    .counts(two)
    .map(({ where, device, out: back, in: forward, trains }: Count) => ({
      ...{ where, device, forward, back },
      train: trains?.in,
    }));
  const containers = await Promise.all([near, far].map(containerDrop));
  return {
    hops: [...out, ...into.toReversed()],
    drops: [...nearBackend.drops(one), ...farBackend.drops(two), ...containers],
  };
}

async function containerDrop({ container }: HostPlan): Promise<Drop> {
  return {
    where: `${container} UDP socket`,
    reason: 'buffer full',
    cause: `the program in ${container} did not read in time; they had been delivered`,
    packets: await readUdpBufferErrors(container),
  };
}

export function since(now: Reading, earlier: Reading): Reading {
  const difference = (counter: Counter | undefined, before: Counter | undefined) =>
    counter === undefined || before === undefined
      ? undefined
      : { passes: counter.passes - before.passes, bytes: counter.bytes - before.bytes };
  return {
    hops: now.hops.map((hop, index) => ({
      ...hop,
      forward: difference(hop.forward, earlier.hops[index]?.forward),
      back: difference(hop.back, earlier.hops[index]?.back),
    })),
    drops: now.drops.map((drop, index) => ({
      ...drop,
      packets: known(drop.packets, earlier.drops[index]?.packets, (a, b) => a - b),
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
            ? forward?.passes
            : forward && packetsOf(forward, train, payloadBytes),
        passes: train && forward?.passes,
      },
      back: { packets: back?.passes, passes: train && back?.passes },
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
    device === PROGRAMS && forward.packets === 0 && back.packets === 0;
  return { drops, hops: hops.filter((hop) => !isIdle(hop)) };
}

function sumOf(first: HopCounts, second: HopCounts): HopCounts {
  const plus = (a: number, b: number): number => a + b;
  const sum = (a: Passage, b: Passage | undefined): Passage => ({
    packets: known(a.packets, b?.packets, plus),
    passes: known(a.passes, b?.passes, plus),
  });
  return {
    hops: first.hops.map((hop, index) => ({
      ...hop,
      forward: sum(hop.forward, second.hops[index]?.forward),
      back: sum(hop.back, second.hops[index]?.back),
    })),
    drops: first.drops.map((drop, index) => ({
      ...drop,
      packets: known(drop.packets, second.drops[index]?.packets, plus),
    })),
  };
}

/** Of two numbers that are both known; else undefined. */
function known(
  a: number | undefined,
  b: number | undefined,
  of: (a: number, b: number) => number,
): number | undefined {
  return a === undefined || b === undefined ? undefined : of(a, b);
}

async function readHost(plan: HostPlan, daemon: DaemonProcess): Promise<HostCounts> {
  const [host, container, counts, socketDrops] = await Promise.all([
    readLinks(plan.host),
    readLinks(plan.container),
    readDaemon(daemon),
    readUdpBufferErrors(plan.host),
  ]);
  return { plan, host, container, daemon: counts, socketDrops };
}

interface DeviceJson {
  readonly packets: number;
  readonly bytes: number;
  readonly dropped: number;
}

interface LinkJson {
  readonly ifname: string;
  readonly stats64: { readonly rx: DeviceJson; readonly tx: DeviceJson };
}

async function readLinks(namespace: string): Promise<Links> {
  const { stdout } = await run(inNamespace(namespace, ['ip', '-j', '-s', 'link']));
  const counter = ({ packets, bytes }: DeviceJson): Counter => ({ passes: packets, bytes });
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

const NONE: Counter = { passes: 0, bytes: 0 };

/** Undefined where no daemon carries packets. */
async function readDaemon(daemon: DaemonProcess): Promise<DaemonCounts | undefined> {
  const { dataPlane } = await daemon.status();
  if (dataPlane === null) return undefined;
  const { threads, features } = dataPlane;
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
    kernelPath: features.some(({ name, state }) => name === 'kernel-path' && state === 'active'),
    sent: (direction) =>
      sum(direction, ({ sentPackets: passes, sentBytes: bytes }) => ({ passes, bytes })),
    inKernel: (direction) =>
      sum(direction, ({ kernelPackets: passes, kernelBytes: bytes }) => ({ passes, bytes })),
    drops: threads.flatMap(({ direction, drops }) =>
      Object.entries(drops).map(([reason, packets]) => ({ direction, reason, packets })),
    ),
  };
}
