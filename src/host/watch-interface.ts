/**
 * Notices that the external interface is not what it was: another address, another MTU, another
 * interface with the default route.
 *
 * The choice is made again each second by the same rules as at the start. A new outcome counts when
 * it is seen twice in a row, because an address is often removed and added in steps (DHCP, network
 * scripts). While the rules find no interface at all, the old one stays: its socket may work, or the
 * data plane tells that it does not.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../errors.js';
import type { Logger } from '../log.js';
import { sameExternalInterface, type ExternalInterface } from './interface.js';

const INTERVAL_MS = 1_000;

export interface InterfaceWatchOptions {
  readonly current: ExternalInterface;
  /** Chooses again; may throw or reject when nothing fits. */
  readonly choose: () => Promise<ExternalInterface>;
  readonly log: Logger;
  /** Milliseconds between looks. */
  readonly intervalMs?: number;
}

/** Resolves with the new interface, or with `undefined` when the signal aborts. Never rejects. */
export async function watchExternalInterface(
  options: InterfaceWatchOptions,
  signal: AbortSignal,
): Promise<ExternalInterface | undefined> {
  const { current, choose, log, intervalMs = INTERVAL_MS } = options;
  let candidate: ExternalInterface | undefined;
  let problem: string | undefined;
  for (;;) {
    await delay(intervalMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return undefined;
    let seen: ExternalInterface;
    try {
      seen = await choose();
      problem = undefined;
    } catch (error) {
      const message = messageOf(error);
      if (message !== problem) {
        log.warn({ error: message, interface: current.name }, 'no external interface now; waiting');
      }
      problem = message;
      candidate = undefined;
      continue;
    }
    if (sameExternalInterface(seen, current)) candidate = undefined;
    else if (candidate !== undefined && sameExternalInterface(seen, candidate)) return seen;
    else candidate = seen;
  }
}
