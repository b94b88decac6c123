/**
 * What a lease says of its holder, as JSON: the value flanneld keeps in etcd, which is also an entry
 * of the lease file. Field order and absence are flannel's (`pkg/lease.LeaseAttrs`), so the text of a
 * udp lease is `{"PublicIP":"10.168.0.2","PublicIPv6":null}` to the byte.
 */
import { formatIpv4, subnetKey, tryParseIpv4, type Cidr, type Ipv4 } from '../config/ipv4.js';
import { field, isDeeperThan, isObject } from '../config/json.js';
import { escapeControls, inputError, messageOf } from '../errors.js';
import type { Lease, LeaseAttributes } from './store.js';

/**
 * Bounds of a lease's value, far beyond any backend's data. Without them one lease would keep every
 * host from writing down what it knows.
 */
export const MAX_LEASE_BYTES = 65_536;
export const MAX_LEASE_DEPTH = 32;

/** The attributes in the text of a store's value, or why there are none. */
export function parseLeaseText(value: Buffer): LeaseAttributes | string {
  if (value.length > MAX_LEASE_BYTES) {
    return `the value has ${value.length} bytes: expected at most ${MAX_LEASE_BYTES}`;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString('utf8'));
  } catch (error) {
    return `the value is not JSON: ${messageOf(error)}`;
  }
  return parseAttributes(parsed);
}

/**
 * The attributes, or why the value is none: names the field, the value and what was expected. Keys
 * match in any case, as in flanneld.
 */
export function parseAttributes(value: unknown): LeaseAttributes | string {
  if (!isObject(value)) return 'the entry is not a JSON object';
  if (isDeeperThan(value, MAX_LEASE_DEPTH)) {
    return `the entry is nested too deep: expected at most ${MAX_LEASE_DEPTH} levels`;
  }
  const publicIpText = field(value, 'PublicIP');
  const publicIp = typeof publicIpText === 'string' ? parsePublicIp(publicIpText) : undefined;
  if (publicIp === undefined) {
    return inputError('PublicIP', publicIpText, 'an IPv4 address such as 10.168.0.2').message;
  }
  const backendType = field(value, 'BackendType') ?? undefined;
  if (backendType !== undefined && typeof backendType !== 'string') {
    return inputError('BackendType', backendType, 'a string').message;
  }
  const backendData = field(value, 'BackendData') ?? undefined;
  return {
    publicIp,
    ...(backendType === undefined ? {} : { backendType }),
    ...(backendData === undefined ? {} : { backendData }),
  };
}

/** Also as Go writes and reads an IPv4 address in IPv6's form. */
function parsePublicIp(text: string): Ipv4 | undefined {
  return tryParseIpv4(text.replace(/^::ffff:/i, ''));
}

export function serializeAttributes(attributes: LeaseAttributes): string {
  const { publicIp, backendType, backendData } = attributes;
  return JSON.stringify({
    PublicIP: formatIpv4(publicIp),
    PublicIPv6: null,
    ...(backendType === undefined ? {} : { BackendType: backendType }),
    ...(backendData === undefined ? {} : { BackendData: backendData }),
  });
}

/** BackendData is JSON, so its text decides. */
export function sameAttributes(a: LeaseAttributes, b: LeaseAttributes): boolean {
  return (
    a.publicIp === b.publicIp &&
    a.backendType === b.backendType &&
    (a.backendData === b.backendData ||
      JSON.stringify(a.backendData) === JSON.stringify(b.backendData))
  );
}

export function sameLease(a: Lease, b: Lease): boolean {
  return a.expiresAt === b.expiresAt && sameAttributes(a.attributes, b.attributes);
}

/** Which entry of the store a lease is: the key it stands under. */
export function keyOf({ key, subnet }: Pick<Lease, 'key' | 'subnet'>): string {
  return key ?? subnetKey(subnet);
}

/** `key` for a lease that stands under `name`: nothing where that is how its subnet is written. */
export function otherKey(name: string, subnet: Cidr): { readonly key?: string } {
  return name === subnetKey(subnet) ? {} : { key: name };
}

/** A key is another's text: cut for people. */
export function shownKey(key: string): string {
  return key.length <= 60 ? key : `${key.slice(0, 57)}...`;
}

export function badKey(key: string): string {
  return `${escapeControls(JSON.stringify(shownKey(key)))} is not a subnet key: expected the form 100.96.1.0-24`;
}
