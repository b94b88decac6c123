/** The vxlan backend's part of the network configuration, and what its leases carry. */
import { createHash } from 'node:crypto';
import { field, isObject } from '../../config/json.js';
import type { BackendConfig } from '../../config/network.js';
import type { Ipv4 } from '../../config/ipv4.js';
import { inputError } from '../../errors.js';
import type { LeaseAttributes } from '../../lease/store.js';
import { flagField, integerField } from '../backend-fields.js';
import { typeFault } from '../lease-type.js';
import { MIN_MTU } from '../link-mtu.js';

export const TYPE = 'vxlan';

/** Outer IPv4 (20) and UDP (8) headers, VXLAN's own (8) and the inner Ethernet header (14). */
export const VXLAN_OVERHEAD_BYTES = 50;

/** The kernel's own; flannel leaves the port out for it. IANA's is 4789. */
const DEFAULT_PORT = 8472;
const VNI_MAX = 2 ** 24 - 1;

export interface VxlanSettings {
  readonly vni: number;
  readonly port: number;
  readonly gbp: boolean;
  readonly learning: boolean;
  readonly directRouting: boolean;
  /** MTU of the external interface to count with; undefined: its own. */
  readonly mtu: number | undefined;
}

export const KEYS = ['VNI', 'Port', 'GBP', 'Learning', 'DirectRouting', 'MTU'] as const;

/** Throws an input error that names the field. */
export function parseVxlanSettings(config: BackendConfig): VxlanSettings {
  // As flannel: 0 is the default.
  const integer = (name: string, least: number, most: number): number | undefined =>
    field(config.raw, name) === 0 ? undefined : integerField(config, name, least, most);
  return {
    vni: integer('VNI', 1, VNI_MAX) ?? 1,
    port: integer('Port', 1, 65_535) ?? DEFAULT_PORT,
    gbp: flagField(config, 'GBP'),
    learning: flagField(config, 'Learning'),
    directRouting: flagField(config, 'DirectRouting'),
    mtu: integer('MTU', MIN_MTU + VXLAN_OVERHEAD_BYTES, 65_535),
  };
}

/** `aa:bb:cc:dd:ee:ff` as a number; undefined when it is none, or a group's. */
export function parseMac(text: unknown): number | undefined {
  if (typeof text !== 'string' || !/^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i.test(text)) return undefined;
  const first = Number.parseInt(text.slice(0, 2), 16);
  const mac = Number.parseInt(text.replaceAll(':', ''), 16);
  return (first & 1) === 1 || mac === 0 ? undefined : mac;
}

export function formatMac(mac: number): string {
  return (mac.toString(16).padStart(12, '0').match(/../g) ?? []).join(':');
}

/** The same for one host and VNI at every start, so that no other host has to learn another one. */
export function macOf(publicIp: Ipv4, vni: number): number {
  const bytes = createHash('sha256').update(`flannelette vxlan ${publicIp} ${vni}`).digest();
  // Locally administered, and no group's (IEEE 802).
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return bytes.readUIntBE(0, 6);
}

/** The MAC address in a lease of a vxlan host, or why no packet of this VNI can be sent to it. */
export function vtepMacOf(attributes: LeaseAttributes, vni: number): number | string {
  const fault = typeFault(TYPE, attributes);
  if (fault !== undefined) return fault;
  const data = isObject(attributes.backendData) ? attributes.backendData : {};
  // Old flannels do not tell.
  const its = field(data, 'VNI');
  if (typeof its === 'number' && its !== vni) {
    return inputError('BackendData.VNI', its, `${vni}, the VNI of this host`).message;
  }
  const text = field(data, 'VtepMAC');
  return (
    parseMac(text) ??
    inputError('BackendData.VtepMAC', text, 'a MAC address such as 02:42:0a:a8:00:03').message
  );
}
