/**
 * The vxlan backend: the kernel's own VXLAN device, as flannel sets it up and with flannel's wire and
 * leases. Nothing passes through this process.
 *
 *   device flannel.VNI with SUBNET.0/32; for each other host a route, a neighbour and a forwarding entry
 *
 * The MAC address follows from PublicIP and VNI, or is that of a device which is there already, so that
 * a restart changes no lease. Unlike flannel, which leaves its device behind, the device goes when the
 * daemon ends, as the udp backend's does, unless it is to stay. One that was left, by whomever, goes on
 * where it fits; what is in it and no lease asks for goes with the first leases.
 */
import { subnetKey, type Cidr, type Ipv4 } from '../../config/ipv4.js';
import { hostInterfaces, type HostInterface } from '../../dataplane/dataplane.js';
import { KERNEL_ROUTES, type KernelRoutes } from '../../dataplane/kernel-routes.js';
import { VXLAN_KERNEL, type VxlanDevice, type VxlanKernel } from '../../dataplane/vxlan.js';
import { errnoOf, messageOf, systemError } from '../../errors.js';
import type { Backend, BackendContext, BackendKind, Forwarder } from '../../network/forwarder.js';
import type { RouteChange } from '../../network/route-table.js';
import { reachBy } from '../direct-routing.js';
import { ExternalLink } from '../external-link.js';
import { MIN_MTU, mtuWithin } from '../link-mtu.js';
import { RouteNetwork } from '../route-network.js';
import { VxlanRoutes } from './vxlan-routes.js';
import {
  formatMac,
  KEYS,
  macOf,
  parseVxlanSettings,
  TYPE,
  vtepMacOf,
  VXLAN_OVERHEAD_BYTES,
} from './vxlan-settings.js';

export interface VxlanOptions {
  /** In place of the kernel's, for tests. */
  readonly kernelRoutes?: KernelRoutes | undefined;
  readonly vxlanKernel?: VxlanKernel | undefined;
  readonly interfaces?: (() => readonly HostInterface[]) | undefined;
}

export const VXLAN: BackendKind<VxlanOptions> = {
  type: TYPE,
  keys: KEYS,
  settings: (config) => {
    const { vni, port, gbp, learning, directRouting, mtu } = parseVxlanSettings(config);
    return [
      ['VNI', String(vni)],
      ['Port', String(port)],
      ['GBP', String(gbp)],
      ['Learning', String(learning)],
      ['DirectRouting', String(directRouting)],
      ['MTU', String(mtu ?? 'default')],
    ];
  },
  // Devices, names and leases of two VNIs are different ones.
  canStandBeside: (config, other) =>
    parseVxlanSettings(config).vni !== parseVxlanSettings(other).vni,
  create: (context, options) => createVxlan(context, options),
};

function createVxlan(context: BackendContext, options: VxlanOptions): Backend {
  const { config, external, log, problems } = context;
  const { kernelRoutes = KERNEL_ROUTES, vxlanKernel = VXLAN_KERNEL } = options;
  const interfaces = options.interfaces ?? hostInterfaces;
  const settings = parseVxlanSettings(config.backend);
  const mtu = mtuWithin(external, settings.mtu ?? external.mtu, VXLAN_OVERHEAD_BYTES);
  const name = `flannel.${settings.vni}`;
  const mac = presentMac(name, interfaces) ?? macOf(external.publicIp, settings.vni);
  const facts = {
    mtu,
    minExternalMtu: MIN_MTU + VXLAN_OVERHEAD_BYTES,
    leaseAttributes: {
      publicIp: external.publicIp,
      backendType: TYPE,
      backendData: { VNI: settings.vni, VtepMAC: formatMac(mac) },
    },
    leaseFault: (attributes: Parameters<typeof vtepMacOf>[0]) => {
      const found = vtepMacOf(attributes, settings.vni);
      return typeof found === 'string' ? found : undefined;
    },
    udpPort: settings.port,
    outlivesDaemon: true,
  };

  const open: Backend['open'] = (lease): Forwarder => {
    const underlay = new ExternalLink(external, interfaces);
    const spec = (): VxlanDevice => ({
      name,
      vni: settings.vni,
      port: settings.port,
      local: external.address,
      underlay: underlay.index,
      mac,
      mtu,
      address: lease.subnet.network,
      gbp: settings.gbp,
      learning: settings.learning,
    });
    const letGo = holdDevice(vxlanKernel, spec());
    let index: number;
    try {
      index = makeDevice(vxlanKernel, spec());
    } catch (error) {
      letGo();
      throw error;
    }
    let restarts = 0;
    let closed = false;
    const macs = new Map<string, number>();
    /** What was there for another MAC address goes: the host has made its device again. */
    const learn = ({ network, prefix }: Cidr, found: number, host: Ipv4): void => {
      const key = subnetKey({ network, prefix });
      const before = macs.get(key);
      macs.set(key, found);
      if (before === undefined || before === found) return;
      try {
        vxlanKernel.remove(index, { address: network, mac: before, host });
      } catch (error) {
        log.debug({ subnet: key, error: messageOf(error) }, 'an old entry was not removed');
      }
    };
    const kernel = new VxlanRoutes({
      routes: kernelRoutes,
      kernel: vxlanKernel,
      device: () => index,
      restoredDevice: () => {
        const present = interfaces().find((one) => one.name === name);
        if (present?.index === index) return index;
        index = makeDevice(vxlanKernel, spec());
        restarts += 1;
        log.warn({ device: name }, 'the VXLAN device was gone; made again');
        return index;
      },
      external: () => underlay.index,
      macOf: (subnet) => macs.get(subnetKey(subnet)),
      isDirect: settings.directRouting ? (host) => underlay.isOnLink(host) : () => false,
    });
    const routes = new RouteNetwork({ kernel, external: underlay, log, problems });
    let first = true;
    const removeUnleased = (changes: readonly RouteChange[]): void => {
      first = false;
      const wanted = new Set(changes.map(({ route }) => subnetKey(route.subnet)));
      try {
        const removed = kernel.removeOthers((subnet) => wanted.has(subnetKey(subnet)));
        if (removed > 0)
          log.info({ device: name, removed }, 'entries of hosts without a lease removed');
      } catch (error) {
        log.warn({ device: name, error: messageOf(error) }, 'cannot look for entries left behind');
      }
    };
    return {
      ...facts,
      device: name,
      apply: (changes) => {
        for (const { type, route } of changes) {
          const found = vtepMacOf({ publicIp: route.nextHop, ...route }, settings.vni);
          if (type !== 'remove' && typeof found === 'number') {
            learn(route.subnet, found, route.nextHop);
          }
        }
        routes.apply(changes);
        if (first) removeUnleased(changes);
      },
      removeLeft: (left) => {
        if (settings.directRouting) routes.removeLeft(left);
      },
      reach: ({ subnet, nextHop }) =>
        settings.directRouting
          ? reachBy(underlay, nextHop, routes.refusalOf(subnet))
          : { way: 'tunnel' },
      health: () => ({ error: routes.error, restarts }),
      counters: () => undefined,
      close: (keep = false) => {
        if (closed) return;
        closed = true;
        routes.close(keep);
        try {
          if (!keep) vxlanKernel.delete(index);
        } catch (error) {
          log.debug({ device: name, error: messageOf(error) }, 'the device was not removed');
        }
        letGo();
      },
    };
  };
  return { ...facts, open };
}

/** Another daemon's device of the name is left to it, unlike one that a daemon left behind. */
function holdDevice(kernel: VxlanKernel, { name, vni }: VxlanDevice): () => void {
  try {
    return kernel.hold(name);
  } catch (error) {
    if (errnoOf(error) !== 'EADDRINUSE') throw error;
    throw systemError(
      `cannot make ${name}: another flannelette daemon of this host has VNI ${vni}; expected a free VNI`,
      { cause: error, code: 'EADDRINUSE' },
    );
  }
}

function makeDevice(kernel: VxlanKernel, device: VxlanDevice): number {
  try {
    return kernel.make(device);
  } catch (error) {
    const code = errnoOf(error);
    const detail = { cause: error, ...(code === undefined ? {} : { code }) };
    if (code === 'EEXIST' || code === 'EADDRINUSE') {
      throw systemError(
        `cannot make ${device.name}: VNI ${device.vni} on UDP port ${device.port} is in use (${code}): ` +
          'another VXLAN device or program has it; expected a free VNI or Backend.Port',
        detail,
      );
    }
    if (code === 'EOPNOTSUPP') {
      throw systemError(
        `cannot make ${device.name}: this kernel has no vxlan (${code}): load the module vxlan, or choose another Backend.Type`,
        detail,
      );
    }
    throw systemError(`cannot make ${device.name}: ${messageOf(error)}`, detail);
  }
}

/** MAC address of a device that is there already, from a run before or from flanneld. */
function presentMac(name: string, interfaces: () => readonly HostInterface[]): number | undefined {
  const mac = interfaces().find((one) => one.name === name)?.mac ?? 0;
  return mac === 0 ? undefined : mac;
}
