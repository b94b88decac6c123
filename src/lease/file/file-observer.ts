/**
 * Says when a file may have changed; a listener reads it by itself.
 *
 * inotify on the directory (fs.watch) sees both a rename over the file and a write in place, at
 * once, and that the directory itself goes. It cannot be had always (no watches left), and sees
 * nothing of what other machines do on a network file system: then the file is looked at again and
 * again. Behind inotify on a local one a slow look stands for what it does not tell of, such as
 * another file system mounted there; the listener's look at an unchanged file is one stat.
 */
import { watch, type FSWatcher } from 'node:fs';
import { stat, statfs } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { messageOf } from '../../errors.js';
import type { Logger } from '../../log.js';

const POLL_MS = 2_000;
const SLOW_POLL_MS = 30_000;
/** Events of one replacement come in bursts; they are gathered this long. */
const GATHER_MS = 20;

/** Where nobody changes a file but this kernel (linux/magic.h, and those of ZFS and bcachefs). */
const LOCAL_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // XFS
  0x9123683e, // Btrfs
  0xf2f52010, // F2FS
  0x01021994, // tmpfs
  0x858458f6, // ramfs
  0x794c7630, // overlayfs
  0x2fc12fc1, // ZFS
  0xca451a4e, // bcachefs
]);

export class FileObserver {
  readonly #path: string;
  readonly #onHint: () => void;
  readonly #log: Logger;
  #watcher: FSWatcher | undefined;
  #directoryInode: number | undefined;
  #gather: NodeJS.Timeout | undefined;
  #poll: NodeJS.Timeout | undefined;
  #complained = false;

  constructor(path: string, log: Logger, onHint: () => void) {
    this.#path = path;
    this.#log = log;
    this.#onHint = onHint;
  }

  start(): void {
    if (this.#poll !== undefined) return;
    this.#watch();
    this.#pollIn(POLL_MS);
  }

  stop(): void {
    clearTimeout(this.#poll);
    clearTimeout(this.#gather);
    this.#poll = undefined;
    this.#gather = undefined;
    this.#unwatch();
  }

  #watch(): void {
    const name = basename(this.#path);
    const directory = dirname(this.#path);
    try {
      this.#watcher = watch(directory, (event, changed) => {
        if (changed === null || changed === name) this.#hintSoon();
        // It was moved or removed itself: what is there now is another one, or will be.
        if (event === 'rename' && changed === basename(directory)) this.#unwatch();
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
    if (this.#poll !== undefined) this.#pollIn(POLL_MS);
  }

  #pollIn(ms: number): void {
    clearTimeout(this.#poll);
    this.#poll = setTimeout(() => {
      void this.#onPoll();
    }, ms);
  }

  #hintSoon(): void {
    this.#gather ??= setTimeout(() => {
      this.#gather = undefined;
      this.#onHint();
    }, GATHER_MS);
  }

  async #onPoll(): Promise<void> {
    // A file server that is gone answers none, each of which holds a thread of libuv's pool: one at a time.
    const [inode, isLocal] = await look(dirname(this.#path));
    if (this.#poll === undefined) return;
    const replaced = this.#directoryInode !== undefined && inode !== this.#directoryInode;
    this.#directoryInode = inode;
    if (replaced) this.#unwatch();
    if (this.#watcher === undefined && inode !== undefined) this.#watch();
    this.#pollIn(this.#watcher !== undefined && isLocal ? SLOW_POLL_MS : POLL_MS);
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

/** Its inode, if it is there, and whether inotify tells of all that is done in it. */
async function look(directory: string): Promise<[inode: number | undefined, isLocal: boolean]> {
  try {
    const { ino } = await stat(directory);
    const { type } = await statfs(directory);
    return [ino, LOCAL_FILE_SYSTEMS.has(type)];
  } catch {
    return [undefined, false];
  }
}
