/** The packets of the teaching tunnel. */
import { describe, expect, it } from 'vitest';
import { decrementTtl, packetLength } from '../../../bench/js-tunnel/packet.js';

describe("the teaching tunnel's packets", () => {
  /** A header with the right checksum, and `payload` bytes. */
  const packet = (identification: number, ttl: number, payload = 8): Buffer => {
    const bytes = Buffer.alloc(20 + payload);
    bytes.writeUInt8(0x45, 0);
    bytes.writeUInt16BE(bytes.length, 2);
    bytes.writeUInt16BE(identification, 4);
    bytes.writeUInt8(ttl, 8);
    bytes.writeUInt8(17, 9);
    bytes.writeUInt32BE(0x64600102, 12);
    bytes.writeUInt32BE(0x64600203, 16);
    let sum = 0;
    for (let at = 0; at < 20; at += 2) sum += bytes.readUInt16BE(at);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    bytes.writeUInt16BE(~sum & 0xffff, 10);
    return bytes;
  };

  it('are as long as their header says, whatever was received behind', () => {
    const bytes = Buffer.concat([packet(1, 64), Buffer.alloc(9)]);
    expect(packetLength(bytes, bytes.length)).toBe(28);
  });

  it.each([
    ['shorter than a header', (bytes: Buffer) => [bytes, 19]],
    ['cut', (bytes: Buffer) => [bytes, 27]],
    ['of version 6', (bytes: Buffer) => [change(bytes, 0, 0x65), 28]],
    ['with a header too short', (bytes: Buffer) => [change(bytes, 0, 0x44), 28]],
    ['with a header longer than all', (bytes: Buffer) => [change(bytes, 0, 0x4f), 28]],
    ['with a wrong checksum', (bytes: Buffer) => [change(bytes, 11, 0xff), 28]],
  ] as const)('are refused: %s', (_name, damage) => {
    const [bytes, received] = damage(packet(1, 64)) as [Buffer, number];
    expect(packetLength(bytes, received)).toBe(0);
  });

  it('have a right checksum after a hop, for every checksum there is', () => {
    const wrong: number[] = [];
    for (let identification = 0; identification < 65_536; identification += 1) {
      const bytes = packet(identification, 64);
      if (!decrementTtl(bytes) || packetLength(bytes, 28) !== 28) wrong.push(identification);
    }
    expect(wrong).toEqual([]);
    expect(packet(7, 63)).toEqual(hopped(packet(7, 64)));
  });

  it('go no further without a hop left', () => {
    for (const ttl of [0, 1]) expect(decrementTtl(packet(1, ttl))).toBe(false);
  });

  function change(bytes: Buffer, at: number, value: number): Buffer {
    bytes.writeUInt8(value, at);
    return bytes;
  }

  function hopped(bytes: Buffer): Buffer {
    decrementTtl(bytes);
    return bytes;
  }
});
