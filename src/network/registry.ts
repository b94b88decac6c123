/** From `Backend.Type` of the network configuration to the backend that implements it. */
import type { NetworkConfig } from '../config/network.js';
import { inputError } from '../errors.js';
import type { Backend, BackendContext } from './forwarder.js';
import type { OpenDataPlane } from '../forward/udp/supervisor.js';
import { UdpBackend, type UdpOptions } from '../forward/udp/udp.js';

/** flannel's other backends, so that an error can tell "not here" from "misspelt". */
const FLANNEL_BACKENDS: ReadonlySet<string> = new Set([
  'vxlan',
  'host-gw',
  'wireguard',
  'ipip',
  'ipsec',
  'extension',
  'alloc',
  'tencent-vpc',
]);

/** Throws an input error that names `Backend.Type` when there is no such backend. */
export function createBackend(
  config: NetworkConfig,
  context: BackendContext,
  options: UdpOptions,
  open?: OpenDataPlane,
): Backend {
  const { type } = config.backend;
  if (type === 'udp') return new UdpBackend(context, options, open);
  const why = FLANNEL_BACKENDS.has(type)
    ? `"udp" (flannelette does not implement ${type})`
    : '"udp" (the one backend flannelette implements)';
  throw inputError('Backend.Type', type, why);
}
