/**
 * The capture check: what crosses the wire on UDP 8285 is exactly the inner IP packet.
 *
 * tcpdump listens on host-1's eth0 and on both containers while pings go both ways. Every datagram
 * on the wire must carry, byte for byte, a packet that a container sent; only TTL (one less for the
 * host's forwarding, one less for encapsulation) and header checksum may differ, and must differ
 * right. And every packet a container sent must be on the wire.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemError } from '../errors.js';
import { inNamespace, Program, run, waitFor } from './programs.js';
import { TUNNEL_PORT } from './daemon-process.js';
import { addressAt, headerChecksum } from './wire/packet.js';
import { ipv4Of, readFrames, readPcap, type PcapFile } from './wire/pcap.js';
import { LAB_DIRECTORY, type HostPlan } from './topology.js';

/** Where a capture listens; `namespace` undefined for our own, `device` default eth0. */
export interface CapturePlace {
  readonly namespace: string | undefined;
  readonly device?: string;
  /** In tcpdump's words. */
  readonly filter: string;
}

/** A tcpdump writing to a file. */
export class Capture {
  readonly file: string;
  readonly #program: Program;

  private constructor({ namespace, device = 'eth0', filter }: CapturePlace) {
    this.file = join(LAB_DIRECTORY, `${namespace ?? 'switch'}-${device}.pcap`);
    this.#program = new Program(
      inNamespace(namespace, [
        ...['tcpdump', '-i', device, '-n', '-U', '--immediate-mode', '-Z', 'root'],
        ...['--time-stamp-precision=nano', '-w', this.file, ...filter.split(' ')],
      ]),
    );
  }

  static async start(place: CapturePlace): Promise<Capture> {
    const capture = new Capture(place);
    try {
      await waitFor(`tcpdump in ${place.namespace ?? 'the switch'}`, 5_000, () => {
        if (!capture.#program.running) throw systemError(`tcpdump: ${capture.#program.stderr}`);
        return capture.#program.stderr.includes('listening on') ? true : undefined;
      });
    } catch (error) {
      await capture.end();
      throw error;
    }
    return capture;
  }

  /** Starts captures together; when one cannot start, none goes on. */
  static async startAll(places: readonly CapturePlace[]): Promise<Capture[]> {
    const starting = places.map((place) => Capture.start(place));
    try {
      return await Promise.all(starting);
    } catch (error) {
      const results = await Promise.allSettled(starting);
      await Promise.all(
        results.flatMap((result) => (result.status === 'fulfilled' ? [result.value.end()] : [])),
      );
      throw error;
    }
  }

  /** What is written so far. */
  async read(): Promise<PcapFile> {
    return readPcap(await readFile(this.file));
  }

  /** Frames written so far; of an Ethernet device only. */
  async frames(): Promise<Buffer[]> {
    return readFrames(await readFile(this.file));
  }

  /** Ends tcpdump, which drops what it has not read yet. */
  async end(): Promise<void> {
    await this.#program.stop();
  }

  /** Ends tcpdump and reads what it wrote; of an Ethernet device only. */
  async stop(): Promise<Buffer[]> {
    await this.end();
    return this.frames();
  }
}

/**
 * A train of datagrams (UDP_SEGMENT) is cut by the network card; a veth passes it on whole, and a
 * capture there shows what no wire carries. Without this offload the kernel cuts it in front.
 */
async function offerTrains(hosts: readonly HostPlan[], on: boolean): Promise<void> {
  for (const plan of hosts) {
    const argv = ['ethtool', '-K', 'eth0', 'tx-udp-segmentation', on ? 'on' : 'off'];
    // A kernel without the feature has no trains either.
    await run(inNamespace(plan.host, argv), { accept: [0, 1, 92] });
  }
}

/** Starts the three captures of the check. */
export async function startCaptures(near: HostPlan, far: HostPlan): Promise<Captures> {
  await offerTrains([near, far], false);
  const echo = 'icmp[icmptype] == icmp-echo or icmp[icmptype] == icmp-echoreply';
  const started = await Capture.startAll([
    { namespace: near.host, filter: `udp port ${TUNNEL_PORT}` },
    { namespace: near.container, filter: echo },
    { namespace: far.container, filter: echo },
  ]);
  return {
    settle: async (packets, deadlineMs = 2_000) => {
      const deadline = Date.now() + deadlineMs;
      const enough = async (capture: Capture): Promise<boolean> => {
        // Not even a file header yet is as good as no frame.
        const frames = await capture.frames().catch(() => []);
        return frames.length >= packets;
      };
      while (!(await Promise.all(started.map(enough))).every(Boolean) && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    stop: async () => {
      const [wire = [], nearSide = [], farSide = []] = await Promise.all(
        started.map((capture) => capture.stop()),
      );
      await offerTrains([near, far], true);
      return { wire, near: nearSide, far: farSide };
    },
  };
}

export interface Captures {
  /**
   * Waits until every capture has written this many frames: tcpdump drops what it has not read yet
   * when it is ended. Gives up without error; the check then says what is missing.
   */
  settle(packets: number, deadlineMs?: number): Promise<void>;
  stop(): Promise<{ wire: Buffer[]; near: Buffer[]; far: Buffer[] }>;
}

export interface CaptureCheck {
  readonly ok: boolean;
  readonly datagrams: number;
  /** Datagrams whose payload is a packet a container sent. */
  readonly matched: number;
  /** One line for each deviation, at most twenty. */
  readonly problems: readonly string[];
}

export interface CaptureSides {
  readonly wire: readonly Buffer[];
  /** Packets the containers must have sent, both together; not checked when undefined. */
  readonly expected?: number;
  /** Frames at each container, with the address of the host it is on. */
  readonly sides: readonly {
    readonly hostAddress: string;
    readonly containerAddress: string;
    readonly frames: readonly Buffer[];
  }[];
}

export function checkCapture({ wire, sides, expected }: CaptureSides): CaptureCheck {
  const problems: string[] = [];
  const sent = new Map<string, { packet: Buffer; hostAddress: string; seen: boolean }>();
  for (const { hostAddress, containerAddress, frames } of sides) {
    for (const frame of frames) {
      const packet = ipv4Of(frame);
      if (packet === undefined || addressAt(packet, 12) !== containerAddress) continue;
      sent.set(identity(packet), { packet, hostAddress, seen: false });
    }
  }
  const hosts = new Set(sides.map((side) => side.hostAddress));
  let matched = 0;
  wire.forEach((frame, index) => {
    const problem = checkDatagram(frame, hosts, sent);
    if (problem === undefined) matched += 1;
    else problems.push(`datagram ${index + 1}: ${problem}`);
  });
  for (const { packet, seen } of sent.values()) {
    if (!seen) problems.push(`packet ${describe(packet)} was sent but is not on the wire`);
  }
  if (wire.length === 0) problems.push('no datagram was captured');
  if (expected !== undefined && sent.size !== expected) {
    problems.push(`the containers sent ${sent.size} packets, expected ${expected}`);
  }
  return {
    ok: problems.length === 0,
    datagrams: wire.length,
    matched,
    problems: problems.slice(0, 20),
  };
}

function checkDatagram(
  frame: Buffer,
  hosts: ReadonlySet<string>,
  sent: ReadonlyMap<string, { packet: Buffer; hostAddress: string; seen: boolean }>,
): string | undefined {
  const outer = ipv4Of(frame);
  if (outer === undefined) return 'not an IPv4 frame';
  const header = (outer.readUInt8(0) & 0x0f) * 4;
  if (outer.readUInt8(9) !== 17) return `outer protocol ${outer.readUInt8(9)}, expected UDP (17)`;
  if ((outer.readUInt16BE(6) & 0x3fff) !== 0) return 'the outer packet is a fragment';
  const udp = outer.subarray(header);
  if (udp.length < 8) return 'the UDP header is cut';
  const ports = [udp.readUInt16BE(0), udp.readUInt16BE(2)];
  if (ports.some((port) => port !== TUNNEL_PORT)) {
    return `UDP ports ${ports.join(' to ')}, expected ${TUNNEL_PORT} to ${TUNNEL_PORT}`;
  }
  const source = addressAt(outer, 12);
  const destination = addressAt(outer, 16);
  if (!hosts.has(source) || !hosts.has(destination) || source === destination) {
    return `outer addresses ${source} to ${destination}, expected one host to the other`;
  }
  const length = udp.readUInt16BE(4);
  if (length !== udp.length) return `UDP length ${length}, captured ${udp.length}`;
  return checkPayload(udp.subarray(8), source, sent);
}

function checkPayload(
  payload: Buffer,
  source: string,
  sent: ReadonlyMap<string, { packet: Buffer; hostAddress: string; seen: boolean }>,
): string | undefined {
  if (payload.length < 20) return `payload of ${payload.length} bytes is no IPv4 packet`;
  if (payload.readUInt8(0) >> 4 !== 4) return `payload of IP version ${payload.readUInt8(0) >> 4}`;
  const total = payload.readUInt16BE(2);
  if (total !== payload.length) return `inner total length ${total}, payload ${payload.length}`;
  const origin = sent.get(identity(payload));
  if (origin === undefined) return `no container sent ${describe(payload)}`;
  if (origin.hostAddress !== source) return `${describe(payload)} came from ${source}`;
  if (origin.seen) return `${describe(payload)} is on the wire twice`;
  origin.seen = true;
  const expected = Buffer.from(origin.packet);
  expected.writeUInt8(expected.readUInt8(8) - 2, 8);
  expected.writeUInt16BE(0, 10);
  expected.writeUInt16BE(headerChecksum(expected), 10);
  for (let at = 0; at < expected.length; at += 1) {
    if (expected[at] !== payload[at]) {
      return `inner byte ${at} is ${String(payload[at])}, the container sent ${String(expected[at])}`;
    }
  }
  return undefined;
}

/** What a packet keeps on its way: addresses, protocol, IP ID and the first 8 payload bytes. */
function identity(packet: Buffer): string {
  const header = (packet.readUInt8(0) & 0x0f) * 4;
  return [
    packet.toString('hex', 4, 8),
    packet.toString('hex', 9, 10),
    packet.toString('hex', 12, 20),
    packet.toString('hex', header, header + 8),
  ].join(' ');
}

function describe(packet: Buffer): string {
  return `${addressAt(packet, 12)} to ${addressAt(packet, 16)} id ${packet.readUInt16BE(4)} (${packet.length} bytes)`;
}
