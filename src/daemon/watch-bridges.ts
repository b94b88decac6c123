/** Looks again and again whether this node's containers are on a bridge of its subnet. */
import type { Cidr } from '../config/ipv4.js';
import { bridgeProblems } from '../host/container-bridge.js';
import type { ExternalInterface, HostInterfaceInfo } from '../host/interface.js';
import type { ProblemBoard } from '../problems.js';
import { pause, type Pause } from '../abort.js';

const INTERVAL_MS = 2_000;
/** Key of what is reported to the problem board. */
const SOURCE = 'container bridge';

export interface BridgeWatchOptions {
  readonly interfaces: () => readonly HostInterfaceInfo[];
  readonly network: Cidr;
  readonly subnet: Cidr;
  readonly external: ExternalInterface;
  readonly problems: ProblemBoard;
  readonly pause?: Pause;
}

/** Resolves when the signal aborts; never rejects. */
export async function watchBridges(
  options: BridgeWatchOptions,
  signal: AbortSignal,
): Promise<void> {
  const { network, subnet, problems, pause: wait = pause } = options;
  while (!signal.aborted) {
    try {
      const interfaces = options.interfaces();
      const external = options.external.address;
      problems.report(SOURCE, bridgeProblems({ interfaces, network, subnet, external }));
    } catch {
      // The kernel refused to list them, which the watch of the external interface tells.
    }
    await wait(INTERVAL_MS, signal);
  }
  problems.report(SOURCE, []);
}
