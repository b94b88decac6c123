/**
 * Tells when links, addresses, routes or rules of this host change, so that what depends on them is
 * looked at then, and an idle host wakes nobody.
 *
 * One watch for the process. Where the kernel gives none, or it ends, everything is looked at again and
 * again as before.
 */
import { Socket } from 'node:net';
import { pause, type Pause } from '../abort.js';
import { native } from './native.js';

/** A look without a change, in case one went unseen. */
const IDLE_MS = 60_000;
/** Changes come in groups: an address goes, another comes. */
const SETTLE_MS = 20;
/**
 * Where links or routes change all the time (a routing daemon, hundreds of containers) the time between two looks
 * is so many times what one takes, up to a second.
 */
const WAIT_TIMES = 50;
const MAX_WAIT_MS = 1_000;

export interface HostChanges {
  /** False where nobody tells of changes. */
  readonly told: boolean;
  /** Counts changes. */
  readonly version: number;
  /** Called after each change, until the function that it returns has been called. */
  onChange(listener: () => void): () => void;
  /** Makes everybody look again, because of something else than the host. */
  touch(): void;
}

class NetlinkChanges implements HostChanges {
  version = 0;
  readonly #listeners = new Set<() => void>();
  #socket: Socket | undefined;

  constructor() {
    try {
      this.#socket = new Socket({ fd: native().watchHost(), readable: true, writable: false });
    } catch {
      return;
    }
    this.#socket.unref();
    this.#socket.on('data', () => {
      this.touch();
    });
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => {
      this.#socket = undefined;
      this.touch();
    });
  }

  get told(): boolean {
    return this.#socket !== undefined;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  touch(): void {
    this.version += 1;
    for (const listener of [...this.#listeners]) listener();
  }
}

let shared: HostChanges | undefined;

/** Opened at the first call; it does not keep the process alive. */
export function hostChanges(): HostChanges {
  shared ??= new NetlinkChanges();
  return shared;
}

/**
 * A wait between two looks, made for those of one thing: until something changed since the last wait ended, and not
 * below the milliseconds asked for when it changed during the look; those milliseconds where nobody tells.
 */
export function untilHostChanges(changes: HostChanges = hostChanges()): Pause {
  let seen = changes.version;
  let began: number | undefined;
  return async (ms, signal) => {
    const now = performance.now();
    const took = now - (began ?? now);
    if (!changes.told || changes.version !== seen) await pause(ms, signal);
    else await nextChange(changes, now + Math.min(MAX_WAIT_MS, WAIT_TIMES * took), signal);
    seen = changes.version;
    began = performance.now();
  };
}

/** Not before `due`, by performance.now(). */
async function nextChange(changes: HostChanges, due: number, signal: AbortSignal): Promise<void> {
  const idle = new AbortController();
  const stop = changes.onChange(() => {
    idle.abort();
  });
  const either = AbortSignal.any([signal, idle.signal]);
  await pause(IDLE_MS, either);
  stop();
  if (!signal.aborted) await pause(Math.max(SETTLE_MS, due - performance.now()), signal);
}

export interface Looks {
  /** Looks again soon. */
  ring(): void;
  end(): void;
}

/**
 * Looks after each change, and not sooner than `restMs` after the last look, nor than `restTimes` of what
 * that took; that often where nobody tells of changes, or `often` says so. `look` does not throw.
 */
export function lookAtHost(
  look: () => void,
  rests: {
    readonly restMs: number;
    readonly restTimes?: number;
    readonly often?: () => boolean;
  },
  changes: HostChanges | undefined,
): Looks {
  const { restMs, restTimes = 0, often = () => false } = rests;
  let timer: NodeJS.Timeout | undefined;
  let due = performance.now() + restMs;
  let soon = false;
  let ended = false;
  const told = (): boolean => changes?.told === true && !often();
  const after = (ms: number): void => {
    clearTimeout(timer);
    timer = setTimeout(run, ms).unref();
  };
  const ring = (): void => {
    if (soon || ended) return;
    soon = true;
    after(Math.max(SETTLE_MS, due - performance.now()));
  };
  const run = (): void => {
    const started = performance.now();
    soon = false;
    look();
    const ends = performance.now();
    const rest = Math.max(restMs, restTimes * (ends - started));
    due = ends + rest;
    if (!ended && !soon) after(told() ? Math.max(IDLE_MS, rest) : rest);
  };
  const stop = changes?.onChange(ring);
  after(told() ? IDLE_MS : restMs);
  return {
    ring,
    end: () => {
      ended = true;
      clearTimeout(timer);
      stop?.();
    },
  };
}
