/** The wire format, against bytes written by hand from the specification and against random ones. */
import { describe, expect, it } from 'vitest';
import {
  bool,
  bytes,
  id,
  int,
  message,
  nested,
  repeated,
  text,
} from '../../../../src/lease/etcd/protobuf.js';
import { RANGE, WATCH } from '../../../../src/lease/etcd/etcd-messages.js';

const Inner = message({ name: text(1), count: int(2) });
const Outer = message({
  flag: bool(1),
  big: id(2),
  data: bytes(3),
  inner: nested(4, Inner),
  all: repeated(nested(16, Inner)),
});
const hex = (digits: string): Buffer => Buffer.from(digits.replaceAll(' ', ''), 'hex');

describe('encoding', () => {
  it('gives the bytes of the specification', () => {
    expect(Inner.encode({ name: 'testing', count: 150 })).toEqual(
      hex('0a 07 74657374696e67  10 96 01'),
    );
    expect(Outer.encode({ flag: true, inner: { count: 1 }, all: [{ name: 'a' }, {}] })).toEqual(
      hex('08 01  22 02 10 01  82 01 03 0a 01 61  82 01 00'),
    );
  });

  it('leaves out what is not given, and sends what is, a zero too', () => {
    expect(Inner.encode({})).toEqual(Buffer.alloc(0));
    expect(Inner.encode({ count: 0 })).toEqual(hex('10 00'));
  });
});

describe('decoding', () => {
  it.each([
    0n,
    1n,
    127n,
    128n,
    2n ** 28n - 1n,
    2n ** 28n,
    2n ** 53n,
    2n ** 56n,
    2n ** 63n,
    2n ** 64n - 1n,
  ])('gives every bit of the id %s back', (big) => {
    expect(Outer.decode(Outer.encode({ big })).big).toBe(big);
  });

  it('reads negative numbers', () => {
    expect(Inner.decode(hex('10 ffffffffffffffffff01')).count).toBe(-1);
    expect(Inner.decode(Inner.encode({ count: -5 })).count).toBe(-5);
  });

  it('fills in what is missing, and skips fields nobody asked for', () => {
    expect(Outer.decode(Buffer.alloc(0))).toEqual({
      flag: false,
      big: 0n,
      data: Buffer.alloc(0),
      inner: { name: '', count: 0 },
      all: [],
    });
    // Fields 9 (varint), 10 (bytes), 11 (64 bits), 12 (32 bits) around field 2.
    const foreign = '48 ff01  52 02 dead  59 0102030405060708  10 07  65 01020304';
    expect(Inner.decode(hex(foreign))).toEqual({ name: '', count: 7 });
  });

  it.each([
    ['a length beyond the end', '0a 05 61'],
    ['a number that does not end', '10 ff'],
    ['a number of eleven bytes', '10 ffffffffffffffffffff01'],
    ['a field of another type', '0a 01 61 12 01 61'],
    ['a group', '0b'],
    ['a skipped field beyond the end', '59 0102'],
  ])('refuses %s', (_what, digits) => {
    expect(() => Inner.decode(hex(digits))).toThrow(RangeError);
  });

  it('ends for any bytes, with a message or a RangeError', () => {
    let seed = 1;
    const random = (): number => (seed = (seed * 48_271) % 0x7fff_ffff) / 0x7fff_ffff;
    let decoded = 0;
    for (let round = 0; round < 20_000; round += 1) {
      const noise = Buffer.from(
        Array.from({ length: Math.floor(random() * 40) }, () => random() * 256),
      );
      try {
        WATCH.response.decode(noise);
        RANGE.response.decode(noise);
        decoded += 1;
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }
    expect(decoded).toBeGreaterThan(0);
  });
});
