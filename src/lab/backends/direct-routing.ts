/** DirectRouting in the lab, whose hosts are all on one segment: a tunnel that nothing passes through. */
import { PLAIN_FORMAT } from '../../testbed/wire/format.js';
import type { LabBackend } from './backend.js';
import { directRoutes, plainCounts } from './host-gw.js';
import { UDP_DEVICE } from './udp.js';

/** The backend with DirectRouting: device, leases and MTU stay. */
export function withDirectRouting(backend: LabBackend): LabBackend {
  const { entries, object, ...rest } = backend;
  return {
    ...rest,
    directRouting: true,
    carrier: "the hosts' routes",
    object: { ...object, DirectRouting: true },
    format: PLAIN_FORMAT,
    ttlTaken: 1,
    counts: plainCounts,
    routes: (plan, peers) => [
      // udp's route of the whole overlay is there besides; vxlan has none but those of its peers.
      ...backend.routes(plan, peers).filter(({ dev }) => dev === UDP_DEVICE),
      ...directRoutes(peers),
    ],
    ...(entries === undefined
      ? {}
      : {
          // The tunnel needs none for hosts that are not behind it.
          entries: async (plan, peers) => ({ ...(await entries(plan, peers)), expected: [] }),
        }),
  };
}
