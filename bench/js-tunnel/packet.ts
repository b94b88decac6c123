/** What the teaching tunnel reads of a packet; native/core/ipv4.h is the fast one. */
import type { Ipv4 } from '../../src/config/ipv4.js';

const MIN_HEADER = 20;
const TTL = 8;
const CHECKSUM = 10;
const SOURCE = 12;
const DESTINATION = 16;

/** Total length of the IPv4 packet at the start of the bytes; 0 when there is no sound one. */
export function packetLength(bytes: Buffer, received: number): number {
  if (received < MIN_HEADER) return 0;
  const first = bytes.readUInt8(0);
  const header = (first & 0x0f) * 4;
  const total = bytes.readUInt16BE(2);
  if (first >> 4 !== 4 || header < MIN_HEADER || total < header || total > received) return 0;
  return headerSum(bytes, header) === 0xffff ? total : 0;
}

export function sourceOf(bytes: Buffer): Ipv4 {
  return bytes.readUInt32BE(SOURCE);
}

export function destinationOf(bytes: Buffer): Ipv4 {
  return bytes.readUInt32BE(DESTINATION);
}

/** One hop less, and the checksum with it (RFC 1624, equation 3); false when there is none left. */
export function decrementTtl(bytes: Buffer): boolean {
  const ttl = bytes.readUInt8(TTL);
  if (ttl <= 1) return false;
  bytes.writeUInt8(ttl - 1, TTL);
  // HC' = ~(~HC + ~m + m'): the word that holds the TTL is less by 0x0100, and -x is ~x.
  const sum = (~bytes.readUInt16BE(CHECKSUM) & 0xffff) + (~0x0100 & 0xffff);
  bytes.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, CHECKSUM);
  return true;
}

/** The ones' complement sum of a header, its checksum included: 0xffff when that is right. */
function headerSum(bytes: Buffer, header: number): number {
  let sum = 0;
  for (let at = 0; at < header; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}
