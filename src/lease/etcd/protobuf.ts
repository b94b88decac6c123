/**
 * Protocol Buffers' wire format, as much as etcd's messages need: a message is a table of its fields.
 *
 *   const Point = message({ x: int(1), y: int(2), labels: repeated(text(3)) });
 *   Point.decode(Point.encode({ x: 7, labels: ['a'] }))   // { x: 7, y: 0, labels: ['a'] }
 *
 * Encoding writes what is given. Decoding fills in proto3's defaults, skips fields it does not know,
 * and throws a RangeError for bytes that are no message: it never reads past the end.
 */

/** Wire types; 1 and 5 (fixed widths) occur in no message used here and are only skipped. */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Ten bytes. */
const MAX_VARINT_BITS = 70;

export interface Field<T> {
  readonly number: number;
  /** What a field that is not there means. */
  absent(): T;
  write(out: Writer, value: T): void;
  /** The value with one more occurrence of the field; the last one counts unless it is repeated. */
  read(input: Reader, wire: number, before: T): T;
}

type Fields = Readonly<Record<string, Field<unknown>>>;
type Decoded<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
};
/** A value to encode: what is left out is not sent. */
export type Encodable<T> = T extends Buffer | string | number | bigint | boolean
  ? T
  : T extends readonly (infer E)[]
    ? readonly Encodable<E>[]
    : { readonly [K in keyof T]?: Encodable<T[K]> };

export interface Message<T> {
  encode(value: Encodable<T>): Buffer;
  decode(bytes: Buffer): T;
}

/** The type a message decodes to. */
export type Content<M> = M extends Message<infer T> ? T : never;

export function message<F extends Fields>(fields: F): Message<Decoded<F>> {
  const entries = Object.entries(fields);
  const byNumber = new Map(entries.map((entry) => [entry[1].number, entry]));
  return {
    encode: (value) => {
      const out = new Writer();
      for (const [name, field] of entries) {
        const given = (value as Record<string, unknown>)[name];
        if (given !== undefined) field.write(out, given);
      }
      return out.finish();
    },
    decode: (bytes) => {
      const value: Record<string, unknown> = {};
      for (const [name, field] of entries) value[name] = field.absent();
      const input = new Reader(bytes);
      while (!input.atEnd) {
        const tag = input.uint();
        const entry = byNumber.get(Math.floor(tag / 8));
        if (entry === undefined) input.skip(tag % 8);
        else value[entry[0]] = entry[1].read(input, tag % 8, value[entry[0]]);
      }
      return value as Decoded<F>;
    },
  };
}

/** int64 and uint64 whose every bit counts: ids. */
export function id(number: number): Field<bigint> {
  return scalar(number, VARINT, 0n, {
    write: (out, value) => {
      out.varint(BigInt.asUintN(64, value));
    },
    read: (input) => input.bigint(),
  });
}

/** int64 and enum as a number: revisions, counts, seconds. */
export function int(number: number): Field<number> {
  return scalar(number, VARINT, 0, {
    write: (out, value) => {
      out.varint(BigInt.asUintN(64, BigInt(value)));
    },
    read: (input) => input.int(),
  });
}

export function bool(number: number): Field<boolean> {
  return scalar(number, VARINT, false, {
    write: (out, value) => {
      out.varint(value ? 1n : 0n);
    },
    read: (input) => input.int() !== 0,
  });
}

/** A view of the message's own bytes, not a copy. */
export function bytes(number: number): Field<Buffer> {
  return scalar<Buffer>(number, BYTES, Buffer.alloc(0), {
    write: (out, value) => {
      out.bytes(value);
    },
    read: (input) => input.bytes(),
  });
}

export function text(number: number): Field<string> {
  return scalar(number, BYTES, '', {
    write: (out, value) => {
      out.bytes(Buffer.from(value));
    },
    read: (input) => input.bytes().toString('utf8'),
  });
}

export function nested<T>(number: number, of: Message<T>): Field<T> {
  const none = Buffer.alloc(0);
  return {
    number,
    absent: () => of.decode(none),
    write: (out, value) => {
      out.tag(number, BYTES);
      out.bytes(of.encode(value as Encodable<T>));
    },
    read: (input, wire) => of.decode(input.expect(wire, BYTES).bytes()),
  };
}

export function repeated<T>(field: Field<T>): Field<T[]> {
  return {
    number: field.number,
    absent: () => [],
    write: (out, values) => {
      for (const value of values) field.write(out, value);
    },
    read: (input, wire, before) => {
      before.push(field.read(input, wire, field.absent()));
      return before;
    },
  };
}

function scalar<T>(
  number: number,
  wireType: number,
  absent: T,
  { write, read }: { write: (out: Writer, value: T) => void; read: (input: Reader) => T },
): Field<T> {
  return {
    number,
    absent: () => absent,
    write: (out, value) => {
      out.tag(number, wireType);
      write(out, value);
    },
    read: (input, wire) => read(input.expect(wire, wireType)),
  };
}

class Writer {
  readonly #parts: Buffer[] = [];

  tag(number: number, wire: number): void {
    this.varint(BigInt(number * 8 + wire));
  }

  varint(value: bigint): void {
    const out: number[] = [];
    let rest = value;
    for (; rest > 0x7fn; rest >>= 7n) out.push(Number(rest & 0x7fn) | 0x80);
    out.push(Number(rest));
    this.#parts.push(Buffer.from(out));
  }

  bytes(value: Buffer): void {
    this.varint(BigInt(value.length));
    this.#parts.push(value);
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  /** Lower and upper 32 bits of the number read last. */
  #low = 0;
  #high = 0;

  constructor(from: Buffer) {
    this.#bytes = from;
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** A tag or a length: both fit in 32 bits. */
  uint(): number {
    this.#varint();
    if (this.#high !== 0) throw new RangeError('not a protobuf message: length out of range');
    return this.#low >>> 0;
  }

  /** A signed number, exact up to 2^53. */
  int(): number {
    this.#varint();
    return this.#high * 2 ** 32 + (this.#low >>> 0);
  }

  bigint(): bigint {
    this.#varint();
    return (BigInt(this.#high >>> 0) << 32n) | BigInt(this.#low >>> 0);
  }

  bytes(): Buffer {
    const length = this.uint();
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new RangeError('not a protobuf message: it ends too early');
    const value = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return value;
  }

  /** Seven bits a byte, the lowest first, into two halves: bigint for each would be slow. */
  #varint(): void {
    this.#low = 0;
    this.#high = 0;
    for (let bits = 0; bits < MAX_VARINT_BITS; bits += 7) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) throw new RangeError('not a protobuf message: it ends too early');
      this.#at += 1;
      const seven = byte & 0x7f;
      if (bits < 32) this.#low |= seven << bits;
      if (bits === 28) this.#high = seven >> 4;
      if (bits > 28) this.#high |= seven << (bits - 32);
      if (byte < 0x80) return;
    }
    throw new RangeError('not a protobuf message: a number of more than ten bytes');
  }

  expect(wire: number, wanted: number): this {
    if (wire !== wanted) throw new RangeError('not a protobuf message: a field of another type');
    return this;
  }

  skip(wire: number): void {
    if (wire === VARINT) this.#varint();
    else if (wire === BYTES) this.bytes();
    else if (wire === FIXED64 || wire === FIXED32) {
      this.#at += wire === FIXED64 ? 8 : 4;
      if (this.#at > this.#bytes.length) {
        throw new RangeError('not a protobuf message: it ends too early');
      }
    } else throw new RangeError(`not a protobuf message: wire type ${wire}`);
  }
}
