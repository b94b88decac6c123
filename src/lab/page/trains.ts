/** How many packets pass through a device at once. */
import type { HopName, HopRate, HostSample } from '../live/messages.js';

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
 * Packets of one pass, by its bytes and those of a packet that the host carried: about, as a train has its
 * inner headers once, too. 1 where each packet passes alone, where nothing passes, and where it is not known.
 */
export function trainLength(
  hop: HopName,
  direction: 'out' | 'in',
  { hops, carried }: Pick<HostSample, 'hops' | 'carried'>,
): number {
  const mean = (rate: HopRate | null): number =>
    rate === null ? NaN : rate[`${direction}Bytes`] / rate[`${direction}Packets`];
  const [pass, packet] = [mean(hops[hop]) - FRAME[hop], mean(carried)];
  const length = pass / packet;
  return Number.isFinite(length) && length > 1 ? length : 1;
}
