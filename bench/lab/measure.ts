/** One round of one subject: TCP, small UDP packets, round trip; and the CPU each took. */
import { readFile } from 'node:fs/promises';
import { systemError } from '../../src/errors.js';
import { addContainer, removeContainer, type HostPlan } from '../../src/lab/topology.js';
import { IperfTarget, ping } from '../../src/lab/traffic.js';
import type { Subject, Underlay } from './subjects.js';

export const UDP_PAYLOAD_BYTES = 64;

/** The metrics of a round, by the names of METRICS. */
export interface Round {
  readonly tcpGbps: number;
  readonly udpPps: number;
  readonly rttMs: number;
  readonly tcpCpuSecondsPerGbit: number;
  readonly udpCpuMicrosecondsPerPacket: number;
}

export interface Metric {
  readonly key: keyof Round;
  readonly title: string;
  readonly unit: string;
  readonly digits: number;
}

export const METRICS: readonly Metric[] = [
  { key: 'tcpGbps', title: 'TCP, 1 stream', unit: 'Gbit/s', digits: 2 },
  {
    key: 'udpPps',
    title: `UDP, ${UDP_PAYLOAD_BYTES}-byte payloads, received`,
    unit: 'packets/s',
    digits: 0,
  },
  { key: 'rttMs', title: 'Ping round trip, average', unit: 'ms', digits: 3 },
  {
    key: 'tcpCpuSecondsPerGbit',
    title: 'CPU per TCP Gbit, whole machine',
    unit: 's',
    digits: 3,
  },
  {
    key: 'udpCpuMicrosecondsPerPacket',
    title: 'CPU per received UDP packet, whole machine',
    unit: 'us',
    digits: 1,
  },
];

export async function measure(
  subject: Subject,
  underlay: Underlay,
  seconds: number,
  signal: AbortSignal,
): Promise<Round> {
  const [near, far] = underlay.hosts;
  if (near === undefined || far === undefined) throw new Error('two hosts are needed');
  const lower = await subject.raise(underlay);
  try {
    for (const plan of [near, far]) {
      await addContainer(plan, `${plan.bridgeAddress}/24`, subject.mtu(underlay));
    }
    try {
      return await measureTraffic(near, far, seconds, signal);
    } finally {
      for (const plan of [near, far]) await removeContainer(plan);
    }
  } finally {
    await lower();
  }
}

async function measureTraffic(
  near: HostPlan,
  far: HostPlan,
  seconds: number,
  signal: AbortSignal,
): Promise<Round> {
  // Neighbours are resolved and caches warm before anything counts.
  const warm = await ping(near, far.containerAddress, { count: 5, intervalSeconds: 0.02, signal });
  if (warm.received === 0) throw systemError('the overlay carries nothing');
  const { avgMs } = await ping(near, far.containerAddress, {
    count: 50,
    intervalSeconds: 0.01,
    signal,
  });
  const target = new IperfTarget(far);
  const tcp = await withCpu(() => target.tcp(near, { seconds, signal }));
  const udp = await withCpu(() => target.udp(near, { seconds, bytes: UDP_PAYLOAD_BYTES, signal }));
  return {
    tcpGbps: tcp.result.gbps,
    udpPps: udp.result.receivedPps,
    rttMs: avgMs ?? NaN,
    tcpCpuSecondsPerGbit: tcp.cpuSeconds / (tcp.result.gbps * seconds),
    udpCpuMicrosecondsPerPacket: (udp.cpuSeconds * 1e6) / udp.result.receivedPackets,
  };
}

/** CPU seconds the whole machine was busy meanwhile, iperf3's own included. */
async function withCpu<T>(work: () => Promise<T>): Promise<{ result: T; cpuSeconds: number }> {
  const before = await busySeconds();
  const result = await work();
  return { result, cpuSeconds: (await busySeconds()) - before };
}

/** All of /proc/stat's cpu line but idle and iowait, in seconds (USER_HZ is 100 on Linux). */
async function busySeconds(): Promise<number> {
  const [line = ''] = (await readFile('/proc/stat', 'utf8')).split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq + steal) / 100;
}
