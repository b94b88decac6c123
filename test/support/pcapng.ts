/** Reads pcapng files as strictly as their specification is (draft-ietf-opsawg-pcapng), little-endian. */
import assert from 'node:assert/strict';

export interface PcapngFile {
  application: string | undefined;
  interfaces: { name: string; linkType: number; resolution: number }[];
  packets: {
    at: number;
    timeNs: bigint;
    frame: Buffer;
    direction: 'in' | 'out';
    comment: string;
  }[];
}

export function readPcapng(file: Buffer): PcapngFile {
  const result: PcapngFile = { application: undefined, interfaces: [], packets: [] };
  let at = 0;
  while (at < file.length) {
    const type = file.readUInt32LE(at);
    const length = file.readUInt32LE(at + 4);
    assert.equal(length % 4, 0, 'blocks are aligned to 32 bits');
    assert.equal(file.readUInt32LE(at + length - 4), length, 'a block ends with its length');
    assert.equal(at === 0, type === 0x0a0d0d0a, 'one section, at the start');
    readBlock(type, file.subarray(at + 8, at + length - 4), result);
    at += length;
  }
  assert.equal(at, file.length);
  return result;
}

function readBlock(type: number, body: Buffer, result: PcapngFile): void {
  switch (type) {
    case 0x0a0d0d0a: {
      assert.equal(body.readUInt32LE(0), 0x1a2b3c4d, 'the byte-order magic');
      assert.deepEqual([body.readUInt16LE(4), body.readUInt16LE(6)], [1, 0], 'version 1.0');
      result.application = readOptions(body.subarray(16)).get(4)?.toString();
      return;
    }
    case 1: {
      const options = readOptions(body.subarray(8));
      result.interfaces.push({
        name: options.get(2)?.toString() ?? '',
        linkType: body.readUInt16LE(0),
        resolution: options.get(9)?.readUInt8(0) ?? 6,
      });
      return;
    }
    case 6: {
      const captured = body.readUInt32LE(12);
      assert.equal(body.readUInt32LE(16), captured, 'nothing of a frame is cut');
      const options = readOptions(body.subarray(20 + captured + (-captured & 3)));
      const direction = options.get(2)?.readUInt32LE(0);
      assert.ok(direction === 1 || direction === 2);
      result.packets.push({
        at: body.readUInt32LE(0),
        timeNs: (BigInt(body.readUInt32LE(4)) << 32n) + BigInt(body.readUInt32LE(8)),
        frame: body.subarray(20, 20 + captured),
        direction: direction === 1 ? 'in' : 'out',
        comment: options.get(1)?.toString() ?? '',
      });
      return;
    }
    default:
      assert.fail(`block type ${type}`);
  }
}

function readOptions(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>();
  let at = 0;
  for (;;) {
    const code = bytes.readUInt16LE(at);
    const length = bytes.readUInt16LE(at + 2);
    if (code === 0) {
      assert.deepEqual([length, at + 4], [0, bytes.length], 'options end with their end');
      return options;
    }
    options.set(code, bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length + (-length & 3);
  }
}
