/**
 * The descriptors of a tunnel outlive the process that opened them: a queue of the TUN and a socket on the
 * port for each pair. As long as somebody has them the device stays, with its address and its routes, and
 * packets wait in the kernel's queues. So a daemon can go on where another one ends.
 */
import { formatCidr, type Cidr } from '../../config/ipv4.js';

/** A tunnel to go on with. */
export interface InheritedTunnel {
  readonly tun: readonly number[];
  readonly udp: readonly number[];
  /** Hangs up when the process that uses the others has stopped. */
  readonly until: number | undefined;
  /**
   * Has that process stop, and resolves when it has. Rejects when it goes on; the tunnel must not be used
   * then.
   */
  switchOver(): Promise<void>;
}

/**
 * Brings the tunnel of another process, once. Throws a system error when that is another one than `name`
 * (tunnelName) says, which its process goes on with.
 */
export type TakeTunnel = (name: string) => InheritedTunnel | undefined;

/** Names a tunnel by what its device depends on: `100.96.0.0/16 100.96.1.0/24`. */
export function tunnelName(network: Cidr, subnet: Cidr): string {
  return `${formatCidr(network)} ${formatCidr(subnet)}`;
}
