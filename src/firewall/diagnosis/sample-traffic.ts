/**
 * The traffic of an overlay as sample packets: what a judge sends through the rules.
 *
 *     container 100.96.1.2 ── docker0 [forward] flannel0 ~~~ 100.96.2.3          between containers
 *     this host 10.168.0.2:8285 <── eth0 [input]  [output] eth0 ──> peers        datagrams
 *     this host <── flannel0 [input] <~~~ 100.96.2.3                             answers to this host
 *
 * Addresses from both ends of a subnet and ports that no rule names by chance: an operator's rule for
 * one container or one service says nothing of the overlay.
 */
import { broadcast, contains, formatIpv4, type Cidr, type Ipv4 } from '../../config/ipv4.js';
import type { Hook, Packet, Protocol } from './model.js';

/** What the judge has to know of the overlay and of this host. */
export interface Overlay {
  readonly network: Cidr;
  /** This host's. */
  readonly subnet: Cidr;
  /** Port of the tunnel's datagrams; undefined when nothing travels in UDP. */
  readonly port: number | undefined;
  readonly external: { readonly name: string; readonly address: Ipv4 };
  /** The TUN device. */
  readonly device: string;
  /** Devices that hold an address of the subnet, as docker0; empty while there is none. */
  readonly bridges: readonly string[];
  /** Some of the other nodes, or all. */
  readonly peers: readonly { readonly subnet: Cidr; readonly address: Ipv4 }[];
}

export interface Sample {
  readonly packet: Packet;
  /** The hooks it passes on this host. */
  readonly hooks: readonly Hook[];
}

/** Neither well known nor a usual range of a service. */
const SOME_PORT = 47_111;
const ANOTHER_PORT = 51_217;
/** Nodes whose containers are taken for samples. */
const SAMPLED_PEERS = 3;
const ROUTED: readonly Hook[] = ['prerouting', 'forward', 'postrouting'];

/** The first and the last container a subnet has room for. */
function hostsOf(subnet: Cidr): Ipv4[] {
  const last = broadcast(subnet) - 1;
  return [...new Set([Math.min(subnet.network + 2, last), last])];
}

function remoteContainers({ network, subnet, peers }: Overlay): Ipv4[] {
  const step = Math.max(1, Math.ceil(peers.length / SAMPLED_PEERS));
  const sampled = peers.filter((_peer, index) => index % step === 0);
  if (sampled.length > 0) return sampled.flatMap((peer) => hostsOf(peer.subnet));
  return hostsOf(network).filter((ip) => !contains(subnet, ip));
}

interface Ends {
  readonly source: Ipv4;
  readonly destination: Ipv4;
  readonly iif: string | undefined;
  readonly oif: string | null | undefined;
}

function samples(
  hooks: readonly Hook[],
  ends: readonly Ends[],
  more: Pick<Packet, 'state' | 'toHost' | 'mark'>,
): Sample[] {
  const protocols: readonly Protocol[] = ['tcp', 'udp'];
  return ends.flatMap((addresses) =>
    protocols.map((protocol) => ({
      hooks,
      packet: {
        ...addresses,
        ...more,
        protocol,
        fromHost: false,
        sourcePort: SOME_PORT,
        destinationPort: ANOTHER_PORT,
      },
    })),
  );
}

/** From containers here to those of other nodes. */
export function outgoing(overlay: Overlay, mark: 0 | undefined): Sample[] {
  const ends = hostsOf(overlay.subnet).flatMap((source) =>
    remoteContainers(overlay).map((destination) => ({
      source,
      destination,
      iif: onlyOne(overlay.bridges),
      oif: overlay.device,
    })),
  );
  return samples(ROUTED, ends, { state: 'new', toHost: false, mark });
}

/** From containers of other nodes to those here, or to these. */
export function incoming(
  overlay: Overlay,
  mark: 0 | undefined,
  destinations: readonly Ipv4[] = hostsOf(overlay.subnet),
): Sample[] {
  const ends = destinations.flatMap((destination) =>
    remoteContainers(overlay).map((source) => ({
      source,
      destination,
      iif: overlay.device,
      oif: onlyOne(overlay.bridges),
    })),
  );
  return samples(ROUTED, ends, { state: 'new', toHost: false, mark });
}

/** What containers of other nodes answer to this host. */
export function answers(overlay: Overlay, mark: 0 | undefined): Sample[] {
  const ends = remoteContainers(overlay).map((source) => ({
    source,
    destination: overlay.subnet.network,
    iif: overlay.device,
    oif: null,
  }));
  return samples(['prerouting', 'input'], ends, { state: 'established', toHost: true, mark });
}

/** From containers here to other hosts' own addresses, outside the tunnel. */
export function leaving(overlay: Overlay, mark: 0 | undefined): Sample[] {
  const { external, bridges, peers } = overlay;
  const ends = hostsOf(overlay.subnet).map((source) => ({
    source,
    // Any neighbour will do while no other node is known.
    destination: peers[0]?.address ?? (external.address ^ 1) >>> 0,
    iif: onlyOne(bridges),
    oif: external.name,
  }));
  return samples(['postrouting'], ends, { state: 'new', toHost: false, mark });
}

/** Whose datagrams the samples are; `undefined` while no other node is known. */
export type Peer = string | undefined;

/** Datagrams of each peer to this host. */
export function received(overlay: Overlay, mark: 0 | undefined): ReadonlyMap<Peer, Sample> {
  return perPeer(overlay, (address, port) => ({
    hooks: ['prerouting', 'input'],
    packet: {
      ...datagram(port, mark),
      source: address,
      destination: overlay.external.address,
      iif: overlay.external.name,
      oif: null,
      fromHost: false,
      toHost: true,
    },
  }));
}

/** Datagrams of this host to each peer. */
export function sent(overlay: Overlay, mark: 0 | undefined): ReadonlyMap<Peer, Sample> {
  return perPeer(overlay, (address, port) => ({
    hooks: ['output', 'postrouting'],
    packet: {
      ...datagram(port, mark),
      source: overlay.external.address,
      destination: address,
      iif: null,
      oif: overlay.external.name,
      fromHost: true,
      toHost: false,
    },
  }));
}

/** A node may not have heard of the other: the first datagram belongs to no known connection. */
function datagram(
  port: number,
  mark: 0 | undefined,
): Pick<Packet, 'protocol' | 'sourcePort' | 'destinationPort' | 'state' | 'mark'> {
  return { protocol: 'udp', sourcePort: port, destinationPort: port, state: 'new', mark };
}

function perPeer(
  { peers, port }: Overlay,
  sample: (address: Ipv4 | undefined, port: number) => Sample,
): ReadonlyMap<Peer, Sample> {
  if (port === undefined) return new Map();
  if (peers.length === 0) return new Map([[undefined, sample(undefined, port)]]);
  return new Map(peers.map(({ address }) => [formatIpv4(address), sample(address, port)]));
}

function onlyOne(names: readonly string[]): string | undefined {
  return names.length === 1 ? names[0] : undefined;
}
