/**
 * The counters behind the live page, read twice a second without starting a program, which would cost
 * more than it tells: devices from /proc/PID/net/dev of a host's daemon, packets and calls from the
 * daemon's status.
 */
import { systemCalls } from '../../dataplane/counters.js';
import { readFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import type { DaemonStatus } from '../../daemon/status.js';
import type { DaemonProcess } from '../../testbed/daemon-process.js';
import { cpuSecondsOf, machineTimes, type MachineTimes } from '../../testbed/proc.js';
import { containerPort } from '../../testbed/topology.js';
import type { Figures, HopName, HopRate, HostSample, Sample } from './messages.js';

type ThreadCounters = NonNullable<DaemonStatus['dataPlane']>['threads'][number];

export interface DeviceCounters {
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly txPackets: number;
  readonly txBytes: number;
}

/** What was counted over a time by all hosts together. */
export interface Totals {
  readonly seconds: number;
  /** Inner packets and bytes that were delivered (Figures). */
  readonly deliveredPackets: number;
  readonly deliveredBytes: number;
  readonly calls: number;
  readonly copiedBytes: number;
  readonly drops: number;
  /** Hosts where nobody counts packets: what there is of them is not known. */
  readonly uncounted: number;
  /** CPU seconds in which the machine had nothing to do. */
  readonly idleSeconds: number;
}

export const NO_TOTALS: Totals = {
  seconds: 0,
  deliveredPackets: 0,
  deliveredBytes: 0,
  calls: 0,
  copiedBytes: 0,
  drops: 0,
  uncounted: 0,
  idleSeconds: 0,
};

/** A host's counters at one moment, out being from the container to the wire. */
interface HostCounters {
  /** Milliseconds of the monotonic clock. */
  readonly at: number;
  readonly hops: HostSample['hops'];
  readonly carried: HopRate | null;
  readonly byKernel: boolean;
  readonly cpuSeconds: number;
  readonly daemon: Omit<Totals, 'seconds' | 'idleSeconds' | 'uncounted'>;
}

const CPUS = cpus().length;
/** Samples that figures per packet are of: two seconds. */
const RECENT = 4;

/** Compares the counters of now with those of its last call. */
export class Sampler {
  #hosts = new Map<DaemonProcess, HostCounters>();
  #machine: { at: number; times: MachineTimes } | undefined;
  /** The last samples, as long as the daemons are the same. */
  #recent: Totals[] = [];

  /** A daemon that does not answer, or is new, is left out. */
  async next(daemons: Iterable<DaemonProcess>): Promise<{ sample: Sample; totals: Totals }> {
    const hosts = new Map<DaemonProcess, HostCounters>();
    await Promise.all(
      [...daemons].map(async (daemon) => {
        const counters = await readHost(daemon).catch(() => undefined);
        if (counters !== undefined) hosts.set(daemon, counters);
      }),
    );
    const samples: HostSample[] = [];
    let totals = await this.#machineSince();
    for (const [daemon, now] of hosts) {
      const before = this.#hosts.get(daemon);
      if (before === undefined) continue;
      samples.push(hostSince(daemon.plan.number, now, before));
      const uncounted = now.carried === null ? 1 : 0;
      totals = addTotals(totals, {
        ...NO_TOTALS,
        ...subtract(now.daemon, before.daemon),
        uncounted,
      });
    }
    if ([...hosts.keys()].some((daemon) => !this.#hosts.has(daemon))) this.#recent = [];
    this.#recent = [...this.#recent, totals].slice(-RECENT);
    const recent = this.#recent.reduce(addTotals, NO_TOTALS);
    this.#hosts = hosts;
    samples.sort((a, b) => a.number - b.number);
    return { sample: { hosts: samples, figures: figuresOf(totals, recent), cpus: CPUS }, totals };
  }

  async #machineSince(): Promise<Totals> {
    const before = this.#machine;
    const now = { at: performance.now(), times: await machineTimes() };
    this.#machine = now;
    if (before === undefined) return NO_TOTALS;
    return {
      ...NO_TOTALS,
      seconds: (now.at - before.at) / 1_000,
      idleSeconds: now.times.idle - before.times.idle,
    };
  }
}

export function addTotals(a: Totals, b: Totals): Totals {
  const keys = Object.keys(a) as (keyof Totals)[];
  return Object.fromEntries(keys.map((key) => [key, a[key] + b[key]])) as unknown as Totals;
}

/** Packets a second from which figures per packet are those of a load, and not of looking for packets. */
const LOADED = 1_000;

/**
 * Rates are of `totals`. What is per packet or byte is of `recent`, which may reach farther back: hosts
 * are not read at one moment, and over a short time one has carried packets that the other has not.
 */
export function figuresOf(totals: Totals, recent = totals): Figures {
  const { seconds, deliveredBytes, deliveredPackets } = totals;
  const rate = (count: number): number => (seconds > 0 ? count / seconds : 0);
  const counted = totals.uncounted === 0;
  const loaded = rate(deliveredPackets) >= LOADED;
  const callsPerPacket = loaded ? recent.calls / recent.deliveredPackets : null;
  return {
    bitsPerSecond: rate(deliveredBytes * 8),
    packetsPerSecond: counted ? rate(deliveredPackets) : null,
    dropsPerSecond: counted ? rate(totals.drops) : null,
    // Where the kernel alone forwards no daemon makes any.
    callsPerPacket: counted ? callsPerPacket : deliveredBytes > 0 ? 0 : null,
    daemonCopies: deliveredBytes > 0 ? recent.copiedBytes / recent.deliveredBytes : null,
    busyCpus: Math.max(0, CPUS - rate(totals.idleSeconds)),
  };
}

/** Reads /proc/PID/net/dev (proc_pid_net(5)). */
export function parseDevices(text: string): ReadonlyMap<string, DeviceCounters> {
  const lines = text.split('\n').filter((line) => line.includes(':'));
  return new Map(
    lines.map((line) => {
      const name = line.slice(0, line.indexOf(':')).trim();
      const fields = line
        .slice(line.indexOf(':') + 1)
        .trim()
        .split(/ +/)
        .map(Number);
      const [rxBytes = NaN, rxPackets = NaN] = fields;
      const [txBytes = NaN, txPackets = NaN] = fields.slice(8);
      return [name, { rxBytes, rxPackets, txBytes, txPackets }];
    }),
  );
}

/** Bytes of Ethernet, which a container's device counts once a pass. */
const FRAME_BYTES = 14;

async function readHost(daemon: DaemonProcess): Promise<HostCounters> {
  const { program, plan } = daemon;
  const pid = program.pid ?? 0;
  const [status, text, cpuSeconds] = await Promise.all([
    daemon.status(),
    readFile(`/proc/${pid}/net/dev`, 'utf8'),
    cpuSecondsOf(pid),
  ]);
  const at = performance.now();
  const devices = parseDevices(text);
  const threads = status.dataPlane?.threads ?? [];
  const way = wayOf(status);
  const device = (name: string, outward: 'rx' | 'tx'): HopRate | null => {
    const counters = devices.get(name);
    if (counters === undefined) return null;
    const { rxPackets, rxBytes, txPackets, txBytes } = counters;
    return outward === 'tx'
      ? { outPackets: txPackets, outBytes: txBytes, inPackets: rxPackets, inBytes: rxBytes }
      : { outPackets: rxPackets, outBytes: rxBytes, inPackets: txPackets, inBytes: txBytes };
  };
  const [out, back] = [sent(threads, 'encapsulate'), sent(threads, 'decapsulate')];
  const container = device(containerPort(plan), 'rx');
  const own = rateOf(out, back);
  const counted = way === 'daemon' || way === 'programs';
  const carried = counted
    ? rateOf(
        plus(out, inKernel(threads, 'encapsulate')),
        plus(back, inKernel(threads, 'decapsulate')),
      )
    : null;
  return {
    at,
    cpuSeconds,
    hops: {
      // The other end of the container's eth0: what leaves the one enters the other.
      container,
      docker0: device('docker0', 'rx'),
      // The programs carry packets past its counters; direct routes lead past it altogether.
      flannel0: way === 'daemon' || way === 'device' ? device(status.device ?? '', 'tx') : null,
      daemon: counted ? own : null,
      eth0: device('eth0', 'tx'),
    },
    carried,
    byKernel: way !== 'daemon',
    daemon: {
      deliveredPackets: carried?.inPackets ?? 0,
      deliveredBytes:
        carried?.inBytes ??
        (container === null ? 0 : container.inBytes - FRAME_BYTES * container.inPackets),
      calls: sum(threads, systemCalls),
      copiedBytes: sum(threads, (of) => of.receivedBytes + of.sentBytes),
      drops: sum(threads, dropsOf),
    },
  };
}

/**
 * What packets pass on a host: its daemon, the daemon's programs (mode kernel by eBPF), a device of the
 * kernel's (VXLAN, FOU), or none of these.
 */
function wayOf({
  backend,
  routes,
  dataPlane,
}: DaemonStatus): 'daemon' | 'programs' | 'device' | 'none' {
  // The lab's hosts are on one segment: with DirectRouting all are reached alike.
  if (routes.some(({ way }) => way === 'direct')) return 'none';
  if (backend !== 'udp') return backend === 'vxlan' ? 'device' : 'none';
  const features = dataPlane?.features ?? [];
  const isActive = (wanted: string): boolean =>
    features.some(({ name, state }) => name === wanted && state === 'active');
  if (isActive('fou')) return 'device';
  return isActive('kernel-path') ? 'programs' : 'daemon';
}

interface Packets {
  readonly packets: number;
  readonly bytes: number;
}

function plus(a: Packets, b: Packets): Packets {
  return { packets: a.packets + b.packets, bytes: a.bytes + b.bytes };
}

function rateOf(out: Packets, back: Packets): HopRate {
  return {
    outPackets: out.packets,
    outBytes: out.bytes,
    inPackets: back.packets,
    inBytes: back.bytes,
  };
}

function inKernel(
  threads: readonly ThreadCounters[],
  direction: ThreadCounters['direction'],
): Packets {
  const those = threads.filter((thread) => thread.direction === direction);
  return {
    packets: sum(those, (thread) => thread.kernelPackets),
    bytes: sum(those, (thread) => thread.kernelBytes),
  };
}

function sent(threads: readonly ThreadCounters[], direction: ThreadCounters['direction']): Packets {
  const those = threads.filter((thread) => thread.direction === direction);
  return {
    packets: sum(those, (thread) => thread.sentPackets),
    bytes: sum(those, (thread) => thread.sentBytes),
  };
}

/** Dropped by the daemon, and by the kernel because the daemon was too slow. */
function dropsOf({ drops, queueDrops }: ThreadCounters): number {
  return Object.values(drops).reduce((total, packets) => total + packets, queueDrops ?? 0);
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function hostSince(number: number, now: HostCounters, before: HostCounters): HostSample {
  const seconds = (now.at - before.at) / 1_000;
  const names = Object.keys(now.hops) as HopName[];
  const rate = (later: HopRate | null, earlier: HopRate | null): HopRate | null =>
    later === null || earlier === null
      ? null
      : mapValues(subtract(later, earlier), (count) => count / seconds);
  const hops = names.map((name) => [name, rate(now.hops[name], before.hops[name])]);
  return {
    number,
    hops: Object.fromEntries(hops) as HostSample['hops'],
    carried: rate(now.carried, before.carried),
    byKernel: now.byKernel,
    daemonCpu: (now.cpuSeconds - before.cpuSeconds) / seconds,
  };
}

/** Counters that fell belong to a device or data plane that is new. */
function subtract<T extends object>(now: T, before: T): T {
  const earlier = before as Record<string, number>;
  return mapValues(now, (count, key) => {
    const then = earlier[key] ?? 0;
    return count < then ? count : count - then;
  });
}

function mapValues<T extends object>(of: T, change: (value: number, key: string) => number): T {
  const entries = Object.entries(of as Record<string, number>);
  return Object.fromEntries(entries.map(([key, value]) => [key, change(value, key)])) as T;
}
