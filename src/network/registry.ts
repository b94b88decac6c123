/** From `Backend.Type` of the network configuration to the backend that implements it. */
import {
  configDifferences,
  parseNetworkConfig,
  unknownKeys,
  type BackendConfig,
  type NetworkConfig,
  type UnknownKey,
} from '../config/network.js';
import { inputError } from '../errors.js';
import { HOST_GW, type HostGwOptions } from '../forward/host-gw/host-gw.js';
import { UDP, type UdpOptions } from '../forward/udp/udp.js';
import { VXLAN, type VxlanOptions } from '../forward/vxlan/vxlan.js';
import type { Backend, BackendContext, BackendKind } from './forwarder.js';

export type { InheritedTunnel, TunnelKeeper } from '../forward/udp/inherited.js';

/** What a daemon tells its backend, whichever it is. */
export type ForwarderOptions = UdpOptions & HostGwOptions & VxlanOptions;

const KINDS: readonly BackendKind<ForwarderOptions>[] = [UDP, VXLAN, HOST_GW];

/** flannel's other backends, so that an error can tell "not here" from "misspelt". */
const FLANNEL_BACKENDS: ReadonlySet<string> = new Set([
  'wireguard',
  'ipip',
  'ipsec',
  'extension',
  'alloc',
  'tencent-vpc',
]);

/** Throws an input error that names `Backend.Type` when there is no such backend. */
export function backendKind({ type }: BackendConfig): BackendKind<ForwarderOptions> {
  const kind = knownKind(type);
  if (kind !== undefined) return kind;
  const known = KINDS.map((one) => JSON.stringify(one.type)).join(' or ');
  const why = FLANNEL_BACKENDS.has(type)
    ? `${known} (flannelette does not implement ${type})`
    : `${known}, which flannelette implements`;
  throw inputError('Backend.Type', type, why);
}

/** Whether a host can have both, while the others change from one to the other. */
export function canStandBeside(backend: BackendConfig, other: BackendConfig): boolean {
  if (backend.type !== other.type) return true;
  return backendKind(backend).canStandBeside?.(backend, other) ?? false;
}

/** Throws an input error when the type is unknown, or the backend does not fit. */
export function createBackend(context: BackendContext, options: ForwarderOptions): Backend {
  return backendKind(context.config.backend).create(context, options);
}

/**
 * The network configuration with its backend's part checked. An unknown backend is left to
 * createBackend. Throws an input error that names the field.
 *
 * @example
 * ```ts
 * parseConfig('{"Network":"100.96.0.0/16"}').subnetLen; // 24
 * ```
 */
export function parseConfig(text: string, field?: string): NetworkConfig {
  const config = parseNetworkConfig(text, field);
  settingsOf(config);
  return config;
}

/** True when parseConfig takes the text. */
export function isConfig(text: string): boolean {
  try {
    parseConfig(text);
    return true;
  } catch {
    return false;
  }
}

/** What differs for a daemon, however the two are written, as `NAME OLD -> NEW`. */
export function differences(before: NetworkConfig, after: NetworkConfig): string[] {
  const now = new Map(settingsOf(after));
  const settings = settingsOf(before)
    .filter(([name, value]) => now.has(name) && now.get(name) !== value)
    .map(([name, value]) => `Backend.${name} ${value} -> ${now.get(name) ?? ''}`);
  return [...configDifferences(before, after), ...settings];
}

/** Keys of a valid configuration that have no effect. */
export function keysWithoutEffect(text: string): UnknownKey[] {
  return unknownKeys(text, knownKind(parseNetworkConfig(text).backend.type)?.keys);
}

function settingsOf({ backend }: NetworkConfig): readonly (readonly [string, string])[] {
  return knownKind(backend.type)?.settings(backend) ?? [];
}

function knownKind(wanted: string): BackendKind<ForwarderOptions> | undefined {
  return KINDS.find(({ type }) => type === wanted);
}
