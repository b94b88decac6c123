import { describe, expect, it } from 'vitest';
import { decodePacket, headerChecksum, identityOf } from '../../../../src/testbed/wire/packet.js';
import { ipv4Packet } from '../../../support/packets.js';

/** A DNS query of 10.0.0.2 to 10.0.0.1 and a SYN, as Linux sent them, with right checksums. */
const UDP = Buffer.from(
  '4500002a1c4640004011' +
    '0a7b' +
    '0a0000020a000001' +
    'd43100350016' +
    '0000' +
    '68656c6c6f2c2074756e6e656c21',
  'hex',
);

function udp(checksum: number): Buffer {
  const packet = Buffer.from(UDP);
  packet.writeUInt16BE(checksum, 26);
  return packet;
}

/** RFC 1071, the slow way: of the pseudo-header and the datagram with a zero checksum. */
function sum(...words: readonly number[]): number {
  return words.reduce((total, word) => {
    const next = total + word;
    return next > 0xffff ? next - 0xffff : next;
  }, 0);
}

const PSEUDO = sum(0x0a00, 0x0002, 0x0a00, 0x0001, 17, 22);
const words = Array.from({ length: 11 }, (_, index) => UDP.readUInt16BE(20 + index * 2));
const RIGHT = ~sum(PSEUDO, ...words) & 0xffff;

describe('decodePacket', () => {
  it('reads IPv4 and UDP', () => {
    const packet = decodePacket(udp(RIGHT));
    expect(packet?.ipv4).toEqual({
      headerBytes: 20,
      totalLength: 42,
      id: 0x1c46,
      dontFragment: true,
      ttl: 64,
      protocol: 17,
      checksum: 0x0a7b,
      checksumState: 'right',
      source: '10.0.0.2',
      destination: '10.0.0.1',
    });
    expect(packet?.transport).toEqual({
      protocol: 'udp',
      headerBytes: 8,
      sourcePort: 54321,
      destinationPort: 53,
      length: 22,
      checksum: RIGHT,
      checksumState: 'right',
    });
    expect(packet?.payload.toString()).toBe('hello, tunnel!');
  });

  it.each([
    [RIGHT, 'right'],
    [PSEUDO, 'left to the device'],
    [0, 'none'],
    [RIGHT ^ 1, 'wrong'],
  ])('says of checksum %i that it is %s', (checksum, state) => {
    expect(decodePacket(udp(checksum))?.transport.checksumState).toBe(state);
  });

  it('reads TCP with options', () => {
    const segment = Buffer.alloc(36);
    segment.writeUInt16BE(40_000, 0);
    segment.writeUInt16BE(5_000, 2);
    segment.writeUInt32BE(0xfedcba98, 4);
    segment.writeUInt32BE(7, 8);
    segment.writeUInt8(8 << 4, 12);
    segment.writeUInt8(0b1_1000, 13);
    segment.writeUInt16BE(502, 14);
    segment.write('data', 32);
    const bytes = ipv4Packet({
      source: '1.2.3.4',
      destination: '5.6.7.8',
      protocol: 6,
      payload: segment,
    });
    const packet = decodePacket(bytes);
    expect(packet?.transport).toMatchObject({
      protocol: 'tcp',
      headerBytes: 32,
      sourcePort: 40_000,
      destinationPort: 5_000,
      sequence: 0xfedcba98,
      acknowledgment: 7,
      flags: ['PSH', 'ACK'],
      window: 502,
      checksumState: 'wrong',
    });
    expect(packet?.payload.toString()).toBe('data');
  });

  it('reads an echo request, also of an odd length', () => {
    const message = Buffer.from('0800' + '0000' + '0007' + '0003' + 'a55a01', 'hex');
    message.writeUInt16BE(~sum(0x0800, 7, 3, 0xa55a, 0x0100) & 0xffff, 2);
    const bytes = ipv4Packet({
      source: '1.2.3.4',
      destination: '5.6.7.8',
      protocol: 1,
      payload: message,
    });
    expect(decodePacket(bytes)?.transport).toMatchObject({
      protocol: 'icmp',
      type: 8,
      code: 0,
      id: 7,
      sequence: 3,
      checksumState: 'right',
    });
  });

  it('says when the header checksum is wrong', () => {
    const packet = udp(RIGHT);
    packet.writeUInt8(63, 8);
    expect(decodePacket(packet)?.ipv4.checksumState).toBe('wrong');
  });

  const between = { source: '1.2.3.4', destination: '5.6.7.8' };
  const changed = (at: number, value: number): Buffer => {
    const packet = udp(RIGHT);
    packet.writeUInt8(value, at);
    return packet;
  };
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['a cut header', UDP.subarray(0, 19)],
    ['a cut packet', UDP.subarray(0, 41)],
    ['a longer one than it says', Buffer.concat([UDP, Buffer.alloc(1)])],
    ['version 6', changed(0, 0x65)],
    ['a header of four words', changed(0, 0x44)],
    ['a header longer than the packet', changed(0, 0x4f)],
    ['a first fragment', changed(6, 0x20)],
    ['a later fragment', changed(7, 1)],
    ['another protocol', ipv4Packet({ ...between, protocol: 47, payload: Buffer.alloc(40) })],
    ['a cut UDP header', ipv4Packet({ ...between, protocol: 17, payload: Buffer.alloc(7) })],
    ['a cut TCP header', ipv4Packet({ ...between, protocol: 6, payload: Buffer.alloc(19) })],
    [
      'a TCP header of no words',
      ipv4Packet({ ...between, protocol: 6, payload: Buffer.alloc(20) }),
    ],
  ])('has no packet for %s', (_, bytes) => {
    expect(decodePacket(bytes)).toBeUndefined();
  });
});

describe('a packet in the tunnel', () => {
  const inner = udp(RIGHT);

  it('is the same with another TTL and checksums, and another with any other bit', () => {
    const identity = (bytes: Buffer): string | undefined => {
      const packet = decodePacket(bytes);
      return packet === undefined ? undefined : identityOf(packet);
    };
    const own = identity(inner);
    const mayChange = [8, 10, 11, 26, 27];
    for (let at = 0; at < inner.length; at += 1) {
      const copy = Buffer.from(inner);
      copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
      expect(identity(copy) === own, `byte ${at}`).toBe(mayChange.includes(at));
    }
  });
});

describe('headerChecksum', () => {
  it('gives the checksum of a known header', () => {
    const header = Buffer.from('45000073000040004011' + '0000' + 'c0a80001c0a800c7', 'hex');
    expect(headerChecksum(header)).toBe(0xb861);
  });
});
