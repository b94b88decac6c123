/** Waits that end early and without a trace when a signal aborts. */
import { setTimeout as delay } from 'node:timers/promises';

/** Resolves after `ms` milliseconds or at once when the signal aborts; never rejects. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch {
    // Aborted: the caller looks at its signal.
  }
}
