/** What the benchmark sends to the writing process, and what it reports back. */
import type { Pace } from './changes.js';

export type WriterTarget = EtcdTarget | FileTarget;

export interface EtcdTarget {
  readonly store: 'etcd';
  readonly endpoint: string;
  readonly prefix: string;
}

export interface FileTarget {
  readonly store: 'file';
  readonly path: string;
  readonly expiresAt: string;
}

export interface WriterOrder {
  readonly target: WriterTarget;
  readonly pace: Pace;
  readonly seed: number;
}

export interface WriterReport {
  readonly changes: number;
  readonly seconds: number;
  /** Milliseconds since the epoch when the store had the last change. */
  readonly lastChangeAt: number;
}
