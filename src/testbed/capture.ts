/**
 * The capture check: what crosses the wire is exactly the inner IP packet, in the backend's format
 * (wire/format.ts) or as it is.
 *
 * tcpdump listens on host-1's eth0 and on both containers while pings go both ways. Every frame
 * on the wire must carry, byte for byte, a packet that a container sent; only TTL (one less for the
 * host's forwarding, with udp one less for encapsulation) and header checksum may differ, and must
 * differ right. And every packet a container sent must be on the wire.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemError } from '../errors.js';
import { inNamespace, Program, run, waitFor } from './programs.js';
import { ECHO_FILTER, UDP_FORMAT, type Opened, type WireFormat } from './wire/format.js';
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

/** Many start at once, on a machine that may have one slow CPU. */
const START_LIMIT_MS = 20_000;

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
      await waitFor(`tcpdump in ${place.namespace ?? 'the switch'}`, START_LIMIT_MS, () => {
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
export async function startCaptures(
  near: HostPlan,
  far: HostPlan,
  format = UDP_FORMAT,
): Promise<Captures> {
  await offerTrains([near, far], false);
  const started = await Capture.startAll([
    { namespace: near.host, filter: format.filter },
    { namespace: near.container, filter: ECHO_FILTER },
    { namespace: far.container, filter: ECHO_FILTER },
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
  /** On the wire, whatever they are called there. */
  readonly datagrams: number;
  /** Those whose payload is a packet a container sent. */
  readonly matched: number;
  /** One line for each deviation, at most twenty. */
  readonly problems: readonly string[];
}

export interface CaptureSides {
  /** Frames between the hosts. */
  readonly wire: readonly Buffer[];
  /** How packets travel there; default UDP_FORMAT. */
  readonly format?: WireFormat;
  /**
   * Packets the containers must have sent, both together; not checked when undefined. More are none too many: ping
   * sends further requests while an answer is late.
   */
  readonly expected?: number;
  /** Frames at each container, with the address of the host it is on. */
  readonly sides: readonly {
    readonly hostAddress: string;
    readonly containerAddress: string;
    /** What is taken from the TTL between that container and the wire. */
    readonly ttlTaken: number;
    readonly frames: readonly Buffer[];
  }[];
}

export function checkCapture({
  wire,
  sides,
  expected,
  format = UDP_FORMAT,
}: CaptureSides): CaptureCheck {
  const problems: string[] = [];
  const sent = new Map<string, SentPacket>();
  for (const { hostAddress, containerAddress, ttlTaken, frames } of sides) {
    for (const frame of frames) {
      const packet = ipv4Of(frame);
      if (packet === undefined || addressAt(packet, 12) !== containerAddress) continue;
      sent.set(identity(packet), { packet, hostAddress, ttlTaken, seen: false });
    }
  }
  const hosts = new Set(sides.map((side) => side.hostAddress));
  let matched = 0;
  wire.forEach((frame, index) => {
    const opened = format.open(frame, hosts);
    const problem = typeof opened === 'string' ? opened : checkPacket(opened, sent);
    if (problem === undefined) matched += 1;
    else problems.push(`${format.noun} ${index + 1}: ${problem}`);
  });
  for (const { packet, seen } of sent.values()) {
    if (!seen) problems.push(`packet ${describe(packet)} was sent but is not on the wire`);
  }
  if (wire.length === 0) problems.push(`no ${format.noun} was captured`);
  if (expected !== undefined && sent.size < expected) {
    problems.push(`the containers sent ${sent.size} packets, expected at least ${expected}`);
  }
  return {
    ok: problems.length === 0,
    datagrams: wire.length,
    matched,
    problems: problems.slice(0, 20),
  };
}

interface SentPacket {
  readonly packet: Buffer;
  readonly hostAddress: string;
  readonly ttlTaken: number;
  seen: boolean;
}

/** The packet inside, against what its container sent. */
function checkPacket(
  { packet: found, sender }: Opened,
  sent: ReadonlyMap<string, SentPacket>,
): string | undefined {
  if (found.length < 20) return `payload of ${found.length} bytes is no IPv4 packet`;
  if (found.readUInt8(0) >> 4 !== 4) return `payload of IP version ${found.readUInt8(0) >> 4}`;
  const total = found.readUInt16BE(2);
  if (total !== found.length) return `inner total length ${total}, payload ${found.length}`;
  const origin = sent.get(identity(found));
  if (origin === undefined) return `no container sent ${describe(found)}`;
  if (sender !== undefined && origin.hostAddress !== sender) {
    return `${describe(found)} came from ${sender}`;
  }
  if (origin.seen) return `${describe(found)} is on the wire twice`;
  origin.seen = true;
  const expected = Buffer.from(origin.packet);
  expected.writeUInt8(expected.readUInt8(8) - origin.ttlTaken, 8);
  expected.writeUInt16BE(0, 10);
  expected.writeUInt16BE(headerChecksum(expected), 10);
  for (let at = 0; at < expected.length; at += 1) {
    if (expected[at] !== found[at]) {
      return `inner byte ${at} is ${String(found[at])}, the container sent ${String(expected[at])}`;
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
