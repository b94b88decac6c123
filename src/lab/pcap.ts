/**
 * Capture files of tcpdump (draft-ietf-opsawg-pcap): either byte order, micro- or nanoseconds,
 * Ethernet link type. Only what the capture check needs.
 */
import { systemError } from '../errors.js';

const HEADER_BYTES = 24;
const RECORD_BYTES = 16;
const LINKTYPE_ETHERNET = 1;
const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;

/** The frames of a capture file; a record cut off at the end of the file is left out. */
export function readFrames(file: Buffer): Buffer[] {
  if (file.length < HEADER_BYTES) throw systemError('the capture file is empty');
  const little = isLittleEndian(file.readUInt32LE(0));
  const u32 = (at: number): number => (little ? file.readUInt32LE(at) : file.readUInt32BE(at));
  const linkType = u32(20) & 0x0fffffff;
  if (linkType !== LINKTYPE_ETHERNET) {
    throw systemError(`the capture file has link type ${linkType}, expected Ethernet (1)`);
  }
  const frames: Buffer[] = [];
  let at = HEADER_BYTES;
  while (at + RECORD_BYTES <= file.length) {
    const length = u32(at + 8);
    const start = at + RECORD_BYTES;
    if (start + length > file.length) break;
    frames.push(file.subarray(start, start + length));
    at = start + length;
  }
  return frames;
}

function isLittleEndian(magic: number): boolean {
  if (magic === 0xa1b2c3d4 || magic === 0xa1b23c4d) return true;
  if (magic === 0xd4c3b2a1 || magic === 0x4d3cb2a1) return false;
  throw systemError(`the capture file starts with 0x${magic.toString(16)}, expected a pcap magic`);
}

/** The IPv4 packet of an Ethernet frame without its padding; undefined when it carries none. */
export function ipv4Of(frame: Buffer): Buffer | undefined {
  if (frame.length < ETHERNET_BYTES + 20) return undefined;
  if (frame.readUInt16BE(12) !== ETHERTYPE_IPV4) return undefined;
  const total = frame.readUInt16BE(ETHERNET_BYTES + 2);
  if (total < 20 || ETHERNET_BYTES + total > frame.length) return undefined;
  return frame.subarray(ETHERNET_BYTES, ETHERNET_BYTES + total);
}
