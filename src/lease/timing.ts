/** Bounds on waiting that a pause of the whole process does not trip. */

/**
 * Calls back after `ms`, once what has arrived until then was looked at: after a pause of the whole
 * process timers are due before the answers that came meanwhile are read. Returns how to cancel it.
 */
export function afterSilence(ms: number, then: () => void): () => void {
  let immediate: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => {
    immediate = setImmediate(then);
  }, ms);
  return () => {
    clearTimeout(timer);
    clearImmediate(immediate);
  };
}

/** Nothing came in the time that was allowed. */
export class SilenceError extends Error {
  constructor(ms: number) {
    super(`no answer within ${ms / 1000} s`);
  }
}

/**
 * Does the work with a signal that aborts when `outer` does, or after `ms` with an error that says so.
 * What the work gives after that is its own to release.
 */
export async function within<T>(
  ms: number,
  outer: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  outer.throwIfAborted();
  const own = new AbortController();
  const abort = (): void => {
    own.abort(outer.reason);
  };
  const cancel = afterSilence(ms, () => {
    own.abort(new SilenceError(ms));
  });
  outer.addEventListener('abort', abort, { once: true });
  try {
    return await work(own.signal);
  } finally {
    cancel();
    outer.removeEventListener('abort', abort);
  }
}

/** The outcome, or the signal's reason if that comes first: for work that cannot be cancelled. */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => {
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', stop, { once: true });
  });
  work.catch(() => undefined);
  try {
    signal.throwIfAborted();
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
