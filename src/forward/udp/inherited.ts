/**
 * The descriptors of a tunnel outlive the process that opened them: a queue of the TUN and a socket on the
 * port for each pair. As long as somebody has them the device stays, with its address and its routes, and
 * packets wait in the kernel's queues. So a daemon can go on where another one ends.
 */
import { formatCidr, type Cidr } from '../../config/ipv4.js';
import type { DataPlane } from '../../dataplane/dataplane.js';

/** A tunnel to go on with. */
export interface InheritedTunnel {
  readonly tun: readonly number[];
  readonly udp: readonly number[];
  /** What keeps the kernel's own share going that a process has left. */
  readonly links?: readonly number[] | undefined;
  /** Hangs up when the process that uses the others has stopped; undefined: none uses them. */
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

/** Who has a tunnel's descriptors too while it forwards, so that it outlives this process. Nothing throws. */
export interface TunnelKeeper {
  /** Nothing when it has them. */
  keep(name: string, plane: Pick<DataPlane, 'storeDescriptors' | 'storeKernelPath'>): void;
  /** This process is to end, and what is kept is left to the next one. */
  readonly leaves: boolean;
  /** Lets go of them, and has when this returns: the tunnel ends. */
  release(): void;
}

/** What comes before a tunnel and after it. */
export interface TunnelLife {
  readonly name: string;
  readonly inherited?: InheritedTunnel | undefined;
  readonly keeper?: TunnelKeeper | undefined;
}

/** Names a tunnel by what its device depends on: `100.96.0.0/16 100.96.1.0/24`. */
export function tunnelName(network: Cidr, subnet: Cidr): string {
  return `${formatCidr(network)} ${formatCidr(subnet)}`;
}
