/**
 * IPv4 packets in captures, decoded: IPv4 (RFC 791), ICMP (RFC 792), UDP (RFC 768), TCP (RFC 9293).
 * Not for the packet path: the daemons read packets in native/core.
 */

/** Numbers of the IPv4 header's protocol field. */
export const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17 } as const;
export type Protocol = keyof typeof PROTOCOLS;

/** Bytes of a header without options. */
export const HEADER_BYTES = { ipv4: 20, icmp: 8, udp: 8, tcp: 20 } as const;

/**
 * What a checksum field holds. `left to the device`: the sum of the pseudo-header only, which is what
 * Linux leaves there when a device further on offers to complete it. `none`: UDP's zero. `right once the
 * inner is`: of a tunnel's datagram whose packet has one that is left to the device; Linux computes the
 * outer one for the packet as it will be (local checksum offload).
 */
export type ChecksumState =
  'right' | 'wrong' | 'none' | 'left to the device' | 'right once the inner is';

export interface Ipv4Header {
  readonly headerBytes: number;
  readonly totalLength: number;
  readonly id: number;
  readonly dontFragment: boolean;
  readonly ttl: number;
  readonly protocol: number;
  readonly checksum: number;
  readonly checksumState: ChecksumState;
  readonly source: string;
  readonly destination: string;
}

interface Checked {
  readonly headerBytes: number;
  readonly checksum: number;
  readonly checksumState: ChecksumState;
}

interface Ports {
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface IcmpHeader extends Checked {
  readonly protocol: 'icmp';
  readonly type: number;
  readonly code: number;
  /** Of an echo or its reply, as `sequence`. */
  readonly id: number;
  readonly sequence: number;
}

export interface UdpHeader extends Checked, Ports {
  readonly protocol: 'udp';
  /** Length of header and payload in bytes. */
  readonly length: number;
}

export interface TcpHeader extends Checked, Ports {
  readonly protocol: 'tcp';
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: readonly string[];
  /** As it stands in the header, not scaled. */
  readonly window: number;
}

export type TransportHeader = IcmpHeader | UdpHeader | TcpHeader;

export interface Packet {
  readonly bytes: Buffer;
  readonly ipv4: Ipv4Header;
  readonly transport: TransportHeader;
  /** What follows the transport header. */
  readonly payload: Buffer;
}

/** Undefined for what is no whole, unfragmented ICMP, UDP or TCP packet. */
export function decodePacket(bytes: Buffer): Packet | undefined {
  const ipv4 = decodeIpv4(bytes);
  if (ipv4 === undefined) return undefined;
  const segment = bytes.subarray(ipv4.headerBytes);
  const transport = decodeTransport(ipv4, segment);
  if (transport === undefined) return undefined;
  return { bytes, ipv4, transport, payload: segment.subarray(transport.headerBytes) };
}

/** The packet with the transport checksum that a device would put there. */
export function withTransportChecksum({ bytes, ipv4, transport }: Packet): Buffer {
  const copy = Buffer.from(bytes);
  const segment = copy.subarray(ipv4.headerBytes);
  const at = TRANSPORT_CHECKSUM_AT[transport.protocol];
  segment.writeUInt16BE(0, at);
  const parts = transport.protocol === 'icmp' ? [] : [pseudoHeaderOf(ipv4, segment.length)];
  const sum = ~onesSum(...parts, segment) & 0xffff;
  // Zero would be none (RFC 768); both are zero in one's complement.
  segment.writeUInt16BE(sum === 0 && transport.protocol === 'udp' ? 0xffff : sum, at);
  return copy;
}

/**
 * Equal for one packet wherever it is seen on its way: all of its bytes but those that a router may
 * change (TTL, header checksum) and the transport checksum, which a device may complete.
 */
export function identityOf({ bytes, ipv4, transport }: Packet): string {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(0, TTL_AT);
  copy.writeUInt16BE(0, HEADER_CHECKSUM_AT);
  if (transport.protocol !== 'icmp') {
    copy.writeUInt16BE(0, ipv4.headerBytes + TRANSPORT_CHECKSUM_AT[transport.protocol]);
  }
  return copy.toString('hex');
}

/** The four bytes at `at` as people write an address. */
export function addressAt(bytes: Buffer, at: number): string {
  return bytes.subarray(at, at + 4).join('.');
}

/** The six bytes at `at` as people write a MAC address. */
export function macAt(frame: Buffer, at: number): string {
  return hexBytes(frame.subarray(at, at + 6), ':');
}

/** Two digits a byte. */
export function hexBytes(bytes: Buffer, separator: string): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(separator);
}

/** RFC 1071 over an IPv4 header whose checksum field is zero. */
export function headerChecksum(packet: Buffer): number {
  const headerBytes = (packet.readUInt8(0) & 0x0f) * 4;
  return ~onesSum(packet.subarray(0, headerBytes)) & 0xffff;
}

const TTL_AT = 8;
const HEADER_CHECKSUM_AT = 10;
const TRANSPORT_CHECKSUM_AT: Readonly<Record<Protocol, number>> = { icmp: 2, udp: 6, tcp: 16 };
const TCP_FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'];

function decodeIpv4(bytes: Buffer): Ipv4Header | undefined {
  if (bytes.length < HEADER_BYTES.ipv4 || bytes.readUInt8(0) >> 4 !== 4) return undefined;
  const headerBytes = (bytes.readUInt8(0) & 0x0f) * 4;
  const totalLength = bytes.readUInt16BE(2);
  if (headerBytes < HEADER_BYTES.ipv4 || totalLength !== bytes.length) return undefined;
  if (totalLength < headerBytes) return undefined;
  const fragment = bytes.readUInt16BE(6);
  // More fragments, or an offset.
  if ((fragment & 0x3fff) !== 0) return undefined;
  return {
    headerBytes,
    totalLength,
    id: bytes.readUInt16BE(4),
    dontFragment: (fragment & 0x4000) !== 0,
    ttl: bytes.readUInt8(TTL_AT),
    protocol: bytes.readUInt8(9),
    checksum: bytes.readUInt16BE(HEADER_CHECKSUM_AT),
    checksumState: onesSum(bytes.subarray(0, headerBytes)) === 0xffff ? 'right' : 'wrong',
    source: addressAt(bytes, 12),
    destination: addressAt(bytes, 16),
  };
}

function decodeTransport(ipv4: Ipv4Header, segment: Buffer): TransportHeader | undefined {
  const protocol = protocolOf(ipv4.protocol);
  if (protocol === undefined || segment.length < HEADER_BYTES[protocol]) return undefined;
  const checked = {
    checksum: segment.readUInt16BE(TRANSPORT_CHECKSUM_AT[protocol]),
    checksumState: transportChecksumState(protocol, ipv4, segment),
  };
  switch (protocol) {
    case 'icmp':
      return { protocol, headerBytes: HEADER_BYTES.icmp, ...decodeIcmp(segment), ...checked };
    case 'udp':
      return {
        protocol,
        headerBytes: HEADER_BYTES.udp,
        ...decodePorts(segment),
        ...checked,
        length: segment.readUInt16BE(4),
      };
    case 'tcp': {
      const headerBytes = (segment.readUInt8(12) >> 4) * 4;
      if (headerBytes < HEADER_BYTES.tcp || headerBytes > segment.length) return undefined;
      return {
        protocol,
        headerBytes,
        ...decodePorts(segment),
        ...checked,
        sequence: segment.readUInt32BE(4),
        acknowledgment: segment.readUInt32BE(8),
        flags: TCP_FLAGS.filter((_, bit) => (segment.readUInt8(13) & (1 << bit)) !== 0),
        window: segment.readUInt16BE(14),
      };
    }
  }
}

function decodeIcmp(segment: Buffer): Pick<IcmpHeader, 'type' | 'code' | 'id' | 'sequence'> {
  return {
    type: segment.readUInt8(0),
    code: segment.readUInt8(1),
    id: segment.readUInt16BE(4),
    sequence: segment.readUInt16BE(6),
  };
}

function decodePorts(segment: Buffer): Ports {
  return { sourcePort: segment.readUInt16BE(0), destinationPort: segment.readUInt16BE(2) };
}

function protocolOf(number: number): Protocol | undefined {
  const names = Object.keys(PROTOCOLS) as Protocol[];
  return names.find((name) => PROTOCOLS[name] === number);
}

function transportChecksumState(
  protocol: Protocol,
  ipv4: Ipv4Header,
  segment: Buffer,
): ChecksumState {
  if (protocol === 'icmp') return onesSum(segment) === 0xffff ? 'right' : 'wrong';
  const checksum = segment.readUInt16BE(TRANSPORT_CHECKSUM_AT[protocol]);
  if (protocol === 'udp' && checksum === 0) return 'none';
  const pseudoHeader = pseudoHeaderOf(ipv4, segment.length);
  if (onesSum(pseudoHeader, segment) === 0xffff) return 'right';
  return checksum === onesSum(pseudoHeader) ? 'left to the device' : 'wrong';
}

/** What the checksum of TCP and UDP covers besides (RFC 9293, RFC 768). */
function pseudoHeaderOf({ protocol, source, destination }: Ipv4Header, length: number): Buffer {
  const addresses = [...source.split('.'), ...destination.split('.')].map(Number);
  const header = Buffer.from([...addresses, 0, protocol, 0, 0]);
  header.writeUInt16BE(length, 10);
  return header;
}

/** The one's complement sum of 16-bit words (RFC 1071); an odd part is padded with a zero. */
function onesSum(...parts: readonly Buffer[]): number {
  let sum = 0;
  for (const part of parts) {
    const even = part.length & ~1;
    for (let at = 0; at < even; at += 2) sum += part.readUInt16BE(at);
    if (even < part.length) sum += part.readUInt8(even) << 8;
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
