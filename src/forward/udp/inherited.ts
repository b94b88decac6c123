/**
 * The descriptors of a tunnel outlive the process that opened them: a queue of the TUN and a socket on the
 * port for each pair. As long as somebody has them the device stays, with its address and its routes, and
 * packets wait in the kernel's queues.
 *
 *   a predecessor that runs --------(takeover)-------+--> InheritedTunnel --> UdpBackend.open
 *   the service manager's descriptor store (restart)-+
 */
import { formatCidr, type Cidr } from '../../config/ipv4.js';
import type { NativeDescriptors } from '../../dataplane/dataplane.js';

/** A tunnel to go on with. */
export interface InheritedTunnel {
  readonly tun: readonly number[];
  readonly udp: readonly number[];
  /**
   * Resolves when nobody else reads the descriptors any more: packets wait from then on. Rejects when the
   * one who does goes on; the tunnel must not be used then.
   */
  switchOver(): Promise<void>;
}

/** Sends copies of the descriptors in service with a datagram. */
export type SendDescriptors = (which: NativeDescriptors, path: string, message: string) => void;

/** Keeps the descriptors beyond the end of this process. Neither call throws. */
export interface TunnelKeeper {
  keep(send: SendDescriptors): void;
  forget(): void;
}

export interface TunnelOwners {
  readonly inherited?: InheritedTunnel | undefined;
  readonly keeper?: TunnelKeeper | undefined;
}

/** Brings the tunnels of former processes, and keeps those of this one; each by its tunnelName. */
export interface TunnelSource {
  /**
   * What there is for this tunnel, once. Throws a system error when what there is belongs to another
   * tunnel and its owner still uses it.
   */
  take(name: string): InheritedTunnel | undefined;
  keeperOf(name: string): TunnelKeeper | undefined;
}

/**
 * Of the letters that a name in a descriptor store may have (sd_pid_notify_with_fds(3)), e.g.
 * `100.96.0.0-16-100.96.1.0-24`.
 */
export function tunnelName(network: Cidr, subnet: Cidr): string {
  return `${formatCidr(network)}-${formatCidr(subnet)}`.replaceAll('/', '-');
}
