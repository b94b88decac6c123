/**
 * What a lease says of its holder, as JSON: the value flanneld keeps in etcd, which is also an entry
 * of the lease file. Field order and absence are flannel's (`pkg/lease.LeaseAttrs`), so the text of a
 * udp lease is `{"PublicIP":"10.168.0.2","PublicIPv6":null}` to the byte.
 */
import { formatIpv4, tryParseIpv4 } from '../config/ipv4.js';
import { inputError } from '../errors.js';
import type { Lease, LeaseAttributes } from './store.js';

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The attributes, or why the value is none: names the field, the value and what was expected. */
export function parseAttributes(value: unknown): LeaseAttributes | string {
  if (!isObject(value)) return 'the entry is not a JSON object';
  const publicIpText = value['PublicIP'];
  const publicIp = typeof publicIpText === 'string' ? tryParseIpv4(publicIpText) : undefined;
  if (publicIp === undefined) {
    return inputError('PublicIP', publicIpText, 'an IPv4 address such as 10.168.0.2').message;
  }
  const backendType = value['BackendType'] ?? undefined;
  if (backendType !== undefined && typeof backendType !== 'string') {
    return inputError('BackendType', backendType, 'a string').message;
  }
  const backendData = value['BackendData'] ?? undefined;
  return {
    publicIp,
    ...(backendType === undefined ? {} : { backendType }),
    ...(backendData === undefined ? {} : { backendData }),
  };
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

/** A key is another's text: cut and quoted for logs. */
export function badKey(key: string): string {
  const shown = key.length <= 60 ? key : `${key.slice(0, 57)}...`;
  return `${JSON.stringify(shown)} is not a subnet key: expected the form 100.96.1.0-24`;
}
