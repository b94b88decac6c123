/**
 * Notices that the external interface is not what it was: the address is gone, or its MTU is another.
 *
 * A new outcome counts when it is seen twice in a row, because an address is often removed and added
 * in steps (DHCP, network scripts). While there is none at all, or the kernel cannot say, the old one
 * stays: its socket may work, or the data plane tells that it does not.
 */
import { pause, type Pause } from '../abort.js';
import { messageOf } from '../errors.js';
import type { Logger } from '../log.js';
import { isReadFailure, sameExternalInterface, type ExternalInterface } from './interface.js';

const INTERVAL_MS = 1_000;

export interface InterfaceWatchOptions {
  readonly current: ExternalInterface;
  /** What `current` is now; may reject when there is none or when it cannot be found out. */
  readonly look: (current: ExternalInterface) => Promise<ExternalInterface>;
  /** The address is on an interface of another name, which the tunnel need not know. */
  readonly onRenamed?: (renamed: ExternalInterface) => void;
  /** Why there is none now, at each look; undefined when there is one. */
  readonly onMissing?: (reason: string | undefined) => void;
  readonly log: Logger;
  /** Milliseconds between looks. */
  readonly intervalMs?: number;
  readonly pause?: Pause;
  /** How to wait while there is nothing to be seen again; `pause` when not given. */
  readonly untilChange?: Pause | undefined;
}

/** Resolves with the new interface, or with `undefined` when the signal aborts. Never rejects. */
export async function watchExternalInterface(
  options: InterfaceWatchOptions,
  signal: AbortSignal,
): Promise<ExternalInterface | undefined> {
  const { look, onRenamed, onMissing, log, intervalMs = INTERVAL_MS } = options;
  const wait = options.pause ?? pause;
  const { untilChange = wait } = options;
  let current = options.current;
  let candidate: ExternalInterface | undefined;
  let problem: string | undefined;
  for (;;) {
    const settled = candidate === undefined && problem === undefined;
    await (settled ? untilChange : wait)(intervalMs, signal);
    if (signal.aborted) return undefined;
    let seen: ExternalInterface;
    try {
      seen = await look(current);
    } catch (error) {
      const message = messageOf(error);
      const unreadable = isReadFailure(error);
      if (message !== problem) {
        const text = unreadable
          ? 'cannot read the interfaces; the external interface stays as it is'
          : 'no external interface now; waiting';
        log.warn({ error: message, interface: current.name }, text);
      }
      problem = message;
      candidate = undefined;
      if (!unreadable) onMissing?.(message);
      continue;
    }
    problem = undefined;
    onMissing?.(undefined);
    if (sameExternalInterface(seen, current)) candidate = undefined;
    else if (candidate === undefined || !sameExternalInterface(seen, candidate)) candidate = seen;
    else if (sameExternalInterface(seen, { ...current, name: seen.name })) {
      current = seen;
      candidate = undefined;
      onRenamed?.(seen);
    } else return seen;
  }
}
