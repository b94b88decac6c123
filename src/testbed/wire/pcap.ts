/**
 * Capture files of tcpdump (draft-ietf-opsawg-pcap): either byte order, micro- or nanoseconds, of
 * Ethernet devices and of those without a link layer, such as a TUN. Only what the lab needs.
 */
import { systemError } from '../../errors.js';

const HEADER_BYTES = 24;
const RECORD_BYTES = 16;
export const LINKTYPE_ETHERNET = 1;
/** The frame is an IP packet. */
export const LINKTYPE_RAW = 101;
export const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;

export interface PcapRecord {
  /** Nanoseconds since 1970. */
  readonly timeNs: bigint;
  readonly frame: Buffer;
}

export interface PcapFile {
  readonly linkType: number;
  readonly records: readonly PcapRecord[];
}

/** Reads a capture file; a record cut off at its end is left out. */
export function readPcap(file: Buffer): PcapFile {
  if (file.length < HEADER_BYTES) throw systemError('the capture file is empty');
  const { little, fractionNs } = readMagic(file.readUInt32LE(0));
  const u32 = (at: number): number => (little ? file.readUInt32LE(at) : file.readUInt32BE(at));
  const records: PcapRecord[] = [];
  let at = HEADER_BYTES;
  while (at + RECORD_BYTES <= file.length) {
    const timeNs = BigInt(u32(at)) * 1_000_000_000n + BigInt(u32(at + 4)) * fractionNs;
    const length = u32(at + 8);
    const start = at + RECORD_BYTES;
    if (start + length > file.length) break;
    records.push({ timeNs, frame: file.subarray(start, start + length) });
    at = start + length;
  }
  return { linkType: u32(20) & 0x0fffffff, records };
}

/** The frames of an Ethernet device's capture file. */
export function readFrames(file: Buffer): Buffer[] {
  const { linkType, records } = readPcap(file);
  if (linkType !== LINKTYPE_ETHERNET) {
    throw systemError(`the capture file has link type ${linkType}, expected Ethernet (1)`);
  }
  return records.map(({ frame }) => frame);
}

function readMagic(magic: number): { little: boolean; fractionNs: bigint } {
  switch (magic) {
    case 0xa1b2c3d4:
      return { little: true, fractionNs: 1_000n };
    case 0xa1b23c4d:
      return { little: true, fractionNs: 1n };
    case 0xd4c3b2a1:
      return { little: false, fractionNs: 1_000n };
    case 0x4d3cb2a1:
      return { little: false, fractionNs: 1n };
    default:
      throw systemError(
        `the capture file starts with 0x${magic.toString(16)}, expected a pcap magic`,
      );
  }
}

/**
 * The IPv4 packet of a frame without padding; undefined when it carries none. Default is an Ethernet
 * frame.
 */
export function ipv4Of(frame: Buffer, linkType = LINKTYPE_ETHERNET): Buffer | undefined {
  const start = linkType === LINKTYPE_RAW ? 0 : ETHERNET_BYTES;
  if (frame.length < start + 20) return undefined;
  const ipv4 =
    start === 0 ? frame.readUInt8(0) >> 4 === 4 : frame.readUInt16BE(12) === ETHERTYPE_IPV4;
  if (!ipv4) return undefined;
  const total = frame.readUInt16BE(start + 2);
  if (total < 20 || start + total > frame.length) return undefined;
  return frame.subarray(start, start + total);
}
