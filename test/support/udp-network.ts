/** A network of the udp backend over data planes and a store that tests bring. */
import type { NetworkConfig } from '../../src/config/network.js';
import type { OpenDataPlane } from '../../src/forward/udp/supervisor.js';
import type { UdpOptions } from '../../src/forward/udp/udp.js';
import { silentLogger } from '../../src/log.js';
import type { HostView } from '../../src/network/host-view.js';
import {
  register,
  type Registration,
  type RegistrationParts,
} from '../../src/network/registration.js';
import { createBackend } from '../../src/network/registry.js';

export interface UdpNetworkParts extends Pick<
  RegistrationParts,
  'store' | 'external' | 'config' | 'problems'
> {
  readonly open: OpenDataPlane;
  readonly view?: HostView | undefined;
  readonly kernel?: Pick<UdpOptions, 'kernelRoutes' | 'interfaces'>;
}

export async function registerUdp(
  { open, view, kernel = {}, ...parts }: UdpNetworkParts,
  signal: AbortSignal,
): Promise<Registration> {
  const log = silentLogger();
  const { config, external, problems } = parts;
  const backend = createBackend(
    { config, external, problems, log },
    { mode: 'batch', sourceCheck: true, openDataPlane: open, ...kernel },
  );
  return register({ ...parts, previousSubnet: undefined, view, log, backend }, signal);
}

export function withType(config: NetworkConfig, type: string): NetworkConfig {
  return { ...config, backend: { ...config.backend, type } };
}
