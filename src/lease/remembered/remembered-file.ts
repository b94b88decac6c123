/**
 * What was last known of a remote store, kept on this host: the text of a lease file with a few lines
 * more, so that a person reads both alike.
 *
 *   {"version":1,"store":"http://10.168.0.1:2379/coreos.com/network",
 *    "asOf":"2026-11-21T12:00:00.000Z","own":"100.96.1.0-24","config":{...},"leases":{...}}
 *
 * Other hosts' leases carry no expiry: only the store knows it, and a route that may have ended is
 * better than none while the store is unreachable.
 */
import { parseSubnetKey, subnetKey, type Cidr } from '../../config/ipv4.js';
import { errnoOf, messageOf, systemError } from '../../errors.js';
import { replaceFile } from '../../host/atomic-file.js';
import { readBounded } from '../../host/bounded-read.js';
import { keyOf, serializeAttributes } from '../attributes.js';
import { expiryTime } from '../expiry.js';
import { FILE_VERSION, parseLeaseDocument } from '../file/file-format.js';
import type { Lease, LeaseAttributes } from '../store.js';

/** More leases than this are not kept: twice the /24 subnets of 10.0.0.0/8. */
export const MAX_REMEMBERED = 131_072;
/** A file beyond this is none of ours. */
const MAX_BYTES = 64 * 1024 * 1024;
/** Limit of a lease's BackendData in characters; flannel's backends need some hundred. */
const MAX_DATA_LENGTH = 256;

export interface RememberedLeases {
  /** The store's location: leases of another cluster are no use. */
  readonly store: string;
  /** When all this was true, in milliseconds since the epoch. */
  readonly asOf: number;
  /** The network configuration as JSON text. */
  readonly config: string;
  /** This host's lease, with its expiry. */
  readonly own: Lease | undefined;
  /** Where the store says which address others reach this host by (LeaseStore.readPublicIp). */
  readonly publicIp?: string | undefined;
  /** Everybody's leases, our own included. */
  readonly leases: readonly Lease[];
}

/** Beside subnet.env. */
export function rememberedPath(subnetFile: string): string {
  return `${subnetFile}.leases.json`;
}

/** Undefined when there is no file; rejects with a system error when it makes no sense. */
export async function readRemembered(path: string): Promise<RememberedLeases | undefined> {
  try {
    // Routes come out of it: another user who can write it could send this host's packets anywhere.
    const { text } = await readBounded(path, { maxBytes: MAX_BYTES, trusted: true });
    return parseRemembered(text);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw systemError(`the remembered leases in ${path} are of no use: ${messageOf(error)}`, {
      field: '--subnet-file',
      value: path,
      cause: error,
    });
  }
}

/** Throws a system error that says what about the text makes no sense. */
export function parseRemembered(text: string): RememberedLeases {
  const { raw, config, leases } = parseLeaseDocument(text);
  const { store, asOf, own, publicIp } = raw;
  const time = typeof asOf === 'string' ? Date.parse(asOf) : Number.NaN;
  if (typeof store !== 'string' || Number.isNaN(time) || config === undefined) {
    throw systemError('store, asOf or config is missing');
  }
  const ownSubnet: Cidr | undefined = typeof own === 'string' ? parseSubnetKey(own) : undefined;
  return {
    store,
    asOf: time,
    config,
    own: ownSubnet === undefined ? undefined : leases.get(subnetKey(ownSubnet)),
    ...(typeof publicIp === 'string' ? { publicIp } : {}),
    leases: [...leases.values()],
  };
}

export function formatRemembered(remembered: RememberedLeases): string {
  const { store, asOf, config, own, publicIp, leases } = remembered;
  const ownKey = own === undefined ? undefined : subnetKey(own.subnet);
  const entries = leases.slice(0, MAX_REMEMBERED).map((lease) => {
    const key = keyOf(lease);
    const entry = `${JSON.stringify(key)}: ${serializeAttributes(withinBounds(lease.attributes))}`;
    const ends = key === ownKey && own !== undefined ? expiryTime(own) : undefined;
    if (ends === undefined || !Number.isFinite(ends)) return `    ${entry}`;
    return `    ${entry.slice(0, -1)},"expiresAt":"${new Date(ends).toISOString()}"}`;
  });
  const head = {
    version: FILE_VERSION,
    store,
    asOf: new Date(asOf).toISOString(),
    own: ownKey,
    publicIp,
  };
  const lines = JSON.stringify(head, undefined, 2).slice(0, -2);
  // One entry a line: an indented object for each would double a file of 65,536.
  return `${lines},\n  "config": ${config},\n  "leases": {\n${entries.join(',\n')}\n  }\n}\n`;
}

/** Without data so large that the file, of many leases with such, could not be read again. */
function withinBounds(attributes: LeaseAttributes): LeaseAttributes {
  const { backendData, ...rest } = attributes;
  if (backendData === undefined) return attributes;
  return JSON.stringify(backendData).length > MAX_DATA_LENGTH ? rest : attributes;
}

/** Writes what formatRemembered gave. Rejects with a system error naming the path; what was there before stays. */
export async function writeRemembered(path: string, text: string): Promise<void> {
  try {
    await replaceFile(path, text, { mode: 0o600 });
  } catch (error) {
    const code = errnoOf(error);
    throw systemError(`cannot keep the leases in ${path}: ${messageOf(error)}`, {
      field: '--subnet-file',
      value: path,
      cause: error,
      ...(code === undefined ? {} : { code }),
    });
  }
}
