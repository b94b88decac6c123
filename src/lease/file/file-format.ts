/**
 * The lease file's text: what a person may write, what a daemon writes back.
 *
 *   {"version":1,
 *    "config":{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}},
 *    "leases":{"100.96.1.0-24":{"PublicIP":"10.168.0.2","PublicIPv6":null,
 *                               "expiresAt":"2026-11-21T12:00:00.000Z"}}}
 *
 * Keys and values under `leases` are those flanneld keeps in etcd, plus `expiresAt`; without it an
 * entry is a reservation and never ends. The text as a whole either makes sense or is refused; a
 * bad entry inside a good text is set aside in `rejected` and stays in the file untouched. Fields
 * this version does not know are kept, at the top and in every entry.
 */
import { formatIpv4, parseSubnetKey, subnetKey, type Cidr } from '../../config/ipv4.js';
import { field, isDeeperThan, isObject, type JsonObject } from '../../config/json.js';
import { inputError, messageOf, systemError } from '../../errors.js';
import { badKey, otherKey, parseAttributes } from '../attributes.js';
import { stringifyDeep } from '../deep-json.js';
import type { Lease, RejectedEntry } from '../store.js';

export const FILE_VERSION = 1;

/** A configuration nested deeper is none; its reader says so. */
const MAX_CONFIG_DEPTH = 32;

/** A file that made sense. `raw` is the parsed JSON itself and is what `serialize` writes. */
export interface LeaseDocument {
  /** The network configuration as JSON text; undefined when there is none. */
  readonly config: string | undefined;
  /** By subnet key; ended leases are included. */
  readonly leases: ReadonlyMap<string, Lease>;
  readonly rejected: readonly RejectedEntry[];
  /** Subnets of rejected entries whose key can be read: never given to anybody else. */
  readonly blocked: readonly Cidr[];
  readonly raw: JsonObject;
}

/**
 * Throws a system error saying what about the text makes no sense. Leases of the document `before`
 * whose entries stayed the same are taken over as they are: of 65,536 a change concerns few.
 */
export function parseLeaseDocument(text: string, before?: LeaseDocument): LeaseDocument {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (error) {
    throw systemError(`not JSON: ${messageOf(error)}`, { cause: error });
  }
  if (!isObject(raw)) throw systemError('not a JSON object');
  if (raw['version'] !== FILE_VERSION) {
    const { message } = inputError('version', raw['version'], `${FILE_VERSION}`);
    throw systemError(message, { field: 'version', value: raw['version'] });
  }
  const entries = raw['leases'] ?? {};
  if (!isObject(entries)) throw systemError('leases: not a JSON object', { field: 'leases' });

  const leases = new Map<string, Lease>();
  const rejected: RejectedEntry[] = [];
  const blocked: Cidr[] = [];
  const unchanged = unchangedSince(before);
  for (const key of Object.keys(entries)) {
    const entry = entries[key];
    const known = unchanged(key, entry);
    if (known !== undefined) {
      leases.set(key, known);
      continue;
    }
    const subnet = parseSubnetKey(key);
    const lease = subnet === undefined ? badKey(key) : parseEntry(key, subnet, entry);
    if (typeof lease === 'string') {
      rejected.push({ key, reason: lease });
      if (subnet !== undefined) blocked.push(subnet);
    } else {
      leases.set(key, lease);
    }
  }
  return {
    config: configText(raw['config'] ?? undefined),
    leases,
    rejected,
    blocked,
    raw,
  };
}

/** Finds the lease of an earlier document whose entry says the same. */
function unchangedSince(
  before: LeaseDocument | undefined,
): (key: string, entry: unknown) => Lease | undefined {
  if (before === undefined) return () => undefined;
  const entries = entriesOf(before);
  // The lease that a rejected entry once had may still be in `leases`.
  const rejected = new Set(before.rejected.map(({ key }) => key));
  return (key, entry) =>
    sameEntry(entries[key], entry) && !rejected.has(key) ? before.leases.get(key) : undefined;
}

/** By the fields that make a lease; one with BackendData is parsed again. */
function sameEntry(a: unknown, b: unknown): boolean {
  if (!isObject(a) || !isObject(b)) return false;
  if (sameFields(a, b)) return true;
  return (
    ['PublicIP', 'expiresAt', 'BackendType'].every((name) => field(a, name) === field(b, name)) &&
    (field(a, 'BackendData') ?? field(b, 'BackendData') ?? undefined) === undefined
  );
}

/** What most entries of a file that was read before are. */
function sameFields(a: JsonObject, b: JsonObject): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

function configText(config: unknown): string | undefined {
  if (config === undefined) return undefined;
  if (isDeeperThan(config, MAX_CONFIG_DEPTH)) return '"nested too deep"';
  return JSON.stringify(config);
}

/** In lower case: what `withLease` writes itself, in whatever case it stood there. */
const OWN_FIELDS = ['publicip', 'publicipv6', 'backendtype', 'backenddata', 'expiresat'];

/** The text with one lease put in; the rest, and the entry's unknown fields, stay as they were. */
export function withLease(document: LeaseDocument, lease: Lease): JsonObject {
  const key = subnetKey(lease.subnet);
  const entries = entriesOf(document);
  const before = entries[key];
  const kept = isObject(before) ? before : {};
  const foreign = Object.entries(kept).filter(([name]) => !OWN_FIELDS.includes(name.toLowerCase()));
  const entry: JsonObject = {
    PublicIP: formatIpv4(lease.attributes.publicIp),
    PublicIPv6: field(kept, 'PublicIPv6') ?? null,
    // Not by assignment: `__proto__` is a name like any other.
    ...Object.fromEntries(foreign),
  };
  setOrRemove(entry, 'BackendType', lease.attributes.backendType);
  setOrRemove(entry, 'BackendData', lease.attributes.backendData);
  setOrRemove(
    entry,
    'expiresAt',
    lease.expiresAt === undefined ? undefined : new Date(lease.expiresAt).toISOString(),
  );
  return { ...document.raw, leases: { ...entries, [key]: entry } };
}

export function withoutLeases(document: LeaseDocument, subnets: readonly Cidr[]): LeaseDocument {
  if (subnets.length === 0) return document;
  const gone = new Set(subnets.map(subnetKey));
  const entries = Object.entries(entriesOf(document)).filter(([key]) => !gone.has(key));
  return { ...document, raw: { ...document.raw, leases: Object.fromEntries(entries) } };
}

export function serializeDocument(raw: JsonObject): string {
  try {
    return `${JSON.stringify(raw, null, 2)}\n`;
  } catch (error) {
    // An entry that is set aside for its depth stays in the file all the same.
    if (!(error instanceof RangeError)) throw error;
    return `${stringifyDeep(raw)}\n`;
  }
}

/** The lease, or why the entry is not one. */
function parseEntry(key: string, subnet: Cidr, entry: unknown): Lease | string {
  const attributes = parseAttributes(entry);
  if (typeof attributes === 'string') return attributes;
  const expiresAt = parseTime(
    isObject(entry) ? (field(entry, 'expiresAt') ?? undefined) : undefined,
  );
  if (typeof expiresAt === 'string') return expiresAt;
  return { subnet, attributes, expiresAt, ...otherKey(key, subnet) };
}

function parseTime(value: unknown): number | undefined | string {
  if (value === undefined) return undefined;
  // Date.parse alone would take "1" for a date.
  const isDate = typeof value === 'string' && /^\d{4}-\d{2}-\d{2}/.test(value);
  const time = isDate ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(time)) {
    return inputError('expiresAt', value, 'a time such as 2026-11-21T12:00:00Z').message;
  }
  return time;
}

function entriesOf(document: LeaseDocument): JsonObject {
  const entries = document.raw['leases'];
  return isObject(entries) ? entries : {};
}

function setOrRemove(entry: JsonObject, name: string, value: unknown): void {
  if (value !== undefined) entry[name] = value;
  else Reflect.deleteProperty(entry, name);
}
