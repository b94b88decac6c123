/** Properties of leases, for any value in etcd and any text of a lease file. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { subnetKey } from '../../../src/config/ipv4.js';
import {
  parseAttributes,
  parseLeaseText,
  serializeAttributes,
} from '../../../src/lease/attributes.js';
import { decodeEntry } from '../../../src/lease/etcd/codec.js';
import {
  parseLeaseDocument,
  serializeDocument,
  withLease,
} from '../../../src/lease/file/file-format.js';
import type { Lease, LeaseAttributes } from '../../../src/lease/store.js';
import { cidr, ipv4, objectOf, valueOrError } from '../../support/arbitraries.js';

const KEYS = ['PublicIP', 'PublicIPv6', 'BackendType', 'BackendData', 'expiresAt'];

const attributes = (): fc.Arbitrary<LeaseAttributes> =>
  fc
    .record({ publicIp: ipv4(), type: fc.option(fc.string()), data: fc.jsonValue({ maxDepth: 3 }) })
    .map(({ publicIp, type, data }) => ({
      publicIp,
      ...(type === null ? {} : { backendType: type }),
      // As JSON gives it back: without the sign of a zero.
      ...(data === null ? {} : { backendData: JSON.parse(JSON.stringify(data)) as unknown }),
    }));

const lease = (): fc.Arbitrary<Lease> =>
  fc
    .record({
      subnet: cidr(8, 30),
      attributes: attributes(),
      expiresAt: fc.option(
        fc.date({ min: new Date(0), max: new Date('9999-12-31'), noInvalidDate: true }),
      ),
    })
    .map(({ expiresAt, ...rest }) => ({ ...rest, expiresAt: expiresAt?.getTime() }));

describe('any value of a lease', () => {
  it('is a lease, or says in one line why not', () => {
    const value = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.json().map((text) => Buffer.from(text)),
      objectOf(KEYS).map((object) => Buffer.from(JSON.stringify(object))),
    );
    fc.assert(
      fc.property(value, fc.oneof(fc.string(), cidr().map(subnetKey)), (bytes, key) => {
        const parsed = parseLeaseText(bytes);
        if (typeof parsed === 'string') {
          expect(parsed).toMatch(/^\P{Cc}+$/u);
        } else {
          expect(parsed.publicIp).toBe(parsed.publicIp >>> 0);
          // What we would write of it says the same.
          expect(parseAttributes(JSON.parse(serializeAttributes(parsed)))).toEqual(parsed);
        }
        const entry = decodeEntry(key, bytes);
        if (typeof entry === 'string') expect(entry).toMatch(/^\P{Cc}+$/u);
        else expect(entry.attributes).toEqual(parsed);
      }),
      { numRuns: 3_000 },
    );
  });

  it('is read as it was written', () => {
    fc.assert(
      fc.property(attributes(), (given) => {
        expect(parseLeaseText(Buffer.from(serializeAttributes(given)))).toEqual(given);
      }),
    );
  });
});

describe('any text of a lease file', () => {
  const entries = fc
    .array(fc.tuple(fc.oneof(fc.string(), cidr().map(subnetKey)), objectOf(KEYS)), { maxLength: 5 })
    .map((list): Record<string, unknown> => Object.fromEntries(list));
  const document = fc
    .tuple(objectOf(['config', 'other']), entries)
    .map(([rest, leases]) => JSON.stringify({ ...rest, version: 1, leases }));

  it('makes sense, or is refused in one line', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), document), (text) => {
        const parsed = valueOrError('system', () => parseLeaseDocument(text));
        if (parsed === undefined) return;
        const entries = parsed.raw['leases'] ?? {};
        expect(parsed.leases.size + parsed.rejected.length).toBe(Object.keys(entries).length);
        // Written and read again, with what was known before or without, it says the same.
        const again = serializeDocument(parsed.raw);
        for (const before of [undefined, parsed]) {
          const { leases, rejected, blocked, config } = parseLeaseDocument(again, before);
          expect({ leases, rejected, blocked, config }).toEqual({
            leases: parsed.leases,
            rejected: parsed.rejected,
            blocked: parsed.blocked,
            config: parsed.config,
          });
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('with a lease put in has that lease, and every other entry and field as before', () => {
    fc.assert(
      fc.property(document, lease(), fc.option(objectOf([...KEYS, 'note'])), (text, added, own) => {
        const key = subnetKey(added.subnet);
        // Mostly one that is there already, with fields of others.
        const file = JSON.parse(text) as { readonly leases: object };
        const leases = own === null ? file.leases : { ...file.leases, [key]: own };
        const before = parseLeaseDocument(JSON.stringify({ ...file, leases }));
        const after = parseLeaseDocument(serializeDocument(withLease(before, added)));
        expect(after.leases.get(key)).toEqual(added);
        const { leases: entriesBefore, ...restBefore } = before.raw;
        const { leases: entriesAfter, ...restAfter } = after.raw;
        expect(JSON.stringify(restAfter)).toBe(JSON.stringify(restBefore));
        const others = (value: unknown) =>
          Object.entries(value as object).filter(([name]) => name !== key);
        expect(JSON.stringify(others(entriesAfter))).toBe(JSON.stringify(others(entriesBefore)));
        const fields = (value: unknown): [string, unknown][] => {
          const entry = (value as Record<string, unknown>)[key];
          if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return [];
          return Object.entries(entry).filter(
            ([name]) => !KEYS.some((known) => known.toLowerCase() === name.toLowerCase()),
          );
        };
        expect(JSON.stringify(fields(entriesAfter))).toBe(JSON.stringify(fields(entriesBefore)));
      }),
      { numRuns: 2_000 },
    );
  });
});
