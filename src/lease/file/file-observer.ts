/**
 * Says when a file may have changed; a listener reads it by itself.
 *
 * inotify on the directory (fs.watch) sees both a rename over the file and a write in place, at
 * once. It can fail or fall silent (no watches left, a network file system, the directory
 * replaced), so a slow poll stands behind it; the listener's look at an unchanged file is one stat.
 */
import { watch, type FSWatcher } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { messageOf } from '../../errors.js';
import type { Logger } from '../../log.js';

const POLL_MS = 2_000;
/** Events of one replacement come in bursts; they are gathered this long. */
const GATHER_MS = 20;

export class FileObserver {
  readonly #path: string;
  readonly #onHint: () => void;
  readonly #log: Logger;
  #watcher: FSWatcher | undefined;
  #directoryInode: number | undefined;
  #gather: NodeJS.Timeout | undefined;
  #poll: NodeJS.Timeout | undefined;
  #polling = false;
  #complained = false;

  constructor(path: string, log: Logger, onHint: () => void) {
    this.#path = path;
    this.#log = log;
    this.#onHint = onHint;
  }

  start(): void {
    if (this.#poll !== undefined) return;
    this.#watch();
    this.#poll = setInterval(() => {
      void this.#onPoll();
    }, POLL_MS);
  }

  stop(): void {
    clearInterval(this.#poll);
    clearTimeout(this.#gather);
    this.#poll = undefined;
    this.#gather = undefined;
    this.#unwatch();
  }

  #watch(): void {
    const name = basename(this.#path);
    try {
      this.#watcher = watch(dirname(this.#path), (_event, changed) => {
        if (changed === null || changed === name) this.#hintSoon();
      });
      this.#watcher.on('error', (error) => {
        this.#complain(error);
        this.#unwatch();
      });
    } catch (error) {
      this.#complain(error);
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #hintSoon(): void {
    this.#gather ??= setTimeout(() => {
      this.#gather = undefined;
      this.#onHint();
    }, GATHER_MS);
  }

  async #onPoll(): Promise<void> {
    // A file server that is gone answers none of them, and each would hold a thread of libuv's pool.
    if (this.#polling) return;
    this.#polling = true;
    const inode = await stat(dirname(this.#path)).then(
      (status) => status.ino,
      () => undefined,
    );
    this.#polling = false;
    if (this.#poll === undefined) return;
    const replaced = this.#directoryInode !== undefined && inode !== this.#directoryInode;
    this.#directoryInode = inode;
    if (replaced) this.#unwatch();
    if (this.#watcher === undefined && inode !== undefined) this.#watch();
    this.#onHint();
  }

  #complain(error: unknown): void {
    if (this.#complained) return;
    this.#complained = true;
    this.#log.warn(
      { path: this.#path, reason: messageOf(error) },
      `cannot watch the lease file's directory; looking every ${POLL_MS / 1000} s instead`,
    );
  }
}
