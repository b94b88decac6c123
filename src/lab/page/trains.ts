/** How many packets pass through a device at once. */
import type { HopName, HostSample } from '../live/messages.js';

/** Bytes around the inner packet that a device counts once a pass. */
const FRAME: Readonly<Record<HopName, number>> = {
  container: 14,
  docker0: 0,
  flannel0: 0,
  daemon: 0,
  // Ethernet, outer IPv4 and UDP.
  eth0: 42,
};

/**
 * Packets of one pass, by its bytes and those of a packet in the host's daemon: about, as a train has its
 * inner headers once, too. 1 where each packet passes alone, and where nothing passes.
 */
export function trainLength(
  hop: HopName,
  direction: 'out' | 'in',
  hops: HostSample['hops'],
): number {
  const mean = (name: HopName): number =>
    hops[name][`${direction}Bytes`] / hops[name][`${direction}Packets`];
  const [pass, packet] = [mean(hop) - FRAME[hop], mean('daemon')];
  const length = pass / packet;
  return Number.isFinite(length) && length > 1 ? length : 1;
}
