/**
 * When a check is made again: after a pause, or soon when somebody rings, but neither in the midst of
 * a burst of changes nor without end.
 *
 *     check ── pause ──────────────────────────────────> check      no ring
 *     check ── ring ─ ring ─ quiet ─ (gap) ─> check                 a burst of changes
 *                                    gap: so many durations of a check as checks were hurried before
 */

/** Changes come a command after the other: wait for the end of a burst, but not for ever. */
const QUIET_MS = 100;
const BURST_MS = 500;
const LEAST_GAP_MS = 100;
/** A rule set that never rests costs at most this part of a CPU: one to so many. */
const LONGEST_GAP = 32;

export class Pace {
  #rung = false;
  #wake: (() => void) | undefined;
  /** Checks because of a ring since the last full pause. */
  #hurried = 0;

  /** Cuts the pause short that is running, or the next one. */
  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Waits for the time of the next check; `tookMs` is what the last one took. */
  async rest(
    pauseMs: number,
    tookMs: number,
    leastGapMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const started = performance.now();
    const passed = (): number => performance.now() - started;
    if (!(await this.#wait(pauseMs, signal))) {
      this.#hurried = 0;
      return;
    }
    this.#hurried += 1;
    const first = passed();
    let quiet = false;
    while (!quiet && passed() - first < BURST_MS) quiet = !(await this.#wait(QUIET_MS, signal));
    const gap = Math.max(LEAST_GAP_MS, leastGapMs, tookMs * Math.min(this.#hurried, LONGEST_GAP));
    const left = Math.min(gap, pauseMs) - passed();
    if (left > 0) await this.#sleep(left, signal, false);
  }

  /** True when it was rung within `ms`, or before. */
  async #wait(ms: number, signal: AbortSignal): Promise<boolean> {
    if (!this.#rung) await this.#sleep(ms, signal, true);
    const rung = this.#rung;
    this.#rung = false;
    return rung;
  }

  /** Ends at once when aborted. */
  async #sleep(ms: number, signal: AbortSignal, ringEnds: boolean): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      if (ringEnds) this.#wake = end;
      signal.addEventListener('abort', end);
    });
  }
}
