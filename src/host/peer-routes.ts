/**
 * Whether this host's routes to its peers lead out of it.
 *
 * A datagram for a peer whose route leads into the overlay comes back to the daemon as a packet of
 * the overlay and never arrives: Network covers the peer's PublicIP and no route is more specific, or
 * a default route leads into a flannel device. A peer's PublicIP that is also an address of this host
 * (a virtual address that moved here) is answered by this host.
 */
import { cidrOf, contains, formatIpv4, type Ipv4 } from '../config/ipv4.js';
import type { Problem } from '../problems.js';
import { readDefaultGateway } from './default-route.js';
import type { ExternalInterface, HostInterfaceInfo } from './interface.js';
import { isPartOf, type OwnOverlay } from './interface-rules.js';

/** Peers looked at in one go: 65,536 of them must not hold up the event loop. */
const PEERS_A_LOOK = 512;
/** Peers a message names. */
const NAMED = 3;

export interface PeerRoutesView {
  readonly interfaces: () => readonly HostInterfaceInfo[];
  /** Index of the interface that packets to each destination leave by; 0 where there is no route. */
  readonly outgoingInterfaces: (destinations: readonly Ipv4[], source: Ipv4) => ArrayLike<number>;
  /** The gateway of an interface's default route. */
  readonly defaultGateway?: (name: string) => Promise<Ipv4 | undefined>;
}

export interface PeerRoutesQuestion {
  /** PublicIPs, each once. */
  readonly peers: readonly Ipv4[];
  readonly external: ExternalInterface;
  readonly overlay: OwnOverlay;
}

export class PeerRoutes {
  readonly #view: PeerRoutesView;
  /** The device a peer's datagrams go into instead of out. */
  readonly #faults = new Map<Ipv4, HostInterfaceInfo>();
  #next = 0;
  #isRoundDone = true;

  constructor(view: PeerRoutesView) {
    this.#view = view;
  }

  /** False while some have not been looked at since the first. */
  get isRoundDone(): boolean {
    return this.#isRoundDone;
  }

  /** Looks at the next few hundred peers; what is known of all of them. Rejects as the view throws. */
  async look(question: PeerRoutesQuestion): Promise<Problem[]> {
    const { peers, external, overlay } = question;
    const interfaces = this.#view.interfaces();
    const first = this.#next < peers.length ? this.#next : 0;
    const last = Math.min(first + PEERS_A_LOOK, peers.length);
    this.#next = last;
    this.#isRoundDone = last === peers.length;
    const looked = peers.slice(first, last);
    const ways = this.#view.outgoingInterfaces(looked, external.address);
    looked.forEach((peer, at) => {
      const way = interfaces.find(({ index }) => index === ways[at]);
      if (way !== undefined && (way.loopback || isPartOf(way, overlay)))
        this.#faults.set(peer, way);
      else this.#faults.delete(peer);
    });
    const known = new Set(peers);
    for (const peer of this.#faults.keys()) if (!known.has(peer)) this.#faults.delete(peer);
    return this.#problems(interfaces, external);
  }

  async #problems(
    interfaces: readonly HostInterfaceInfo[],
    external: ExternalInterface,
  ): Promise<Problem[]> {
    const problems: Problem[] = [];
    const local = [...this.#faults].filter(([, { loopback }]) => loopback);
    const inside = [...this.#faults].filter(([, { loopback }]) => !loopback);
    const [first] = inside;
    if (first !== undefined) {
      const [peer, { name: device }] = first;
      problems.push({
        id: 'peer_route_into_overlay',
        message: `the route to ${named(inside)} leads into ${device}: datagrams for that node never leave the overlay`,
        remedy: await this.#wayOut(peer, interfaces, external),
      });
    }
    if (local.length > 0) {
      problems.push({
        id: 'peer_address_is_local',
        message: `PublicIP ${named(local)} of another node's lease is an address of this host: datagrams for that node stay here`,
      });
    }
    return problems;
  }

  async #wayOut(
    peer: Ipv4,
    interfaces: readonly HostInterfaceInfo[],
    { name }: ExternalInterface,
  ): Promise<string> {
    const addresses = interfaces.find((candidate) => candidate.name === name)?.addresses ?? [];
    const onLink = addresses.some(({ address, prefix }) => contains(cidrOf(address, prefix), peer));
    const read = this.#view.defaultGateway ?? readDefaultGateway;
    const gateway = onLink ? undefined : await read(name).catch(() => undefined);
    const via = gateway === undefined ? '' : `via ${formatIpv4(gateway)} `;
    return `ip route replace ${formatIpv4(peer)}/32 ${via}dev ${name}`;
  }
}

function named(faults: readonly (readonly [Ipv4, unknown])[]): string {
  const names = faults.slice(0, NAMED).map(([peer]) => formatIpv4(peer));
  const more = faults.length - names.length;
  return `${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
