/** What the properties (fast-check) draw from: addresses, subnets, JSON as others write it. */
import fc from 'fast-check';
import { cidrOf, formatCidr, formatIpv4, type Cidr, type Ipv4 } from '../../src/config/ipv4.js';
import { FlannelletteError, type ErrorKind } from '../../src/errors.js';

export const ipv4 = (): fc.Arbitrary<Ipv4> => fc.integer({ min: 0, max: 0xffff_ffff });

export const cidr = (min = 0, max = 32): fc.Arbitrary<Cidr> =>
  fc.tuple(ipv4(), fc.integer({ min, max })).map(([ip, prefix]) => cidrOf(ip, prefix));

/** A name in any case, as Go's decoder takes it. */
export const inAnyCase = (name: string): fc.Arbitrary<string> =>
  fc
    .array(fc.boolean(), { minLength: name.length, maxLength: name.length })
    .map((upper) =>
      [...name].map((c, at) => (upper[at] === true ? c.toUpperCase() : c.toLowerCase())).join(''),
    );

/** What somebody may have written where an address, a subnet or a number belongs. */
const nearlyRight = (): fc.Arbitrary<unknown> =>
  fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom(null, '', '__proto__', 0, -1, 24, 31, 1e9, true),
    ipv4().map(formatIpv4),
    cidr().map(formatCidr),
    fc.string(),
  );

/** An object with some of the names, in any case, and what nobody asked for. */
export const objectOf = (names: readonly string[]): fc.Arbitrary<Record<string, unknown>> =>
  fc
    .array(
      fc.tuple(
        fc.oneof(
          { weight: 4, arbitrary: fc.constantFrom(...names).chain(inAnyCase) },
          fc.string(),
          fc.constantFrom('__proto__', 'constructor', 'toString'),
        ),
        nearlyRight(),
      ),
      { maxLength: 8 },
    )
    // As JSON.parse makes it: also `__proto__` is a key like any other.
    .map((entries) => Object.fromEntries(entries));

/** The value, or undefined for an error of this kind in one line; anything else is thrown. */
export function valueOrError<T>(kind: ErrorKind, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof FlannelletteError) || error.kind !== kind) throw error;
    if (error.message === '' || /\p{Cc}/u.test(error.message)) {
      throw new Error(`not one line: ${JSON.stringify(error.message)}`, { cause: error });
    }
    return undefined;
  }
}
