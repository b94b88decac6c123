/** The measurements of a round, each of which yields some metrics. */
import { join } from 'node:path';
import { systemError } from '../../src/errors.js';
import { inNamespace, run } from '../../src/lab/commands.js';
import { readSnmp } from '../../src/lab/snmp.js';
import { ipBatch, type HostPlan } from '../../src/lab/topology.js';
import { IperfTarget, type TcpOptions } from '../../src/lab/traffic.js';
import { PROJECT } from '../command.js';
import { percentile, pingSeries, type PingSeries } from '../ping.js';
import type { MetricKey, Round } from './metrics.js';
import { busySeconds, countCalls, observe, type Cost } from './observe.js';
import type { Raised, Subject } from './subject.js';

export interface Scene {
  readonly subject: Subject;
  readonly raised: Raised;
  readonly near: HostPlan;
  readonly far: HostPlan;
  /** Of the overlay, in bytes. */
  readonly mtu: number;
  /** Length of a throughput measurement. */
  readonly seconds: number;
  /** System calls of ends that do not count them can be counted. */
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
/** Of a run in which perf counts. */
const COUNT_SECONDS = 1;
const IDLE_PINGS = 2_000;
const LOADED_INTERVAL_SECONDS = 0.005;
const LOAD_SETTLES_MS = 500;

const always = (): boolean => true;
const streams = (
  name: StepName,
  key: MetricKey,
  options: Omit<TcpOptions, 'seconds' | 'signal'>,
): Step => ({
  ...{ name, key, applies: always },
  measure: async ({ near, far, seconds, signal }) => {
    const { gbps } = await new IperfTarget(far).tcp(near, { ...options, seconds, signal });
    return { [key]: gbps };
  },
});

export const STEPS: readonly Step[] = [
  { name: 'ping', key: 'rtt', applies: always, measure: idlePings },
  { name: 'tcp', key: 'tcp', applies: always, measure: tcp },
  streams('tcp4', 'tcp4', { streams: 4 }),
  streams('reverse', 'tcpReverse', { reverse: true }),
  streams('both', 'tcpBoth', { bidirectional: true }),
  { name: 'udp64', key: 'udp64', applies: always, measure: smallUdp },
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
    ...{ count: IDLE_PINGS, deadlineSeconds: 5, signal },
  });
  return { rtt: roundTrip(series, 0.5), rttP99: roundTrip(series, 0.99) };
}

async function tcp(scene: Scene): Promise<Round> {
  const { near, far, raised, seconds, signal } = scene;
  const target = new IperfTarget(far);
  const { result, cost } = await observe(raised, () => target.tcp(near, { seconds, signal }));
  const packets = (gbps: number, length: number): number =>
    (gbps * 1e9 * length) / 8 / (scene.mtu - TCP_HEADERS);
  const calls = await callsPerPacket(scene, cost, packets(result.gbps, seconds), async () => {
    const { gbps } = await target.tcp(near, { seconds: COUNT_SECONDS, signal });
    return packets(gbps, COUNT_SECONDS);
  });
  const { user, system, interrupts, steal, idle } = cost.machine;
  const all = user + system + interrupts + steal + idle;
  return {
    tcp: result.gbps,
    tcpCpu: busySeconds(cost.machine) / (result.gbps * seconds),
    ...{ user: (user / all) * 100, system: (system / all) * 100 },
    ...{ interrupts: (interrupts / all) * 100, idle: (idle / all) * 100 },
    ...only('tcpCalls', calls),
    ...only('tcpSwitches', perPacket(cost.switches, packets(result.gbps, seconds))),
    tcpMachineSwitches: cost.machine.switches / packets(result.gbps, seconds),
  };
}

async function smallUdp(scene: Scene): Promise<Round> {
  const { near, far, raised, seconds, signal } = scene;
  const target = new IperfTarget(far);
  const bytes = SMALL_PAYLOAD;
  const { result, cost } = await observe(raised, () =>
    target.udp(near, { seconds, bytes, signal }),
  );
  const packets = result.receivedPackets;
  const calls = await callsPerPacket(scene, cost, packets, async () => {
    const counted = await target.udp(near, { seconds: COUNT_SECONDS, bytes, signal });
    return counted.receivedPackets;
  });
  return {
    udp64: result.receivedPps,
    udpCpu: (busySeconds(cost.machine) * 1e6) / packets,
    ...only('udpCalls', calls),
    ...only('udpSwitches', perPacket(cost.switches, packets)),
    udpMachineSwitches: cost.machine.switches / packets,
  };
}

async function largeUdp({ near, far, seconds, signal }: Scene): Promise<Round> {
  const options = { seconds, bytes: LARGE_PAYLOAD, signal };
  return { udp1372: (await new IperfTarget(far).udp(near, options)).receivedPps };
}

/** Small packets to addresses at random, all of which are the far container's. */
async function scatter({ subject, near, far, seconds, signal }: Scene): Promise<Round> {
  const network = subject.scatter ?? '';
  await ipBatch(far.host, [`route add ${network} via ${far.containerAddress} dev docker0`]);
  await ipBatch(far.container, [`route add local ${network} dev lo`]);
  // Nobody listens: the container's kernel counts what arrives.
  const arrived = async (): Promise<number> => (await readSnmp(far.container))('Udp', 'NoPorts');
  const before = await arrived();
  const argv = [join(PROJECT, 'bench', 'lab', 'build', 'scatter'), network];
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

/** The ends' own count, else perf's in a run of its own; undefined when there is neither. */
async function callsPerPacket(
  { raised, perf }: Scene,
  { calls }: Cost,
  packets: number,
  again: () => Promise<number>,
): Promise<number | undefined> {
  if (calls !== undefined) return calls / packets;
  if (raised.programs.length === 0 || !perf) return undefined;
  const counted = await countCalls(raised, again);
  return counted.calls / counted.result;
}

function perPacket(count: number | undefined, packets: number): number | undefined {
  return count === undefined ? undefined : count / packets;
}

function only(key: MetricKey, value: number | undefined): Round {
  return value === undefined ? {} : { [key]: value };
}
