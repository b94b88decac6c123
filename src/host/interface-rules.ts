/**
 * The flags' choice of the external interface, at the start and while a daemon runs.
 *
 *   start: the rules of interface.ts
 *   later: the address of the start, if some interface has it
 *          else the one in use, if some interface has it
 *          else the rules again, among what is no part of the overlay
 *
 * An address in use is kept for as long as it is there, whatever else appears: a VPN's default route
 * or a virtual address that comes first says nothing about where peers reach this host.
 */
import { contains, type Cidr, type Ipv4 } from '../config/ipv4.js';
import { readDefaultInterface } from './default-route.js';
import {
  holderOf,
  isOverlayName,
  isReadFailure,
  mtuOf,
  selectExternalInterface,
  sourceAddressTo,
  type ExternalInterface,
  type HostInterfaceInfo,
  type ReachableFrom,
} from './interface.js';

export interface InterfaceFlags {
  readonly iface: readonly string[];
  readonly ifaceRegex: readonly string[];
  readonly ifaceCanReach?: string;
  readonly publicIp?: string;
}

/** What the rules ask the machine. */
export interface HostView {
  readonly interfaces: () => readonly HostInterfaceInfo[];
  readonly defaultInterface?: (usable: (name: string) => boolean) => Promise<string | undefined>;
  /** The local address the kernel would send from. */
  readonly sourceAddressTo?: (destination: string) => Promise<Ipv4>;
}

/** The overlay as it is on this host. */
export interface OwnOverlay {
  /** Undefined when the overlay has no device of its own. */
  readonly device: string | undefined;
  readonly subnet: Cidr;
}

export class InterfaceRules {
  readonly #flags: InterfaceFlags;
  readonly #view: HostView;
  #home: ExternalInterface | undefined;

  constructor(flags: InterfaceFlags, view: HostView) {
    this.#flags = flags;
    this.#view = view;
  }

  /** Chooses for the first time. Rejects as selectExternalInterface throws. */
  async choose(): Promise<ExternalInterface> {
    const chosen = await this.#select(this.#view.interfaces());
    this.#home = chosen;
    return chosen;
  }

  /**
   * What `current` is now. Rejects when its address is gone and no other fits, or when the kernel
   * cannot say (isReadFailure).
   */
  async again(current: ExternalInterface, overlay: OwnOverlay): Promise<ExternalInterface> {
    const all = this.#view.interfaces();
    const outside = all.filter((candidate) => !isPartOf(candidate, overlay));
    const home = this.#home ?? current;
    for (const wanted of [home, current]) {
      // Nobody but the operator could have chosen an interface that looks like an overlay's.
      const chosen = all.filter(({ name }) => name === wanted.name && name !== overlay.device);
      const holder = holderOf([...chosen, ...outside], wanted.address);
      if (holder === undefined) continue;
      // Not back to a link that carries nothing from one that does.
      if (!holder.up && wanted.address !== current.address) continue;
      const { name, loopback } = holder;
      const way = loopback ? await this.#defaultInterface(all) : undefined;
      return { ...wanted, name, mtu: mtuOf(all, holder, wanted.address, way) };
    }
    return this.#select(outside);
  }

  async #select(interfaces: readonly HostInterfaceInfo[]): Promise<ExternalInterface> {
    const { iface, ifaceRegex, ifaceCanReach, publicIp } = this.#flags;
    const canReach = ifaceCanReach === undefined ? undefined : await this.#reachable(ifaceCanReach);
    const byFlag = iface.length > 0 || ifaceRegex.length > 0 || canReach !== undefined;
    const defaultInterface = await this.#defaultInterface(interfaces).catch((error: unknown) => {
      if (byFlag && !isReadFailure(error)) return undefined;
      throw error;
    });
    const choice = { iface, ifaceRegex, canReach, publicIp, defaultInterface };
    return selectExternalInterface(interfaces, choice);
  }

  async #reachable(destination: string): Promise<ReachableFrom> {
    const look = this.#view.sourceAddressTo ?? sourceAddressTo;
    try {
      return { destination, source: await look(destination) };
    } catch (error) {
      if (isReadFailure(error) || !(error instanceof Error)) throw error;
      return { destination, source: error };
    }
  }

  /** The default route's among these; one without address only to say so. */
  async #defaultInterface(interfaces: readonly HostInterfaceInfo[]): Promise<string | undefined> {
    const read = this.#view.defaultInterface ?? readDefaultInterface;
    const named = (name: string) => interfaces.find((candidate) => candidate.name === name);
    return (
      (await read((name) => !isOverlayName(name) && (named(name)?.addresses.length ?? 0) > 0)) ??
      (await read((name) => named(name) !== undefined))
    );
  }
}

/** Our own device, another flannel's, the bridge of our containers whatever its name. */
export function isPartOf(
  { name, addresses }: HostInterfaceInfo,
  { device, subnet }: OwnOverlay,
): boolean {
  return (
    name === device ||
    isOverlayName(name) ||
    addresses.some(({ address }) => contains(subnet, address))
  );
}
