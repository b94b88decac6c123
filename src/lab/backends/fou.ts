/** Mode kernel by FOU in the lab: the kernel's own tunnel, flannel0, carries packets on udp's wire. */
import { UDP_OVERHEAD_BYTES } from '../../forward/udp/udp-settings.js';
import type { DaemonProcess } from '../../testbed/daemon-process.js';
import { OVERLAY } from '../../testbed/topology.js';
import type { LabBackend } from './backend.js';
import { tunnelCounts, tunnelDrops } from './counts.js';
import { directRoutes } from './host-gw.js';
import { UDP_DEVICE } from './udp.js';

/** The backend as a host has it: what a daemon in mode kernel found in its kernel. */
export async function asFound(backend: LabBackend, daemon: DaemonProcess): Promise<LabBackend> {
  if (!backend.hasModes) return backend;
  const { dataPlane } = await daemon.status();
  const fou = dataPlane?.features.find(({ name }) => name === 'fou');
  return fou?.state === 'active' ? byFou(backend) : backend;
}

/** With all packets on udp's wire carried by the kernel. */
export function byFou(backend: LabBackend): LabBackend {
  const { directRouting } = backend;
  const common: LabBackend = {
    ...backend,
    routes: (_plan, peers) => [
      { type: 'unreachable', dst: OVERLAY },
      ...(directRouting
        ? directRoutes(peers)
        : peers.map(({ subnet, address }) => ({
            dst: subnet,
            gateway: address,
            dev: UDP_DEVICE,
            flags: ['onlink'],
          }))),
    ],
    afterLeave: 'host unreachable',
  };
  if (directRouting) return common;
  return {
    ...common,
    carrier: "the kernel's tunnel",
    // The kernel takes one from the TTL as it forwards, and its tunnel none.
    ttlTaken: 1,
    counts: (counts) => tunnelCounts(counts, UDP_DEVICE, UDP_OVERHEAD_BYTES),
    drops: (counts) => tunnelDrops(counts, UDP_DEVICE),
  };
}
