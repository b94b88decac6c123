/** Asking a store that may be unreachable for a while. */
import { messageOf } from '../errors.js';
import { isStoreAway, storeFault } from '../lease/store-errors.js';
import type { LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';
import type { DaemonState } from './state.js';
import type { Pause } from '../abort.js';

const INTERVAL_MS = 1_000;
const LOG_EVERY = 60;

/**
 * Asks again each second for as long as the store is unreachable, which `state` shows meanwhile; any other
 * error is the caller's. Rejects with the signal's reason when that aborts.
 */
export async function untilAnswered<T>(
  parts: { store: LeaseStore; state: DaemonState; log: Logger; pause: Pause },
  signal: AbortSignal,
  ask: () => Promise<T>,
): Promise<T> {
  const { store, state, log, pause } = parts;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = await ask();
      state.storeProblem = undefined;
      return answer;
    } catch (error) {
      if (signal.aborted || !isStoreAway(error)) throw error;
      const before = state.storeProblem;
      state.storeProblem = error as Error;
      // Another kind of fault is news at once.
      const isNews = before !== undefined && storeFault(before) !== storeFault(error);
      if (isNews || attempt % LOG_EVERY === 0) {
        log.warn(
          { store: store.location, error: messageOf(error) },
          storeFault(error) === 'unreachable'
            ? 'lease store unreachable; retrying'
            : 'cannot use lease store; retrying',
        );
      }
    }
    await pause(INTERVAL_MS, signal);
    signal.throwIfAborted();
  }
}
