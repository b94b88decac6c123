/**
 * The network of the lease benchmark: 10.0.0.0/8 in 65,536 subnets, every one of them leased.
 *
 *     host-1: 192.168.77.2, the second subnet 10.0.1.0/24
 *     host-2: 192.168.77.3, the last subnet 10.255.255.0/24, so that traffic proves its lookup
 *     the other 65,534: hosts in 172.16.0.0/12, which are never asked to forward
 *
 * Hosts of the documents (10.168.0.x) would lie inside this network, hence the other underlay.
 */
import { TUNNEL_PORT } from '../../src/testbed/daemon-process.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { FILE_VERSION } from '../../src/lease/file/file-format.js';

export const SUBNETS = 65_536;
/** A host's own subnet is no route. */
export const ROUTES = SUBNETS - 1;
export const GATEWAY = '192.168.77.1';
export const CONFIG = {
  Network: '10.0.0.0/8',
  SubnetLen: 24,
  Backend: { Type: 'udp', Port: TUNNEL_PORT },
};

export const NEAR = hostAt(1, 1);
export const FAR = hostAt(2, SUBNETS - 1);

/** The lease that is taken away first and comes back last: with it a table is complete again. */
export const PROBE = SUBNETS / 2;

/** Indexes that only the hosts themselves, or the probe's own changes, may change. */
export const FIXED: ReadonlySet<number> = new Set([1, SUBNETS - 1, PROBE]);

/** A subnet's address by its index, 0 to 65,535. */
function subnetAt(index: number): string {
  return `10.${index >> 8}.${index & 255}.0`;
}

/** The store's key of a subnet. */
export function keyAt(index: number): string {
  return `${subnetAt(index)}-24`;
}

/** The address of a lease's holder; another one in each generation, 0 to 15. */
export function holderAt(index: number, generation: number): string {
  if (index === 1) return NEAR.address;
  if (index === SUBNETS - 1) return FAR.address;
  return `172.${16 + generation}.${index >> 8}.${index & 255}`;
}

/** All leases as they are at the beginning, holder by key. */
export function initialLeases(): Map<string, string> {
  return new Map(Array.from({ length: SUBNETS }, (_, index) => [keyAt(index), holderAt(index, 0)]));
}

/** The two hosts' leases alone: a network without other hosts. */
export function hostLeases(): Map<string, string> {
  return new Map([1, SUBNETS - 1].map((index) => [keyAt(index), holderAt(index, 0)]));
}

/** The hosts' own leases are reservations; all others end. */
export function isReservation(holder: string): boolean {
  return holder === NEAR.address || holder === FAR.address;
}

/** The lease file as a daemon would write it; by hand, because ten a second are needed. */
export function leaseFileText(leases: ReadonlyMap<string, string>, expiresAt: string): string {
  const head = JSON.stringify({ version: FILE_VERSION, config: CONFIG, leases: {} }, null, 2);
  const entries: string[] = [];
  for (const [key, holder] of leases) {
    const end = isReservation(holder) ? '' : `,\n      "expiresAt": "${expiresAt}"`;
    entries.push(
      `    "${key}": {\n      "PublicIP": "${holder}",\n      "PublicIPv6": null${end}\n    }`,
    );
  }
  return `${head.slice(0, -'}\n}'.length)}\n${entries.join(',\n')}\n  }\n}\n`;
}

/** flanneld's value of a key in etcd. */
export function leaseValue(holder: string): string {
  return `{"PublicIP":"${holder}","PublicIPv6":null}`;
}

/** Leases that share a grant: a grant each would take etcd long to make. */
const LEASES_PER_GRANT = 64;
export const GRANTS = SUBNETS / LEASES_PER_GRANT;

/**
 * The grant a lease hangs on, 1 to GRANTS, by its key. A single grant for all would not do: each put
 * costs etcd time in proportion to the keys of its grant.
 */
export function grantOf(key: string): string {
  const [, high = '', low = ''] = key.split('.');
  return String(1 + Math.floor((Number(high) * 256 + Number(low)) / LEASES_PER_GRANT));
}

function hostAt(number: number, index: number): HostPlan {
  const base = subnetAt(index).slice(0, -1);
  return {
    number,
    host: `host-${number}`,
    container: `container-${number}`,
    address: `192.168.77.${number + 1}`,
    subnet: `${base}0/24`,
    tunAddress: `${base}0`,
    bridgeAddress: `${base}1`,
    containerAddress: `${base}${number + 1}`,
  };
}
