/**
 * What this host's own settings do to the overlay: routes that win over its route, reverse path
 * filters, forwarding that is off. Looked for, and named; nothing is changed.
 */
import type { Cidr, Ipv4 } from '../../config/ipv4.js';
import type { Problem } from '../../problems.js';
import { checkRoutes } from './routes.js';
import { checkSettings } from './settings.js';

export interface OverlayView {
  readonly network: Cidr;
  /** This host's. */
  readonly subnet: Cidr;
  /** The TUN device. */
  readonly device: string;
  readonly external: { readonly name: string; readonly address: Ipv4 };
  /** Devices that hold an address of the subnet, as docker0. */
  readonly bridges: readonly string[];
  /** Some of the other nodes, or all. */
  readonly peers: readonly { readonly subnet: Cidr; readonly address: Ipv4 }[];
  /** The subnet of another node that holds the address, of all nodes there are. */
  readonly holderOf: (address: Ipv4) => Cidr | undefined;
  /** Containers' packets to other hosts get this host's address. */
  readonly masquerades: boolean;
}

/** Never rejects: what cannot be looked at is no problem that was found. */
export async function checkHost(view: OverlayView, signal?: AbortSignal): Promise<Problem[]> {
  const checks = [checkRoutes(view, signal), checkSettings(view, signal)];
  const found = await Promise.allSettled(checks);
  return found.flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
}
