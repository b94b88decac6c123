/**
 * The documents' network on one machine.
 *
 *     container-1 100.96.1.2                                     container-2 100.96.2.3
 *         | eth0 (veth)                                              | eth0 (veth)
 *   host-1: docker0 100.96.1.1/24, flannel0 100.96.1.0         host-2: docker0 100.96.2.1/24, ...
 *         | eth0 10.168.0.2/24 (veth)                                | eth0 10.168.0.3/24 (veth)
 *         `---------------- br0 10.168.0.1/24, the switch -----------'
 *                          etcd on port 2379, if asked for
 *
 * Host 3, with 10.168.0.4, 100.96.3.0/24 and container-3 100.96.3.4, comes and goes.
 *
 * Each host and each container is a named network namespace; the switch is a bridge in the lab's
 * own. Runs only in an isolated process (src/testbed/isolate.ts), where /run is empty.
 */
import { mkdir } from 'node:fs/promises';
import { inNamespace, run } from './programs.js';

export interface HostPlan {
  /** 1 for node 1 of the documents. */
  readonly number: number;
  readonly host: string;
  readonly container: string;
  readonly address: string;
  readonly subnet: string;
  readonly tunAddress: string;
  readonly bridgeAddress: string;
  readonly containerAddress: string;
}

export const OVERLAY = '100.96.0.0/16';
export const GATEWAY = '10.168.0.1';
export const LAB_DIRECTORY = '/run/flannelette-lab';

/** Addresses of host n, 1 to 200: those of the documents for 1 and 2, and on in the same way. */
export function hostPlan(number: number): HostPlan {
  return {
    number,
    host: `host-${number}`,
    container: `container-${number}`,
    address: `10.168.0.${number + 1}`,
    subnet: `100.96.${number}.0/24`,
    tunAddress: `100.96.${number}.0`,
    bridgeAddress: `100.96.${number}.1`,
    containerAddress: `100.96.${number}.${number + 1}`,
  };
}

/** The switch's bridge. */
export const SWITCH = 'br0';

/** The switch's port for a host: the other end of its eth0. */
export function switchPort(plan: HostPlan): string {
  return `up${plan.number}`;
}

/** docker0's port for a host's container: the other end of the container's eth0. */
export function containerPort(plan: HostPlan): string {
  return `veth-${plan.container}`.slice(0, MAX_DEVICE_NAME);
}

/** IFNAMSIZ without its terminating zero. */
const MAX_DEVICE_NAME = 15;

/** Default MTU of the hosts' eth0 in bytes. */
export const UNDERLAY_MTU = 1500;

export interface UnderlayOptions {
  /** MTU of the hosts' eth0 in bytes; default UNDERLAY_MTU. */
  readonly mtu?: number;
  /** Segmentation and checksum offload of the hosts' eth0; default on. */
  readonly offload?: boolean;
  /** The switch's own address, as given to buildSwitch; default GATEWAY. */
  readonly gateway?: string;
}

/** Sets the switch up. */
export async function buildSwitch(gateway = GATEWAY): Promise<void> {
  await mkdir('/run/netns', { recursive: true });
  await mkdir(LAB_DIRECTORY, { recursive: true });
  await ipBatch(undefined, [
    'link set lo up',
    `link add ${SWITCH} type bridge`,
    `address add ${gateway}/24 dev ${SWITCH}`,
    `link set ${SWITCH} up`,
  ]);
  await bypassBridgeFilter(undefined);
}

/** Undoes buildSwitch; hosts and containers must be gone. */
export async function removeSwitch(): Promise<void> {
  await ipBatch(undefined, [`link delete ${SWITCH}`]);
}

/** A host with eth0, without docker0 and container: those come with the overlay's parameters. */
export async function addHost(plan: HostPlan, underlay: UnderlayOptions = {}): Promise<void> {
  const uplink = switchPort(plan);
  const mtu = underlay.mtu ?? UNDERLAY_MTU;
  await ipBatch(undefined, [
    `netns add ${plan.host}`,
    `link add eth0 mtu ${mtu} netns ${plan.host} type veth peer name ${uplink} mtu ${mtu}`,
    `link set ${uplink} master ${SWITCH} up`,
  ]);
  await ipBatch(plan.host, [
    'link set lo up',
    `address add ${plan.address}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${underlay.gateway ?? GATEWAY} dev eth0`,
  ]);
  await run(inNamespace(plan.host, ['sysctl', '-qw', 'net.ipv4.ip_forward=1']));
  await bypassBridgeFilter(plan.host);
  if (underlay.offload === false) {
    const off = ['tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off'];
    await run(inNamespace(plan.host, ['ethtool', '-K', 'eth0', ...off]));
    await run(['ethtool', '-K', uplink, ...off]);
  }
}

/**
 * docker0 and the container, as `dockerd --bip=BIP --mtu=MTU` would make them. `bip` is
 * FLANNEL_SUBNET of the host's subnet.env, e.g. 100.96.1.1/24.
 */
export async function addContainer(plan: HostPlan, bip: string, mtu: number): Promise<void> {
  const port = containerPort(plan);
  await ipBatch(undefined, [`netns add ${plan.container}`]);
  await ipBatch(plan.host, [
    'link add docker0 type bridge',
    `address add ${bip} dev docker0`,
    `link add ${port} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${plan.container}`,
    `link set ${port} master docker0 up`,
    'link set docker0 up',
  ]);
  const prefix = bip.slice(bip.indexOf('/'));
  await ipBatch(plan.container, [
    'link set lo up',
    `address add ${plan.containerAddress}${prefix} dev eth0`,
    'link set eth0 up',
    `route add default via ${bip.slice(0, bip.indexOf('/'))} dev eth0`,
  ]);
}

/** Undoes addContainer. Deleting a namespace deletes the devices in it, and a veth its peer. */
export async function removeContainer(plan: HostPlan): Promise<void> {
  await ipBatch(undefined, [`netns delete ${plan.container}`]);
  await ipBatch(plan.host, ['link delete docker0']);
}

/** Undoes addHost. Its processes must have ended. */
export async function removeHost(plan: HostPlan): Promise<void> {
  await ipBatch(undefined, [`link delete ${switchPort(plan)}`, `netns delete ${plan.host}`]);
}

/** Runs several ip(8) commands in one process, in a host's or container's namespace or our own. */
export async function ipBatch(
  namespace: string | undefined,
  commands: readonly string[],
): Promise<void> {
  const argv = ['ip', '-batch', '-'];
  await run(inNamespace(namespace, argv), {
    input: `${commands.join('\n')}\n`,
  });
}

/**
 * Where br_netfilter is loaded, bridged frames pass iptables (net.bridge is per namespace since
 * Linux 5.3). A switch has no firewall.
 */
async function bypassBridgeFilter(namespace: string | undefined): Promise<void> {
  const keys = ['iptables', 'ip6tables', 'arptables'];
  const argv = ['sysctl', '-qew', ...keys.map((key) => `net.bridge.bridge-nf-call-${key}=0`)];
  await run(inNamespace(namespace, argv), { accept: [0, 1, 255] });
}
