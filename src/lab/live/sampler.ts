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
  /** Inner packets and bytes that went from the daemons into their TUN. */
  readonly deliveredPackets: number;
  readonly deliveredBytes: number;
  readonly calls: number;
  readonly copiedBytes: number;
  readonly drops: number;
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
  idleSeconds: 0,
};

/** A host's counters at one moment, out being from the container to the wire. */
interface HostCounters {
  /** Milliseconds of the monotonic clock. */
  readonly at: number;
  readonly hops: Readonly<Record<HopName, HopRate>>;
  readonly cpuSeconds: number;
  readonly daemon: Omit<Totals, 'seconds' | 'idleSeconds'>;
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
      totals = addTotals(totals, { ...NO_TOTALS, ...subtract(now.daemon, before.daemon) });
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
  return {
    bitsPerSecond: rate(deliveredBytes * 8),
    packetsPerSecond: rate(deliveredPackets),
    dropsPerSecond: rate(totals.drops),
    callsPerPacket:
      rate(deliveredPackets) >= LOADED ? recent.calls / recent.deliveredPackets : null,
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
  const device = (name: string, outward: 'rx' | 'tx'): HopRate => {
    const { rxPackets, rxBytes, txPackets, txBytes } = devices.get(name) ?? NO_DEVICE;
    return outward === 'tx'
      ? { outPackets: txPackets, outBytes: txBytes, inPackets: rxPackets, inBytes: rxBytes }
      : { outPackets: rxPackets, outBytes: rxBytes, inPackets: txPackets, inBytes: txBytes };
  };
  const [out, back] = [sent(threads, 'encapsulate'), sent(threads, 'decapsulate')];
  return {
    at,
    cpuSeconds,
    hops: {
      // The other end of the container's eth0: what leaves the one enters the other.
      container: device(containerPort(plan), 'rx'),
      docker0: device('docker0', 'rx'),
      flannel0: device('flannel0', 'tx'),
      daemon: {
        outPackets: out.packets,
        outBytes: out.bytes,
        inPackets: back.packets,
        inBytes: back.bytes,
      },
      eth0: device('eth0', 'tx'),
    },
    daemon: {
      deliveredPackets: back.packets,
      deliveredBytes: back.bytes,
      calls: sum(threads, systemCalls),
      copiedBytes: sum(threads, (of) => of.receivedBytes + of.sentBytes),
      drops: sum(threads, dropsOf),
    },
  };
}

function sent(
  threads: readonly ThreadCounters[],
  direction: ThreadCounters['direction'],
): { packets: number; bytes: number } {
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
  const hops = names.map((name): [HopName, HopRate] => [
    name,
    mapValues(subtract(now.hops[name], before.hops[name]), (count) => count / seconds),
  ]);
  return {
    number,
    hops: Object.fromEntries(hops) as Record<HopName, HopRate>,
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

const NO_DEVICE: DeviceCounters = { rxPackets: 0, rxBytes: 0, txPackets: 0, txBytes: 0 };
