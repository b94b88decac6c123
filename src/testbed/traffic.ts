/**
 * Real traffic between containers: ping and iperf3, each bounded in time, their output read.
 */
import { systemError } from '../errors.js';
import { inNamespace, Program, run, waitFor } from './programs.js';
import { readSnmp } from './snmp.js';
import type { HostPlan } from './topology.js';

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  /** Round-trip times in milliseconds; undefined when nothing came back. */
  readonly minMs: number | undefined;
  readonly avgMs: number | undefined;
  readonly maxMs: number | undefined;
}

export interface PingOptions {
  readonly count?: number;
  readonly intervalSeconds?: number;
  /** ICMP payload bytes; default 56. */
  readonly size?: number;
  /** Set DF and refuse to fragment. */
  readonly dontFragment?: boolean;
  /** Where it is sent from; default the host's container. */
  readonly namespace?: string;
  readonly signal?: AbortSignal;
}

export async function ping(
  from: HostPlan,
  address: string,
  options: PingOptions = {},
): Promise<PingResult> {
  const count = options.count ?? 20;
  const interval = options.intervalSeconds ?? 0.1;
  const seconds = Math.ceil(count * interval) + 3;
  const argv = ['ping', '-n', '-c', String(count), '-i', String(interval), '-W', '2'];
  argv.push('-w', String(seconds), '-s', String(options.size ?? 56));
  if (options.dontFragment === true) argv.push('-M', 'do');
  const { stdout } = await run(
    inNamespace(options.namespace ?? from.container, [...argv, address]),
    {
      timeoutMs: (seconds + 5) * 1_000,
      accept: [0, 1],
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    },
  );
  return parsePing(stdout, count);
}

/**
 * Reads what iputils ping printed about the first `count` requests. With -w it goes on to send until
 * that many are answered, so the summary counts a request too many when an answer is late.
 */
export function parsePing(output: string, count: number): PingResult {
  const transmitted = /(\d+) packets transmitted/.exec(output)?.[1];
  if (transmitted === undefined) {
    throw systemError(`ping printed no summary: ${output.slice(-200)}`);
  }
  const times = /= ([\d.]+)\/([\d.]+)\/([\d.]+)\//.exec(output);
  const [minMs, avgMs, maxMs] = (times?.slice(1) ?? []).map(Number);
  // An error names its request too, but is not so many bytes from somebody.
  const answered = [...output.matchAll(/ bytes from .*icmp_seq=(\d+)/g)].map((line) =>
    Number(line[1]),
  );
  const received = new Set(answered.filter((request) => request <= count)).size;
  return { sent: Math.min(Number(transmitted), count), received, minMs, avgMs, maxMs };
}

/** What became of one ping; `silent` is neither an answer nor an error. */
export type ProbeOutcome =
  'answered' | 'net unreachable' | 'host unreachable' | 'other error' | 'silent';

/** One ping, waiting at most 0.5 s for its answer. */
export async function probe(
  from: HostPlan,
  address: string,
  signal: AbortSignal,
): Promise<ProbeOutcome> {
  const argv = ['ping', '-n', '-c', '1', '-W', '0.5', address];
  // 1: nothing came back.
  const { stdout } = await run(inNamespace(from.container, argv), { accept: [0, 1], signal });
  return parseProbe(stdout);
}

export function parseProbe(output: string): ProbeOutcome {
  if (parsePing(output, 1).received > 0) return 'answered';
  if (output.includes('Destination Net Unreachable')) return 'net unreachable';
  if (output.includes('Destination Host Unreachable')) return 'host unreachable';
  return /\+\d+ errors/.test(output) ? 'other error' : 'silent';
}

/** Packets of one train of a stream, and the default seconds between them. */
const TRAIN = { count: 25, intervalSeconds: 0.02 };

/**
 * About 50 pings a second by default, until it is to end, in trains: one ping that is interrupted would count the
 * packet under way as lost. Where no answer comes ping sends every 10 ms at the most: what is lost then is no
 * measure of time.
 */
export class PingStream {
  readonly #done: Promise<{ sent: number; received: number }>;
  #ending = false;

  constructor(from: HostPlan, address: string, options: Omit<PingOptions, 'count'>) {
    this.#done = this.#run(from, address, { ...TRAIN, ...options });
    // The caller of `end` gets the error.
    this.#done.catch(() => undefined);
  }

  /** Ends with the train under way; its answers are waited for. */
  async end(): Promise<{ sent: number; received: number }> {
    this.#ending = true;
    return this.#done;
  }

  async #run(
    from: HostPlan,
    address: string,
    options: PingOptions,
  ): Promise<{ sent: number; received: number }> {
    const total = { sent: 0, received: 0 };
    do {
      const { sent, received } = await ping(from, address, options);
      total.sent += sent;
      total.received += received;
    } while (!this.#ending);
    return total;
  }
}

/**
 * What TCP is measured with in a namespace: CUBIC, Linux's default, where the kernel has it, whatever
 * this machine is set to; the default of a network namespace can be set to it only where the machine
 * allows everyone CUBIC. Old kernels tell less in a namespace (4.19 what is in use, not what there is):
 * then it is what is in use, or undefined for the kernel's default.
 */
export async function congestionControl(namespace: string): Promise<string | undefined> {
  const read = async (name: string): Promise<string | undefined> => {
    // -e: no failure where there is no such setting.
    const argv = ['sysctl', '-n', '-e', `net.ipv4.tcp_${name}`];
    const text = (await run(inNamespace(namespace, argv))).stdout.trim();
    return text === '' ? undefined : text;
  };
  const available = await read('available_congestion_control');
  return available?.split(' ').includes('cubic') === true ? 'cubic' : read('congestion_control');
}

export interface TcpResult {
  /** At the receiver, in Gbit/s of TCP payload. */
  readonly gbps: number;
  readonly retransmits: number;
}

/** Datagrams on their way: what is lost before `arrived` the network lost, the rest the receiver. */
export interface UdpResult {
  /** By the sending program. */
  readonly sentPackets: number;
  /** At the receiver's socket, by its kernel: read by the program, or dropped as its buffer was full. */
  readonly arrivedPackets: number;
  /** Read by the receiving program. */
  readonly receivedPackets: number;
  /** How long was sent, and how long received: what stands in queues arrives later. */
  readonly sentSeconds: number;
  readonly receivedSeconds: number;
}

export interface LoadOptions {
  readonly seconds: number;
  /** Payload of each stream; default as fast as it goes. */
  readonly bitsPerSecond?: number;
  /** The server's; default 5201. */
  readonly port?: number;
  readonly signal?: AbortSignal;
}

export interface TcpOptions extends LoadOptions {
  /** From the server to the client. */
  readonly reverse?: boolean;
  /** Both ways at once; not with `reverse`. */
  readonly bidirectional?: boolean;
  /** Default 1. */
  readonly streams?: number;
}

/**
 * iperf3 towards a container, one measurement after another. Each has a server of its own: one that
 * still ends the test before resets the next client's connection.
 */
export class IperfTarget {
  readonly #at: HostPlan;

  constructor(at: HostPlan) {
    this.#at = at;
  }

  /** TCP from a container to the server's, back, or both at once; then the result is the sum. */
  async tcp(from: HostPlan, options: TcpOptions): Promise<TcpResult> {
    const flags = ['--parallel', String(options.streams ?? 1)];
    if (options.bitsPerSecond !== undefined) {
      flags.push('--bitrate', String(options.bitsPerSecond));
    }
    const congestion = await congestionControl(from.container);
    if (congestion !== undefined) flags.push('--congestion', congestion);
    if (options.reverse === true) flags.push('--reverse');
    if (options.bidirectional === true) flags.push('--bidir');
    const end = await this.#measure(from, options, flags);
    return readTcp(end, options.bidirectional === true);
  }

  /** UDP as fast as one sender can, in datagrams of `bytes` of payload. */
  async udp(from: HostPlan, options: LoadOptions & { bytes: number }): Promise<UdpResult> {
    const bitrate = String(options.bitsPerSecond ?? 0);
    const flags = ['--udp', '--bitrate', bitrate, '--length', String(options.bytes)];
    const before = await arrivals(this.#at);
    const end = await this.#measure(from, options, flags);
    return readUdp(end, (await arrivals(this.#at)) - before);
  }

  async #measure(
    from: HostPlan,
    options: LoadOptions,
    flags: readonly string[],
  ): Promise<Record<string, unknown>> {
    const address = this.#at.containerAddress;
    const port = String(options.port ?? 5201);
    // Of a long load the reports of every second would be more than is kept of a program's output.
    const interval = options.seconds > 100 ? ['--interval', '0'] : [];
    const argv = ['iperf3', '-J', '-c', address, '-p', port, '-t', String(options.seconds)];
    argv.push(...interval, ...flags);
    const server = await this.#listen(port);
    const { stdout } = await run(inNamespace(from.container, argv), {
      timeoutMs: (options.seconds + 10) * 1_000,
      accept: [0, 1],
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    }).finally(() => server.stop());
    const report = JSON.parse(stdout) as { error?: string; end?: Record<string, unknown> };
    if (report.error !== undefined || report.end === undefined) {
      throw systemError(`${argv.join(' ')}: ${report.error ?? 'no result'}`);
    }
    return report.end;
  }

  async #listen(port: string): Promise<Program> {
    const argv = ['iperf3', '-s', '-p', port, '--one-off', '--forceflush'];
    const server = new Program(inNamespace(this.#at.container, argv));
    try {
      await waitFor('iperf3 -s', 5_000, () => {
        if (!server.running) throw systemError(`iperf3 -s: ${server.stderr || server.stdout}`);
        return server.stdout.includes('Server listening') ? true : undefined;
      });
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }
}

/** Datagrams that have arrived at sockets of a container so far, whatever became of them then. */
async function arrivals({ container }: HostPlan): Promise<number> {
  const snmp = await readSnmp(container);
  return snmp('Udp', 'InDatagrams') + snmp('Udp', 'RcvbufErrors');
}

/** Opens iperf3's stream of datagrams. */
const GREETING = 1;

/** Reads the end of iperf3's report of UDP; before 3.10 it has one sum for both ends. */
export function readUdp(end: Record<string, unknown>, arrived: number): UdpResult {
  const [sent, received] = ['sum_sent', 'sum_received'].map((name) =>
    readSum(end, name in end ? name : 'sum'),
  ) as [Record<string, unknown>, Record<string, unknown>];
  const sentPackets = readNumber(sent, 'packets');
  const receivedPackets = readNumber(received, 'packets') - readNumber(received, 'lost_packets');
  return {
    sentPackets,
    // Some may lie unread in the socket when the program closes it: neither read nor dropped.
    arrivedPackets: Math.min(sentPackets, Math.max(receivedPackets, arrived - GREETING)),
    receivedPackets,
    sentSeconds: readNumber(sent, 'seconds'),
    receivedSeconds: readNumber(received, 'seconds'),
  };
}

/** Reads the end of iperf3's report; of both ways it has a sum each. */
export function readTcp(end: Record<string, unknown>, bidirectional: boolean): TcpResult {
  const ways = bidirectional ? ['', '_bidir_reverse'] : [''];
  const sum = (name: string, value: string, missing?: number): number =>
    ways.reduce((total, way) => total + readNumber(readSum(end, name + way), value, missing), 0);
  return {
    gbps: sum('sum_received', 'bits_per_second') / 1e9,
    retransmits: sum('sum_sent', 'retransmits', 0),
  };
}

function readSum(end: Record<string, unknown>, name: string): Record<string, unknown> {
  const sum = end[name];
  if (typeof sum !== 'object' || sum === null) throw systemError(`iperf3 reported no ${name}`);
  return sum as Record<string, unknown>;
}

function readNumber(from: Record<string, unknown>, name: string, missing?: number): number {
  const value = from[name] ?? missing;
  if (typeof value !== 'number') throw systemError(`iperf3 reported no ${name}`);
  return value;
}
