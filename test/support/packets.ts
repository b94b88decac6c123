/** IPv4 packets as tests need them: right by default, wrong where told. */
import { headerChecksum } from '../../src/testbed/wire/packet.js';

export interface PacketPlan {
  readonly source: string;
  readonly destination: string;
  readonly ttl?: number;
  readonly protocol?: number;
  readonly payload?: Buffer;
  /** Written over the right value. */
  readonly version?: number;
  readonly headerWords?: number;
  readonly totalLength?: number;
  readonly checksum?: number;
}

export function ipv4Packet(plan: PacketPlan): Buffer {
  const payload = plan.payload ?? Buffer.alloc(0);
  const packet = Buffer.concat([Buffer.alloc(20), payload]);
  packet.writeUInt8(((plan.version ?? 4) << 4) | (plan.headerWords ?? 5), 0);
  packet.writeUInt16BE(plan.totalLength ?? packet.length, 2);
  packet.writeUInt8(plan.ttl ?? 64, 8);
  // 253: for experiments (RFC 3692); no listener, and no answer from a host that has none.
  packet.writeUInt8(plan.protocol ?? 253, 9);
  Buffer.from(plan.source.split('.').map(Number)).copy(packet, 12);
  Buffer.from(plan.destination.split('.').map(Number)).copy(packet, 16);
  if (packet.readUInt8(0) >> 4 === 4 && (packet.readUInt8(0) & 0x0f) === 5) {
    packet.writeUInt16BE(plan.checksum ?? headerChecksum(packet), 10);
  }
  return packet;
}

/** An Ethernet frame between nobody in particular; `totalLength` overwrites the packet's own. */
export function ethernetFrame(packet: Buffer, etherType = 0x0800, totalLength?: number): Buffer {
  const frame = Buffer.concat([Buffer.alloc(14), packet]);
  frame.writeUInt16BE(etherType, 12);
  if (totalLength !== undefined) frame.writeUInt16BE(totalLength, 16);
  return frame;
}

/** A UDP datagram without checksum, which IPv4 allows. */
export function udpDatagram(sourcePort: number, destinationPort: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(sourcePort, 0);
  header.writeUInt16BE(destinationPort, 2);
  header.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([header, payload]);
}
