/** Several ways to the same end, tried one after the other without waiting for the slow ones. */

/**
 * The first that succeeds; rejects with an AggregateError of all when none does, in the order
 * of the tries, of which there is at least one. The next starts when
 * one has failed, or after `staggerMs` (as RFC 8305 has it for addresses). Those that are late are
 * aborted; what they give all the same goes to `discard`.
 */
export function firstToSucceed<T>(
  tries: readonly ((signal: AbortSignal) => Promise<T>)[],
  staggerMs: number,
  outer: AbortSignal,
  discard: (late: T) => void,
): Promise<T> {
  const end = new AbortController();
  const errors: unknown[] = [];
  let started = 0;
  let failed = 0;
  let settled = false;
  let timer: NodeJS.Timeout | undefined;
  return new Promise<T>((resolve, reject) => {
    const settle = (how: () => void): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      outer.removeEventListener('abort', abort);
      how();
      end.abort();
    };
    const abort = (): void => {
      settle(() => {
        reject(outer.reason as Error);
      });
    };
    const start = (): void => {
      clearTimeout(timer);
      const turn = started;
      const attempt = tries[turn];
      if (settled || attempt === undefined) return;
      started += 1;
      timer = setTimeout(start, staggerMs);
      attempt(end.signal).then(
        (value) => {
          if (settled) discard(value);
          else
            settle(() => {
              resolve(value);
            });
        },
        (error: unknown) => {
          errors[turn] = error;
          failed += 1;
          if (failed < tries.length) start();
          else
            settle(() => {
              reject(new AggregateError(errors));
            });
        },
      );
    };
    outer.addEventListener('abort', abort, { once: true });
    if (outer.aborted) abort();
    else start();
  });
}
