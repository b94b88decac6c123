/**
 * What is known of the kernel's features: what was probed, and what the data plane's own use proves.
 * A probe needs a network namespace of its own (CAP_SYS_ADMIN); a daemon under its systemd unit has
 * none, and learns of the TUN's features when it opens the device.
 */
import type { DataPlaneSnapshot, KernelFeature } from '../dataplane/dataplane.js';

/** Features that need another: one in use proves the other. */
const NEEDS_HEADER: readonly string[] = ['tun-tso', 'tun-uso'];

/** `features` with those that could not be tried replaced by what the open data plane shows. */
export function knownFeatures(
  features: readonly KernelFeature[],
  dataPlane: Pick<DataPlaneSnapshot, 'features' | 'queues'> | undefined,
): readonly KernelFeature[] {
  if (dataPlane === undefined) return features;
  const active = dataPlane.features.filter(({ state }) => state === 'active');
  const proven = new Set(active.map(({ name }): string => name));
  // Queues are told of a device that is open.
  if (dataPlane.queues !== null) proven.add('tun');
  if (NEEDS_HEADER.some((name) => proven.has(name))) proven.add('tun-vnet-hdr');
  return features.map((feature) =>
    feature.state === 'untried' && proven.has(feature.name)
      ? { ...feature, state: 'yes', detail: 'in use by the data plane' }
      : feature,
  );
}

/** Names by what is known, for one log line; `untriedBecause` only when something was not tried. */
export function summarizeFeatures(features: readonly KernelFeature[]): Record<string, unknown> {
  const names = (wanted: KernelFeature['state']): string[] =>
    features.filter(({ state }) => state === wanted).map(({ name }) => name);
  const untried = features.filter(({ state }) => state === 'untried');
  return {
    available: names('yes'),
    missing: names('no'),
    ...(untried.length === 0
      ? {}
      : {
          untried: names('untried'),
          untriedBecause: [...new Set(untried.map(({ detail }) => detail))].join('; '),
        }),
  };
}
