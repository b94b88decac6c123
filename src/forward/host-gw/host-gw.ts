/**
 * The host-gw backend: a kernel route to each subnet by the host that holds its lease. Nothing is
 * encapsulated and nothing passes through this process; hosts have to share a layer-2 segment.
 *
 * As in flannel, a lease of another backend type is no route. Unlike flannel, which leaves its routes
 * behind, the routes go when the daemon ends, as the udp backend's device does, unless they are to stay.
 */
import { formatIpv4 } from '../../config/ipv4.js';
import type { HostInterface } from '../../dataplane/dataplane.js';
import { KERNEL_ROUTES, type KernelRoutes } from '../../dataplane/kernel-routes.js';
import { inputError } from '../../errors.js';
import type { LeaseAttributes } from '../../lease/store.js';
import type { Backend, BackendContext, BackendKind, Forwarder } from '../../network/forwarder.js';
import { ExternalLink } from '../external-link.js';
import { typeFault } from '../lease-type.js';
import { MIN_MTU } from '../link-mtu.js';
import { RouteNetwork } from '../route-network.js';

const TYPE = 'host-gw';

export interface HostGwOptions {
  /** In place of the kernel's routes and interfaces, for tests. */
  readonly kernelRoutes?: KernelRoutes | undefined;
  readonly interfaces?: (() => readonly HostInterface[]) | undefined;
}

export const HOST_GW: BackendKind<HostGwOptions> = {
  type: TYPE,
  keys: [],
  settings: () => [],
  create: (context, options) => createHostGw(context, options),
};

function createHostGw(context: BackendContext, options: HostGwOptions): Backend {
  const { external, log, problems } = context;
  const { kernelRoutes: kernel = KERNEL_ROUTES, interfaces } = options;
  if (external.publicIp !== external.address) {
    throw inputError(
      'PublicIP',
      formatIpv4(external.publicIp),
      `the address of ${external.name}, ${formatIpv4(external.address)}: host-gw does not work through NAT`,
    );
  }
  const facts = {
    mtu: external.mtu,
    minExternalMtu: MIN_MTU,
    leaseAttributes: { publicIp: external.publicIp, backendType: TYPE },
    leaseFault: (attributes: LeaseAttributes) => typeFault(TYPE, attributes),
    udpPort: undefined,
    outlivesDaemon: true,
  };
  const open = (): Forwarder => {
    const routes = new RouteNetwork({
      kernel,
      external: new ExternalLink(external, interfaces),
      log,
      problems,
    });
    return {
      ...facts,
      device: undefined,
      apply: (changes) => {
        routes.apply(changes);
      },
      removeLeft: (left) => {
        routes.removeLeft(left);
      },
      reach: () => ({ way: 'direct' }),
      health: () => ({ error: routes.error, restarts: 0 }),
      counters: () => undefined,
      close: (keep) => {
        routes.close(keep);
      },
    };
  };
  return { ...facts, open };
}
