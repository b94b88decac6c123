/** The kernel's FOU tunnel on udp's wire (native/sys/fou.h); by netlink. */
import { closeSync } from 'node:fs';
import { formatIpv4, type Cidr, type Ipv4 } from '../config/ipv4.js';
import { native, type NativeFouStatistics } from './native.js';

/** Where other hosts send to. */
export interface FouEnd {
  readonly local: Ipv4;
  readonly port: number;
}

export interface FouAdmission {
  readonly own: Cidr;
  /** Triples of network, prefix length and host. */
  readonly hosts: Uint32Array;
}

export type FouStatistics = NativeFouStatistics;

/** Each throws an Error with `code` (errno name) when the kernel refuses; the message says what is missing. */
export interface FouKernel {
  /**
   * Keeps other daemons of this network namespace from that end, until what is returned is called;
   * EADDRINUSE when one of them has it.
   */
  hold(end: FouEnd): () => void;
  /** The device that is there for the end, left by a process before; 0: none. */
  find(end: FouEnd): number;
  /** Makes the device, which is down: its index. `%d` in the name is the first free number. */
  make(name: string, end: FouEnd, sourcePort: number): number;
  /** Address, MTU and switches of the device, and sets it up: false when nothing was missing. */
  restore(index: number, address: Ipv4, mtu: number): boolean;
  /** Takes datagrams in at the end: false when it does already. */
  openPort(end: FouEnd): boolean;
  /** Says Host Unreachable for the rest of the overlay: false when it has a route. */
  putOverlay(overlay: Cidr): boolean;
  admit(index: number, end: FouEnd, admission: FouAdmission): void;
  admits(index: number, end: FouEnd, admission: FouAdmission): boolean;
  /** Takes everything away, what of it there is. */
  remove(end: FouEnd): void;
  statistics(index: number): FouStatistics;
}

export const FOU_KERNEL: FouKernel = {
  hold: ({ local, port }) => {
    const descriptor = native().holdName(`flannelette/fou ${formatIpv4(local)}:${port}`);
    return () => {
      closeSync(descriptor);
    };
  },
  find: ({ local, port }) => native().findFou(local, port),
  make: (name, { local, port }, sourcePort) => native().makeFou(name, local, port, sourcePort),
  restore: (index, address, mtu) => native().restoreFou(index, address, mtu),
  openPort: ({ local, port }) => native().openFouPort(local, port),
  putOverlay: ({ network, prefix }) => native().putFouOverlay(network, prefix),
  admit: (index, { local, port }, { own, hosts }) => {
    native().admitFou(index, local, port, own.network, own.prefix, hosts);
  },
  admits: (index, { local, port }, { own, hosts }) =>
    native().hasFouAdmission(index, local, port, own.network, own.prefix, hosts),
  remove: ({ local, port }) => {
    native().removeFou(local, port);
  },
  statistics: (index) => native().fouStatistics(index),
};
