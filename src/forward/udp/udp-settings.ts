/** The udp backend's part of the network configuration: `{"Type":"udp","Port":8285}`. */
import type { BackendConfig } from '../../config/network.js';
import { flagField, integerField } from '../backend-fields.js';

/** Outer IPv4 header (20 bytes, no options) and UDP header (8 bytes). */
export const UDP_OVERHEAD_BYTES = 28;

/** flannel's. */
export const DEFAULT_UDP_PORT = 8285;

export interface UdpSettings {
  /** UDP port of every host, 1 to 65535. */
  readonly port: number;
  /** Hosts on the external interface's own segment are sent to without the tunnel. */
  readonly directRouting: boolean;
}

/** Throws an input error that names the field, such as `Backend.Port`. */
export function parseUdpSettings(config: BackendConfig): UdpSettings {
  return {
    port: integerField(config, 'Port', 1, 65_535) ?? DEFAULT_UDP_PORT,
    directRouting: flagField(config, 'DirectRouting'),
  };
}
