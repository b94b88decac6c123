/** The lab's backends by their names. */
import { OVERLAY } from '../../testbed/topology.js';
import type { BackendType, LabBackend } from './backend.js';
import { withDirectRouting } from './direct-routing.js';
import { HOST_GW } from './host-gw.js';
import { UDP } from './udp.js';
import { VXLAN } from './vxlan.js';

const BACKENDS: Readonly<Record<BackendType, LabBackend>> = {
  udp: UDP,
  vxlan: VXLAN,
  'host-gw': HOST_GW,
};

/** `directRouting` has no meaning with host-gw. */
export function labBackend(type: BackendType, directRouting = false): LabBackend {
  const backend = BACKENDS[type];
  return directRouting && type !== 'host-gw' ? withDirectRouting(backend) : backend;
}

/** The network's configuration, as an operator would write it. */
export function networkConfig({ object }: LabBackend): object {
  return { Network: OVERLAY, Backend: object };
}
