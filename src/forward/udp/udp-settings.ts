/** The udp backend's part of the network configuration: `{"Type":"udp","Port":8285}`. */
import { field } from '../../config/json.js';
import type { BackendConfig } from '../../config/network.js';
import { inputError } from '../../errors.js';

/** Outer IPv4 header (20 bytes, no options) and UDP header (8 bytes). */
export const UDP_OVERHEAD_BYTES = 28;

/** flannel's. */
export const DEFAULT_UDP_PORT = 8285;

export interface UdpSettings {
  /** UDP port of every host, 1 to 65535. */
  readonly port: number;
}

/** Throws an input error that names `Backend.Port`. */
export function parseUdpSettings({ raw }: BackendConfig): UdpSettings {
  const port = field(raw, 'Port') ?? DEFAULT_UDP_PORT;
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65535) {
    throw inputError('Backend.Port', port, 'a whole number from 1 to 65535');
  }
  return { port };
}
