/**
 * Whether this node's containers hang on a bridge with an address of its subnet (`--bip`, CNI's
 * isDefaultGateway). flannel's daemons make no bridge; one that was set up without the subnet, or with
 * that of an earlier lease, forwards nothing and says nothing.
 */
import { existsSync } from 'node:fs';
import {
  cidrOf,
  contains,
  firstHost,
  formatCidr,
  formatIpv4,
  type Cidr,
  type Ipv4,
} from '../config/ipv4.js';
import type { Problem } from '../problems.js';
import type { HostInterfaceInfo } from './interface.js';

/** What container runtimes and CNI plugins call theirs. */
const CONTAINER_BRIDGES: ReadonlySet<string> = new Set([
  'docker0',
  'cni0',
  'cbr0',
  'podman0',
  'cni-podman0',
  'nerdctl0',
]);

export interface BridgeCheck {
  readonly interfaces: readonly HostInterfaceInfo[];
  readonly network: Cidr;
  /** This host's. */
  readonly subnet: Cidr;
  /** Where the tunnel is bound: a bridge that has it is the host's own network. */
  readonly external: Ipv4;
  readonly isBridge?: (name: string) => boolean;
}

/** None while there is no bridge: the first container may be yet to come. */
export function bridgeProblems(check: BridgeCheck): Problem[] {
  const { interfaces, subnet, external, isBridge = isContainerBridge } = check;
  // Most are ends of containers, and have none: no file is looked for of those.
  const bridges = interfaces.filter(
    ({ name, addresses }) =>
      addresses.length > 0 &&
      isBridge(name) &&
      !addresses.some(({ address }) => address === external),
  );
  const held = bridges.flatMap(({ name, addresses }) =>
    addresses.map(({ address, prefix }) => ({ name, address, prefix })),
  );
  const inside = held.filter(({ address }) => contains(subnet, address));
  const wide = inside.find(({ prefix }) => prefix < subnet.prefix);
  if (wide !== undefined) return [tooWide(check, wide)];
  const [outside] = held;
  // Another device may be the gateway: a macvlan, a veth to the one container.
  const served = interfaces.some(({ addresses }) =>
    addresses.some(({ address }) => address !== subnet.network && contains(subnet, address)),
  );
  return served || outside === undefined ? [] : [notInSubnet(check, outside)];
}

interface Held {
  readonly name: string;
  readonly address: Ipv4;
  readonly prefix: number;
}

function notInSubnet({ network, subnet }: BridgeCheck, { name, address, prefix }: Held): Problem {
  const where = contains(network, address)
    ? `in ${formatCidr(cidrOf(address, subnet.prefix))}, which is not this node's`
    : `outside the network ${formatCidr(network)}`;
  return {
    id: 'container_bridge_outside_subnet',
    message:
      `${name} has ${formatIpv4(address)}/${prefix}, ${where}: other nodes cannot reach the containers on it; ` +
      `expected an address of this node's subnet ${formatCidr(subnet)}`,
    ...remedy(name, subnet),
  };
}

function tooWide({ subnet }: BridgeCheck, { name, address, prefix }: Held): Problem {
  return {
    id: 'container_bridge_too_wide',
    message:
      `${name} has ${formatIpv4(address)}/${prefix}, more than this node's subnet ${formatCidr(subnet)}: ` +
      `containers look for other nodes' containers on the bridge; expected /${subnet.prefix}`,
    ...remedy(name, subnet),
  };
}

function remedy(name: string, subnet: Cidr): { readonly remedy?: string } {
  if (name !== 'docker0') return {};
  return { remedy: `dockerd --bip=${formatIpv4(firstHost(subnet))}/${subnet.prefix}` };
}

/** By its name, or because it is a bridge and not libvirt's, which is for virtual machines. */
function isContainerBridge(name: string): boolean {
  if (CONTAINER_BRIDGES.has(name)) return true;
  return !name.startsWith('virbr') && existsSync(`/sys/class/net/${name}/bridge`);
}
