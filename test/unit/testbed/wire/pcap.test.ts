import { describe, expect, it } from 'vitest';
import { ipv4Of, LINKTYPE_RAW, readFrames, readPcap } from '../../../../src/testbed/wire/pcap.js';

type Order = 'little' | 'big';

/** A capture file as tcpdump writes it: `magic` in the byte order of the machine that wrote it. */
function pcap(order: Order, magic: number, frames: readonly Buffer[], linkType = 1): Buffer {
  const u32 = (...values: number[]): Buffer => {
    const bytes = Buffer.alloc(values.length * 4);
    values.forEach((value, index) =>
      order === 'little'
        ? bytes.writeUInt32LE(value, index * 4)
        : bytes.writeUInt32BE(value, index * 4),
    );
    return bytes;
  };
  return Buffer.concat([
    u32(magic, 0x00020004, 0, 0, 262_144, linkType),
    ...frames.flatMap((frame) => [u32(1, 2, frame.length, frame.length), frame]),
  ]);
}

const MICROSECONDS = 0xa1b2c3d4;
const NANOSECONDS = 0xa1b23c4d;

describe('readFrames', () => {
  const frames = [Buffer.from('first frame'), Buffer.alloc(0), Buffer.from([1, 2, 3])];

  it.each([
    ['little', MICROSECONDS],
    ['little', NANOSECONDS],
    ['big', MICROSECONDS],
    ['big', NANOSECONDS],
  ] as const)('reads %s-endian files with magic %i', (order, magic) => {
    expect(readFrames(pcap(order, magic, frames))).toEqual(frames);
  });

  it('reads a file without records as no frame', () => {
    expect(readFrames(pcap('little', MICROSECONDS, []))).toEqual([]);
  });

  it('leaves out a record that is cut anywhere', () => {
    const file = pcap('little', MICROSECONDS, frames);
    const whole = frames.slice(0, 2);
    const lastRecord = file.length - 16 - 3;
    for (let end = lastRecord; end < file.length; end += 1) {
      expect(readFrames(file.subarray(0, end))).toEqual(whole);
    }
  });

  it('leaves out a record that claims more than the file holds', () => {
    const file = pcap('little', MICROSECONDS, [Buffer.from('whole'), Buffer.from('false')]);
    file.writeUInt32LE(0xffff_ffff, file.length - 5 - 8);
    expect(readFrames(file)).toEqual([Buffer.from('whole')]);
  });

  it('refuses what is no capture file of Ethernet frames', () => {
    expect(() => readFrames(Buffer.alloc(0))).toThrow(/empty/);
    expect(() => readFrames(Buffer.alloc(23))).toThrow(/empty/);
    // pcapng starts with this block type.
    expect(() => readFrames(pcap('little', 0x0a0d0d0a, []))).toThrow(/0xa0d0d0a.*pcap magic/);
    expect(() => readFrames(pcap('little', MICROSECONDS, [], 113))).toThrow(/link type 113/);
  });
});

describe('readPcap', () => {
  // Each record of `pcap` is of second 1 and fraction 2.
  it.each([
    ['little', MICROSECONDS, 1_000_002_000n],
    ['little', NANOSECONDS, 1_000_000_002n],
    ['big', MICROSECONDS, 1_000_002_000n],
    ['big', NANOSECONDS, 1_000_000_002n],
  ] as const)('gives nanoseconds of a %s-endian file with magic %i', (order, magic, timeNs) => {
    const frame = Buffer.from('a frame');
    const file = readPcap(pcap(order, magic, [frame], LINKTYPE_RAW));
    expect(file).toEqual({ linkType: LINKTYPE_RAW, records: [{ timeNs, frame }] });
  });
});

describe('ipv4Of', () => {
  const frame = (etherType: number, packet: Buffer): Buffer => {
    const header = Buffer.alloc(14);
    header.writeUInt16BE(etherType, 12);
    return Buffer.concat([header, packet]);
  };
  const packet = (total: number, bytes = total): Buffer => {
    const content = Buffer.alloc(bytes, 0x5a);
    content.writeUInt8(0x45, 0);
    content.writeUInt16BE(total, 2);
    return content;
  };

  it('takes the packet out and leaves the Ethernet padding', () => {
    expect(ipv4Of(frame(0x0800, packet(28, 46)))).toEqual(packet(28, 46).subarray(0, 28));
  });

  it('takes the frame of a device without a link layer for the packet', () => {
    expect(ipv4Of(packet(28, 30), LINKTYPE_RAW)).toEqual(packet(28, 28));
    const other = packet(28);
    other.writeUInt8(0x65, 0);
    expect(ipv4Of(other, LINKTYPE_RAW)).toBeUndefined();
    expect(ipv4Of(packet(28).subarray(0, 19), LINKTYPE_RAW)).toBeUndefined();
  });

  it('has no packet for other protocols, cut frames and impossible lengths', () => {
    expect(ipv4Of(frame(0x86dd, packet(40)))).toBeUndefined();
    expect(ipv4Of(frame(0x0806, packet(28)))).toBeUndefined();
    expect(ipv4Of(frame(0x0800, packet(20).subarray(0, 19)))).toBeUndefined();
    expect(ipv4Of(frame(0x0800, packet(100, 99)))).toBeUndefined();
    expect(ipv4Of(frame(0x0800, packet(19, 40)))).toBeUndefined();
    expect(ipv4Of(Buffer.alloc(0))).toBeUndefined();
  });
});
