/**
 * The signals of `flannelette run` and `extension serve`, whose process is the daemon's alone. Embedders keep theirs.
 *
 *   SIGINT SIGTERM SIGQUIT  stop; while the program still loads and holds nothing: end at once
 *   one of them again       give up: end now, and the kernel removes what is held
 *   SIGHUP                  nothing, for there is nothing to reload; from a terminal that closes: stop
 *   SIGUSR1 SIGUSR2 ...     nothing: Node would open its debugger, the kernel would end the process
 *
 * Giving up must not depend on what hangs. `process.exit` waits for libuv's pool, where a call to a
 * dead NFS server may be, and timers wait for the event loop; so a thread of the addon has the last
 * word (native/sys/exit_guard.h).
 */
import inspector from 'node:inspector';
import { constants } from 'node:os';
import { ExitCode } from '../errors.js';
import type { Logger } from '../log.js';

/** How a process is ended that may hang; the data plane's, which is not loaded at first. */
export interface LastResort {
  readonly guardSignals: (limits: {
    readonly signals: readonly number[];
    readonly firstMs: number;
    readonly secondMs: number;
    readonly code: number;
    readonly message: string;
  }) => void;
  readonly exitWithin: (ms: number, code: number) => void;
}

const STOPPING = ['SIGINT', 'SIGTERM', 'SIGQUIT'] as const;
/** Signals whose default would end the process, and that are not meant to. */
const IGNORED = [
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGVTALRM',
  'SIGIO',
  'SIGPWR',
  // Ignored by Node, until a library (signal-exit) has listened for it and leaves the default.
  'SIGXFSZ',
] as const;

/** Time a clean stop may take; after that the kernel cleans up, as it does after kill -9. */
const STOP_LIMIT_MS = 1_650;
/** A timer this late says that the event loop was held up, and the stop has not had its time. */
const LATE_MS = 50;
const GRACE_MS = 150;
/** The thread of the addon gives up when the event loop has not: in all below 2 s. */
const HARD_LIMIT_MS = 1_900;
const HARD_SECOND_MS = 100;
/** Time for the end of a process whose work is done; output still in a pipe gets 300 ms. */
const END_MS = 500;
const GIVEN_UP = 'not stopped in time; exiting, the kernel removes device and route';

export class ProcessSignals {
  #stop: AbortController | undefined;
  #log: Logger | undefined;
  /** Missing only where the addon is. */
  #lastResort: LastResort | undefined;
  #timer: NodeJS.Timeout | undefined;
  #givenUp = false;

  private constructor() {
    for (const name of IGNORED) process.on(name, () => undefined);
    for (const name of STOPPING) {
      process.on(name, () => {
        this.#onStop();
      });
    }
    process.on('SIGHUP', () => {
      if (process.stderr.isTTY) this.#onStop();
    });
  }

  /** Takes the signals of this process, once and before anything else is loaded. */
  static async claim(): Promise<ProcessSignals> {
    const signals = new ProcessSignals();
    closeDebugger();
    try {
      const { exitWithin, guardSignals } = await import('../daemon/process.js');
      // On a busy machine loading the rest takes seconds, in which no listener is called.
      guardSignals({ ...limits(0, ExitCode.ok), message: '' });
      signals.#lastResort = { exitWithin, guardSignals };
    } catch {
      // Without its addon the daemon ends by itself, and says why.
    }
    return signals;
  }

  /** From here on something is held: a signal aborts `stop`. */
  stopBy(stop: AbortController, log: Logger): void {
    closeDebugger();
    this.#stop = stop;
    this.#log = log;
    this.#lastResort?.guardSignals({
      ...limits(HARD_LIMIT_MS, ExitCode.failure),
      message: `flannelette: ${GIVEN_UP}`,
    });
  }

  /** The work is done, also where it failed: what still hangs does not keep the process. */
  end(code: ExitCode): void {
    clearTimeout(this.#timer);
    if (!this.#givenUp) this.#lastResort?.exitWithin(END_MS, code);
  }

  #onStop(): void {
    const stop = this.#stop;
    if (stop === undefined) process.exit(ExitCode.ok);
    if (stop.signal.aborted) {
      this.#giveUp();
      return;
    }
    const due = performance.now() + STOP_LIMIT_MS;
    this.#timer = setTimeout(() => {
      if (performance.now() - due < LATE_MS) this.#giveUp();
      else this.#timer = setTimeout(this.#giveUp.bind(this), GRACE_MS);
    }, STOP_LIMIT_MS);
    stop.abort();
  }

  #giveUp(): void {
    this.#givenUp = true;
    this.#log?.error(GIVEN_UP);
    if (this.#lastResort === undefined) process.exit(ExitCode.failure);
    this.#lastResort.exitWithin(0, ExitCode.failure);
  }
}

function limits(firstMs: number, code: ExitCode) {
  const signals = STOPPING.map((name) => constants.signals[name]);
  return { signals, firstMs, secondMs: HARD_SECOND_MS, code };
}

/**
 * Closes a debugger that a signal opened before there was a listener for it; one that was asked for
 * by a flag stays.
 */
function closeDebugger(): void {
  const asked = [...process.execArgv, process.env['NODE_OPTIONS'] ?? ''];
  if (asked.some((text) => text.includes('--inspect'))) return;
  if (inspector.url() !== undefined) inspector.close();
}
