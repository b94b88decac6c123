/** The udp backend in the lab: a daemon, or its eBPF programs, carry packets by flannel0. */
import { UDP_OVERHEAD_BYTES } from '../../forward/udp/udp-settings.js';
import { TUNNEL_PORT } from '../../testbed/daemon-process.js';
import { OVERLAY } from '../../testbed/topology.js';
import { UDP_FORMAT } from '../../testbed/wire/format.js';
import { ETHERNET_BYTES } from '../../testbed/wire/pcap.js';
import { leaseValueOf, type LabBackend } from './backend.js';
import {
  BARE,
  containerCounts,
  deviceCount,
  deviceDrops,
  type Count,
  type DaemonCounts,
  type Drop,
  type HostCounts,
  type TrainShape,
} from './counts.js';

export const UDP_DEVICE = 'flannel0';
/** Stands for the programs of mode kernel. */
export const PROGRAMS = 'eBPF';

/** Each datagram of a train has a whole inner packet. */
const TUNNELLED: TrainShape = {
  once: ETHERNET_BYTES + UDP_OVERHEAD_BYTES,
  each: UDP_OVERHEAD_BYTES,
};

export const UDP: LabBackend = {
  type: 'udp',
  directRouting: false,
  hasModes: true,
  device: UDP_DEVICE,
  overhead: UDP_OVERHEAD_BYTES,
  carrier: 'the tunnel',
  object: { Type: 'udp', Port: TUNNEL_PORT },
  leaseType: undefined,
  leaseValue: (plan) => Promise.resolve(leaseValueOf(plan)),
  format: UDP_FORMAT,
  ttlTaken: 2,
  routes: ({ tunAddress }) => [{ dst: OVERLAY, dev: UDP_DEVICE, prefsrc: tunAddress }],
  counts: (host) => [
    ...containerCounts(host),
    tunCount(host),
    daemonCount(host, 'daemon', host.daemon?.sent),
    // Mode kernel: what the programs carry passes flannel0's counters and the daemon's threads.
    daemonCount(host, PROGRAMS, host.daemon?.inKernel),
    deviceCount(host.plan.host, host.host, 'eth0', 'tx', { rx: TUNNELLED, tx: TUNNELLED }),
  ],
  drops,
  afterLeave: 'net unreachable',
};

function tunCount({ plan, host, daemon }: HostCounts): Count {
  const count = deviceCount(plan.host, host, UDP_DEVICE, 'tx', { rx: BARE, tx: BARE });
  // A part of the packets is no count of them.
  return daemon?.kernelPath === true ? { ...count, out: undefined, in: undefined } : count;
}

function daemonCount(
  { plan }: HostCounts,
  device: string,
  counter: DaemonCounts['sent'] | undefined,
): Count {
  return {
    where: plan.host,
    device,
    out: counter?.('encapsulate'),
    in: counter?.('decapsulate'),
    trains: undefined,
  };
}

function drops(counts: HostCounts): readonly Drop[] {
  const { plan, daemon, socketDrops } = counts;
  const cause = `the daemon of ${plan.host} did not read in time`;
  const refused = `the daemon of ${plan.host} refused them, or the kernel refused them to it`;
  return [
    deviceDrops(counts, UDP_DEVICE, cause),
    { where: `${plan.host} UDP socket`, reason: 'buffer full', cause, packets: socketDrops },
    ...(daemon?.drops ?? []).map(({ direction, reason, packets }) => ({
      where: `${plan.host} daemon, ${direction}`,
      reason: reason.replaceAll('_', ' '),
      cause: refused,
      packets,
    })),
  ];
}
