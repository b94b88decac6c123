/** What is compared: each subject is an overlay between the same two hosts, set up and taken down. */
import { startDaemons, type DaemonProcess } from '../../src/lab/daemon-process.js';
import {
  addHostGw,
  addVxlan,
  removeHostGw,
  removeVxlan,
  VXLAN_OVERHEAD,
} from '../../src/lab/kernel-overlays.js';
import { FEATURE_NAMES, type DaemonMode, type FeatureName } from '../../src/daemon/options.js';
import type { HostPlan } from '../../src/lab/topology.js';

/** UDP and outer IPv4 header. */
const UDP_OVERHEAD = 28;

export interface Underlay {
  readonly hosts: readonly HostPlan[];
  readonly mtu: number;
  /** The command that is flannelette. */
  readonly command: readonly string[];
}

export interface Subject {
  readonly name: string;
  /** What it is, for the report. */
  readonly what: string;
  /** MTU of the overlay in bytes. */
  mtu(underlay: Underlay): number;
  /** Sets it up and returns how to take it down. */
  raise(underlay: Underlay): Promise<() => Promise<void>>;
}

const daemon = (
  name: string,
  mode: DaemonMode,
  what: string,
  disable: readonly FeatureName[] = [],
): Subject => ({
  name,
  what,
  mtu: ({ mtu }) => mtu - UDP_OVERHEAD,
  raise: async ({ hosts, command }) => {
    const daemons: DaemonProcess[] = await startDaemons(hosts, {
      command,
      mode,
      flags: disable.length === 0 ? [] : [`--disable=${disable.join(',')}`],
    });
    return async () => {
      await Promise.all(daemons.map((one) => one.stop()));
    };
  },
});

export const BASELINE = 'vxlan';
/** The baseline measured a second time in each round: what differs between the two is noise. */
export const NOISE = 'vxlan again';

const vxlan = (name: string, what: string): Subject => ({
  name,
  what,
  mtu: ({ mtu }) => mtu - VXLAN_OVERHEAD,
  raise: async ({ hosts, mtu }) => {
    await addVxlan(hosts, mtu);
    return () => removeVxlan(hosts);
  },
});

export const SUBJECTS: readonly Subject[] = [
  daemon('basic', 'basic', 'flannelette, one read and one send per packet'),
  daemon('batch', 'batch', 'flannelette, recvmmsg and sendmmsg'),
  daemon('offload', 'offload', 'flannelette, trains wherever the kernel can'),
  daemon('no-udp-trains', 'offload', 'offload without UDP_SEGMENT and UDP_GRO', [
    'udp-gso',
    'udp-gro',
  ]),
  daemon('legacy', 'offload', 'offload with every optional feature off', FEATURE_NAMES),
  vxlan(BASELINE, 'kernel VXLAN as flannel sets it up'),
  vxlan(NOISE, 'the same a second time: the noise floor'),
  {
    name: 'host-gw',
    what: 'kernel routes, no encapsulation',
    mtu: ({ mtu }) => mtu,
    raise: async ({ hosts }) => {
      await addHostGw(hosts);
      return () => removeHostGw(hosts);
    },
  },
];
