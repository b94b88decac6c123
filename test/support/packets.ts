/** IPv4 packets as tests need them: right by default, wrong where told. */
import { headerChecksum } from '../../src/lab/capture.js';

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
