/** What the checks have to know of the overlay. */
import type { Cidr, Ipv4 } from '../../config/ipv4.js';
import type { HostRouting } from './routing.js';

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
  /** True for a subnet of another node that is meant to be reached without the device. */
  readonly isDirect: (subnet: Cidr) => boolean;
  readonly routing: HostRouting;
  /** Containers' packets to other hosts get this host's address. */
  readonly masquerades: boolean;
}
