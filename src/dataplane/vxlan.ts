/** The kernel's VXLAN device, and what it needs for each other host; by rtnetlink. */
import { closeSync } from 'node:fs';
import type { Ipv4 } from '../config/ipv4.js';
import { native } from './native.js';

export interface VxlanDevice {
  readonly name: string;
  /** 1 to 16,777,215. */
  readonly vni: number;
  /** UDP port of every host, 1 to 65535. */
  readonly port: number;
  /** Outer address of this host. */
  readonly local: Ipv4;
  /** Index of the external interface. */
  readonly underlay: number;
  /** A number of 48 bits. */
  readonly mac: number;
  /** Bytes. */
  readonly mtu: number;
  /** Its address in the overlay, with prefix length 32. */
  readonly address: Ipv4;
  /** Group policy extension. */
  readonly gbp: boolean;
  /** Learn other hosts from received packets. */
  readonly learning: boolean;
}

/** Another host's tunnel end: a permanent neighbour, and where its MAC address is found. */
export interface Vtep {
  /** In the overlay. */
  readonly address: Ipv4;
  readonly mac: number;
  readonly host: Ipv4;
}

/** Each throws an Error with `code` (errno name) when the kernel refuses. */
export interface VxlanKernel {
  /**
   * Keeps other daemons of this network namespace from a device of that name, until what is returned is
   * called; EADDRINUSE when one of them has it.
   */
  hold(name: string): () => void;
  /** Makes the device, in place of one of that name, and sets it up: its index. */
  make(device: VxlanDevice): number;
  /** Deletes the device, if it is there. */
  delete(index: number): void;
  put(index: number, vtep: Vtep): void;
  remove(index: number, vtep: Vtep): void;
  list(index: number): readonly Vtep[];
}

const NUMBERS = 4;

export const VXLAN_KERNEL: VxlanKernel = {
  hold: (name) => {
    const descriptor = native().holdName(`flannelette/${name}`);
    return () => {
      closeSync(descriptor);
    };
  },
  make: ({ name, vni, port, local, underlay, mac, mtu, address, gbp, learning }) =>
    native().makeVxlan(name, vni, port, local, underlay, mac, mtu, address, gbp, learning),
  delete: (index) => {
    native().deleteVxlan(index);
  },
  put: (index, { address, mac, host }) => {
    native().putVtep(index, address, mac, host);
  },
  remove: (index, { address, mac, host }) => {
    native().deleteVtep(index, address, mac, host);
  },
  list: (index) => {
    const numbers = native().vteps(index);
    return Array.from({ length: numbers.length / NUMBERS }, (_, at) => {
      const [address = 0, high = 0, low = 0, host = 0] = numbers.subarray(
        at * NUMBERS,
        (at + 1) * NUMBERS,
      );
      return { address, mac: high * 2 ** 32 + low, host };
    });
  },
};
