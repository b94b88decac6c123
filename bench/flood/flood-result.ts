/** What `npm run bench:flood` measures: TCP in three situations, round by round. */
import type { DaemonMode } from '../../src/daemon/options.js';
import type { Machine } from '../frame/machine.js';

/**
 * quiet      nobody else sends
 * stopped    the flood arrives at the receiving host, where a rule of nftables drops it before all else
 * refused    it reaches the tunnel
 */
export const SITUATIONS = ['quiet', 'stopped', 'refused'] as const;
export type Situation = (typeof SITUATIONS)[number];

export interface FloodRound {
  /** Gbit/s of TCP. */
  readonly tcp: Readonly<Record<Situation, number>>;
  /** Datagrams a second that the flood sent while the tunnel refused it. */
  readonly sent: number;
  /** Of them a second: those that the tunnel counted as refused. */
  readonly refused: number;
}

export interface FloodResult {
  readonly machine: Machine;
  /** Datagrams a second that were asked for. */
  readonly rate: number;
  /** Length of a measurement. */
  readonly seconds: number;
  readonly modes: readonly { readonly mode: DaemonMode; readonly rounds: readonly FloodRound[] }[];
}
