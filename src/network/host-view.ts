/**
 * What a backend asks of the host it runs on: its addresses, and where the kernel would send.
 */
import type { Ipv4 } from '../config/ipv4.js';
import { hostInterfaces, outgoingInterfaces } from '../dataplane/dataplane.js';
import { hostChanges, type HostChanges } from '../dataplane/host-changes.js';
import type { HostAddress } from '../lease/store.js';

/** How the kernel would send: by the overlay's own device, by another one, or not at all. */
export type Way = 'overlay' | 'elsewhere' | 'none';

export interface HostView {
  /** IPv4 addresses of all interfaces. */
  addresses(): readonly HostAddress[];
  /**
   * The way a packet from `source` takes to each destination while `device` is the overlay's;
   * undefined when the overlay has no device of its own.
   */
  ways(device: string | undefined, destinations: readonly Ipv4[], source: Ipv4): readonly Way[];
  /** Tells when the answers may be others. */
  readonly changes?: HostChanges;
}

/** How long a device's index is taken for granted, so that a burst of questions lists them once. */
const INDEX_MS = 200;

/** The kernel's own answers; each method throws what the kernel refuses. */
export class KernelView implements HostView {
  readonly changes = hostChanges();
  #overlay: { readonly name: string; readonly index: number; readonly until: number } | undefined;

  addresses(): readonly HostAddress[] {
    return hostInterfaces().flatMap(({ addresses }) => addresses);
  }

  ways(device: string | undefined, destinations: readonly Ipv4[], source: Ipv4): readonly Way[] {
    const overlay = device === undefined ? undefined : this.#indexOf(device);
    return Array.from(outgoingInterfaces(destinations, source), (index) => {
      if (index === 0) return 'none';
      return index === overlay ? 'overlay' : 'elsewhere';
    });
  }

  /** 0, which is no device's, when there is none of that name. */
  #indexOf(name: string): number {
    const known = this.#overlay;
    const now = performance.now();
    if (known?.name === name && now < known.until) return known.index;
    const index = hostInterfaces().find((candidate) => candidate.name === name)?.index ?? 0;
    this.#overlay = { name, index, until: now + INDEX_MS };
    return index;
  }
}
