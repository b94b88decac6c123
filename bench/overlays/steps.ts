/** The measurements of a round, each of which yields some metrics. */
import { join } from 'node:path';
import { systemError } from '../../src/errors.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { readSnmp } from '../../src/testbed/snmp.js';
import { ipBatch, type HostPlan } from '../../src/testbed/topology.js';
import { IperfTarget, type TcpOptions, type UdpResult } from '../../src/testbed/traffic.js';
import { busySeconds, PROJECT } from '../frame/machine.js';
import { percentile, pingSeries, type PingSeries } from '../frame/ping.js';
import type { Load, LoadMetric, MetricKey, Round } from './metrics.js';
import { countCalls, observe, type Cost } from './observe.js';
import type { RunningOverlay, Subject } from './subject.js';

export interface Scene {
  readonly subject: Subject;
  readonly overlay: RunningOverlay;
  readonly near: HostPlan;
  readonly far: HostPlan;
  /** MTU of the overlay in bytes. */
  readonly mtu: number;
  /** Length of a throughput measurement. */
  readonly seconds: number;
  /** perf counts the system calls of the ends, in a run of its own for each load. */
  readonly perf: boolean;
  readonly signal: AbortSignal;
}

export interface Step {
  readonly name: StepName;
  /** The metric that stands for it in the progress. */
  readonly key: MetricKey;
  readonly applies: (subject: Subject) => boolean;
  readonly measure: (scene: Scene) => Promise<Round>;
}

export type StepName =
  'tcp' | 'tcp4' | 'reverse' | 'both' | 'udp64' | 'udp1372' | 'scatter' | 'ping' | 'load';

const SMALL_PAYLOAD = 64;
const LARGE_PAYLOAD = 1_372;
/** IPv4 and TCP header, timestamps. */
const TCP_HEADERS = 52;
const IDLE_PINGS = 2_000;
const LOADED_INTERVAL_SECONDS = 0.005;
const LOAD_SETTLES_MS = 500;

const always = (): boolean => true;
const streams = (
  name: StepName,
  key: MetricKey,
  options: Omit<TcpOptions, 'seconds' | 'signal'>,
): Step => ({
  name,
  key,
  applies: always,
  measure: async ({ near, far, seconds, signal }) => {
    const { gbps } = await new IperfTarget(far).tcp(near, { ...options, seconds, signal });
    return { [key]: gbps };
  },
});

export const STEPS: readonly Step[] = [
  { name: 'ping', key: 'rtt', applies: always, measure: idlePings },
  { name: 'tcp', key: 'tcp.throughput', applies: always, measure: tcp('tcp', 1) },
  { name: 'tcp4', key: 'tcp4.throughput', applies: always, measure: tcp('tcp4', 4) },
  streams('reverse', 'tcpReverse', { reverse: true }),
  streams('both', 'tcpBoth', { bidirectional: true }),
  { name: 'udp64', key: 'udp.packets', applies: always, measure: smallUdp },
  { name: 'udp1372', key: 'udp1372', applies: always, measure: largeUdp },
  {
    name: 'scatter',
    key: 'scatter',
    applies: ({ scatter }) => scatter !== undefined,
    measure: scatter,
  },
  { name: 'load', key: 'loadedRtt', applies: always, measure: loadedPings },
];

async function idlePings({ near, far, signal }: Scene): Promise<Round> {
  const series = await pingSeries(near, far.containerAddress, {
    count: IDLE_PINGS,
    deadlineSeconds: 5,
    signal,
  });
  return { rtt: roundTrip(series, 0.5), rttP99: roundTrip(series, 0.99) };
}

function tcp(load: Load, streamCount: number): Step['measure'] {
  return async (scene) => {
    const { near, far, mtu, signal } = scene;
    const target = new IperfTarget(far);
    const send = async (seconds: number): Promise<Delivered> => {
      const { gbps } = await target.tcp(near, { seconds, signal, streams: streamCount });
      const bytes = (gbps * 1e9 * seconds) / 8;
      // What is sent again was copied from the sender once.
      return { bytes, packets: bytes / (mtu - TCP_HEADERS), containerBytes: 2 * bytes, seconds };
    };
    return carry(scene, load, send);
  };
}

async function smallUdp(scene: Scene): Promise<Round> {
  const { near, far, signal } = scene;
  const target = new IperfTarget(far);
  const send = async (seconds: number): Promise<Delivered> =>
    deliveredBy(await target.udp(near, { seconds, bytes: SMALL_PAYLOAD, signal }), SMALL_PAYLOAD);
  return carry(scene, 'udp', send);
}

/**
 * What an overlay delivered is what reached the receiving container. A program there that is too slow
 * to read it all loses the rest in its own socket, and copies none of that.
 */
export function deliveredBy(result: UdpResult, payloadBytes: number): Delivered {
  const { sentPackets, arrivedPackets: packets, receivedPackets: read, receivedSeconds } = result;
  const bytes = packets * payloadBytes;
  const containerBytes = (sentPackets + read) * payloadBytes;
  return { packets, read, bytes, containerBytes, seconds: receivedSeconds };
}

async function largeUdp({ near, far, seconds, signal }: Scene): Promise<Round> {
  const options = { seconds, bytes: LARGE_PAYLOAD, signal };
  const result = await new IperfTarget(far).udp(near, options);
  const { arrivedPackets, receivedPackets, receivedSeconds } = result;
  return {
    udp1372: arrivedPackets / receivedSeconds,
    udp1372Read: receivedPackets / receivedSeconds,
  };
}

/** Small packets to addresses at random, all of which are the far container's. */
async function scatter({ subject, near, far, seconds, signal }: Scene): Promise<Round> {
  const network = subject.scatter ?? '';
  await ipBatch(far.host, [`route add ${network} via ${far.containerAddress} dev docker0`]);
  await ipBatch(far.container, [`route add local ${network} dev lo`]);
  // No program listens: the container's kernel counts what arrives.
  const arrived = async (): Promise<number> => (await readSnmp(far.container))('Udp', 'NoPorts');
  const before = await arrived();
  const argv = [join(PROJECT, 'bench', 'overlays', 'build', 'scatter'), network];
  argv.push(String(SMALL_PAYLOAD), String(seconds));
  await run(inNamespace(near.container, argv), { timeoutMs: (seconds + 10) * 1_000, signal });
  return { scatter: ((await arrived()) - before) / seconds };
}

async function loadedPings({ near, far, seconds, signal }: Scene): Promise<Round> {
  const loadSeconds = seconds + (2 * LOAD_SETTLES_MS) / 1_000;
  const load = new IperfTarget(far).tcp(near, { seconds: Math.ceil(loadSeconds), signal });
  const pings = async (): Promise<PingSeries> => {
    await new Promise((resolve) => setTimeout(resolve, LOAD_SETTLES_MS));
    return pingSeries(near, far.containerAddress, {
      count: Math.round(seconds / LOADED_INTERVAL_SECONDS),
      intervalSeconds: LOADED_INTERVAL_SECONDS,
      signal,
    });
  };
  const [series] = await Promise.all([pings(), load]);
  return { loadedRtt: roundTrip(series, 0.5), loadedRttP99: roundTrip(series, 0.99) };
}

function roundTrip({ roundTrips }: PingSeries, share: number): number {
  if (roundTrips.length === 0) throw systemError('no ping was answered');
  return percentile(roundTrips, share);
}

/** What of a load arrived. */
interface Delivered {
  readonly packets: number;
  /** Those that the receiving program read; undefined where it reads all. */
  readonly read?: number;
  /** Bytes of payload. */
  readonly bytes: number;
  /** Copied from the sending container and to the receiving one. */
  readonly containerBytes: number;
  readonly seconds: number;
}

/** Sends a load and says what it cost. */
async function carry(
  scene: Scene,
  load: Load,
  send: (seconds: number) => Promise<Delivered>,
): Promise<Round> {
  const { result: delivered, cost } = await observe(scene.overlay, () => send(scene.seconds));
  const { packets, seconds } = delivered;
  const { user, system, interrupts, steal, idle, switches } = cost.machine;
  const nanoseconds = (cpuSeconds: number): number => (cpuSeconds * 1e9) / packets;
  return named(load, {
    throughput: gbpsOf(delivered),
    packets: packets / seconds,
    read: delivered.read === undefined ? undefined : delivered.read / seconds,
    switches: cost.switches === undefined ? undefined : cost.switches / packets,
    machineSwitches: switches / packets,
    copied: copiedPerByte(scene, delivered, cost),
    user: nanoseconds(user),
    system: nanoseconds(system),
    softirq: nanoseconds(interrupts),
    steal: nanoseconds(steal),
    idle: nanoseconds(idle),
    busy: nanoseconds(busySeconds(cost.machine)),
    ...(await systemCalls(scene, delivered, cost, send)),
  });
}

/** Undefined of ends that do not count. */
function copiedPerByte(
  { overlay }: Scene,
  { bytes, containerBytes }: Delivered,
  { counters }: Cost,
): number | undefined {
  const ends = overlay.programs.length === 0 ? 0 : counters?.copiedBytes;
  return ends === undefined ? undefined : (containerBytes + ends) / bytes;
}

/** perf's count in a run of its own, or the ends' own; nothing when there is neither. */
async function systemCalls(
  { overlay, perf, seconds }: Scene,
  delivered: Delivered,
  { counters }: Cost,
  send: (seconds: number) => Promise<Delivered>,
): Promise<LoadValues> {
  if (overlay.programs.length === 0) return {};
  if (!perf) {
    return counters === undefined ? {} : { calls: counters.systemCalls / delivered.packets };
  }
  const { result, calls, yields } = await countCalls(overlay, () => send(seconds));
  return {
    calls: calls / result.packets,
    yields: yields / result.packets,
    counting: gbpsOf(result) / gbpsOf(delivered),
  };
}

type LoadValues = Partial<Record<LoadMetric, number | undefined>>;

/** The metrics of a load under the names they have in a round. */
function named(load: Load, values: LoadValues): Round {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) =>
      value === undefined ? [] : [[`${load}.${name}`, value]],
    ),
  );
}

function gbpsOf({ bytes, seconds }: Delivered): number {
  return (bytes * 8) / 1e9 / seconds;
}
