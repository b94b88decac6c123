/**
 * The same traffic through a table of two leases and one of 65,536: two /10 of 100.0.0.0/8, or every
 * /24. Whatever is not the near host's is the far one's, so that a sender in the near container
 * reaches the far container under any of the 4,194,304 addresses of 100.192.0.0/10, which are in
 * 16,384 of the /24:
 *
 *   container-1 100.96.1.2 -> host-1, lookup -> host-2: 100.192.0.0/10 via 100.200.2.3
 *     -> container-2, to which all of 100.192.0.0/10 is local
 *
 * Each host has a lease file of its own, in which every lease but its own is the other's. The far
 * daemon delivers to subnets it does not lease, hence --source-check=false there.
 */
import { UDP_OVERHEAD_BYTES } from '../../src/forward/udp/udp-settings.js';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { replaceFile } from '../../src/host/atomic-file.js';
import { startDaemons, TUNNEL_PORT } from '../../src/testbed/daemon-process.js';
import { hostPlan, LAB_DIRECTORY, type HostPlan } from '../../src/testbed/topology.js';
import { FILE_VERSION } from '../../src/lease/file/file-format.js';
import { FLANNELETTE } from '../frame/machine.js';
import { daemonOverlay, type RunningOverlay, type Subject, type Underlay } from './subject.js';

const NEAR = hostPlan(1);
const FAR: HostPlan = {
  ...hostPlan(2),
  subnet: '100.200.2.0/24',
  tunAddress: '100.200.2.0',
  bridgeAddress: '100.200.2.1',
  containerAddress: '100.200.2.3',
};

/** Addresses that lead to the far container. */
const SCATTER = '100.192.0.0/10';

/** Longer than a start with 65,536 leases takes on a slow machine. */
const READY_LIMIT_MS = 60_000;

/** Holder by subnet: what is `own` of a host is its, all else the other's. */
export function leasesOf(
  subnets: readonly string[],
  own: string,
  host: HostPlan,
  other: HostPlan,
): Record<string, { PublicIP: string; PublicIPv6: null }> {
  return Object.fromEntries(
    subnets.map((subnet) => [
      subnet.replace('/', '-'),
      { PublicIP: (subnet === own ? host : other).address, PublicIPv6: null },
    ]),
  );
}

interface Division {
  readonly subnetLength: number;
  readonly subnets: readonly string[];
  readonly near: string;
  readonly far: string;
}

/** Two of the four quarters; a network has four subnets at least. */
const QUARTERS: Division = {
  subnetLength: 10,
  subnets: ['100.64.0.0/10', SCATTER],
  near: '100.64.0.0/10',
  far: SCATTER,
};

const EVERY_SUBNET: Division = {
  subnetLength: 24,
  subnets: Array.from({ length: 65_536 }, (_, index) => `100.${index >> 8}.${index & 255}.0/24`),
  near: NEAR.subnet,
  far: FAR.subnet,
};

async function setUp(division: Division, { near, far }: Underlay): Promise<RunningOverlay> {
  const config = {
    Network: '100.0.0.0/8',
    SubnetLen: division.subnetLength,
    Backend: { Type: 'udp', Port: TUNNEL_PORT },
  };
  const path = (host: HostPlan): string => join(LAB_DIRECTORY, host.host, 'routes', 'leases.json');
  for (const [host, own, other] of [
    [near, division.near, far],
    [far, division.far, near],
  ] as const) {
    await mkdir(dirname(path(host)), { recursive: true });
    const leases = leasesOf(division.subnets, own, host, other);
    await replaceFile(path(host), JSON.stringify({ version: FILE_VERSION, config, leases }));
  }
  const daemons = await startDaemons([near, far], (host) => ({
    command: FLANNELETTE,
    mode: 'offload',
    readyLimitMs: READY_LIMIT_MS,
    storeFlags: [`--lease-file=${path(host)}`],
    flags: host === far ? ['--source-check=false'] : [],
  }));
  return daemonOverlay(daemons);
}

const subject = (name: string, what: string, division: Division): Subject => ({
  name,
  what,
  main: true,
  mtu: (mtu) => mtu - UDP_OVERHEAD_BYTES,
  hosts: { near: NEAR, far: FAR },
  scatter: SCATTER,
  setUp: (underlay) => setUp(division, underlay),
});

export const FEW_LEASES = 'offload-2-leases';
export const ALL_LEASES = 'offload-65536-leases';

export const MANY_ROUTES: readonly Subject[] = [
  subject(FEW_LEASES, 'offload, 2 leases of 100.0.0.0/8', QUARTERS),
  subject(ALL_LEASES, 'offload, all 65,536 leases of 100.0.0.0/8', EVERY_SUBNET),
];
