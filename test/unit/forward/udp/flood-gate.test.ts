import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ThreadCounters } from '../../../../src/dataplane/dataplane.js';
import { FloodGate } from '../../../../src/forward/udp/flood-gate.js';
import { ProblemBoard } from '../../../../src/problems.js';
import { silentLogger } from '../../../../src/log.js';
import { counters } from '../../../support/fake-dataplane.js';

const STRANGER = 0x0aa80004;

/** What the kernel and the threads count, and what was asked of the sockets. */
class Sockets {
  /** By the filter and for want of room, of each socket; null: the kernel does not tell. */
  dropped: (number | null)[] = [0];
  /** By filters, in the whole namespace. */
  filtered = 0;
  readonly filters: boolean[] = [];
  failure: Error | undefined;
  readonly board = new ProblemBoard(silentLogger());
  readonly gate = new FloodGate({
    filter: (on) => {
      if (this.failure !== undefined) throw this.failure;
      this.filters.push(on);
    },
    log: silentLogger(),
    problems: this.board,
    filtered: () => this.filtered,
    now: () => Date.now(),
  });

  threads(): readonly ThreadCounters[] {
    return [
      { ...counters('encapsulate'), queueDrops: 3 },
      ...this.dropped.map((queueDrops) => ({ ...counters('decapsulate'), queueDrops })),
    ];
  }

  /** So many a second are noted, or refused by the filter, for some seconds. */
  pass(seconds: number, perSecond: { readonly noted?: number; readonly filtered?: number }): void {
    for (let tenth = 0; tenth < seconds * 10; tenth += 1) {
      vi.advanceTimersByTime(100);
      if (perSecond.noted !== undefined) this.gate.note(STRANGER, perSecond.noted / 10);
      this.#filter((perSecond.filtered ?? 0) / 10);
    }
  }

  #filter(count: number): void {
    this.filtered += count;
    const [first] = this.dropped;
    if (typeof first === 'number') this.dropped[0] = first + count;
  }

  /** Unknown sources and queue drops of each socket, as a user sees them. */
  seen(): readonly (readonly [number, number | null])[] {
    return this.gate
      .corrected(this.threads())
      .filter(({ direction }) => direction === 'decapsulate')
      .map(({ drops, queueDrops }) => [drops['unknown_source'] ?? 0, queueDrops]);
  }
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the gate for floods', () => {
  it('leaves what is no flood to the threads, however long it lasts', () => {
    const sockets = new Sockets();
    sockets.pass(60, { noted: 4_000 });
    expect(sockets.filters).toEqual([]);
    expect(sockets.board.all).toEqual([]);
  });

  it('takes for none what a thread held back long ago', () => {
    const sockets = new Sockets();
    for (let minute = 0; minute < 5; minute += 1) {
      sockets.gate.note(STRANGER, 40_000);
      sockets.pass(1, { noted: 20 });
      vi.advanceTimersByTime(60_000);
    }
    expect(sockets.filters).toEqual([]);
  });

  it('filters a flood within a second, names a host of it, and ends when it has been calm', () => {
    const sockets = new Sockets();
    sockets.pass(1, { noted: 100_000 });
    expect(sockets.filters).toEqual([true]);
    expect(sockets.board.all).toEqual([
      {
        id: 'flood',
        message:
          'a flood of datagrams from hosts without a lease, 10.168.0.4 among them: refused before they are queued',
      },
    ]);
    sockets.pass(30, { filtered: 100_000 });
    expect(sockets.filters).toEqual([true]);
    sockets.pass(9, {});
    expect(sockets.filters).toEqual([true]);
    sockets.pass(3, {});
    expect(sockets.filters).toEqual([true, false]);
    expect(sockets.board.all).toEqual([]);
    sockets.pass(1, { noted: 100_000 });
    expect(sockets.filters).toEqual([true, false, true]);
  });

  it('counts what is filtered as refused, and what found no room as that', () => {
    const sockets = new Sockets();
    sockets.dropped = [70];
    sockets.pass(1, { noted: 10_000 });
    expect(sockets.seen()).toEqual([[0, 70]]);
    sockets.pass(2, { filtered: 50_000 });
    expect(sockets.seen()).toEqual([[100_000, 70]]);
    sockets.dropped = [100_100];
    expect(sockets.seen()).toEqual([[100_000, 100]]);
    sockets.gate.close();
    expect(sockets.seen()).toEqual([[100_000, 100]]);
    // After it, everything is of the queue again.
    sockets.dropped = [100_105];
    expect(sockets.seen()).toEqual([[100_000, 105]]);
  });

  it('counts for several sockets, and no more than they dropped', () => {
    const sockets = new Sockets();
    sockets.dropped = [0, 0];
    sockets.pass(1, { noted: 10_000 });
    sockets.dropped = [300, 500];
    sockets.filtered = 700;
    expect(sockets.seen()).toEqual([
      [300, 0],
      [400, 100],
    ]);
    sockets.filtered = 900;
    expect(sockets.seen()).toEqual([
      [300, 0],
      [500, 0],
    ]);
  });

  it('counts where the kernel does not tell what a socket dropped', () => {
    const sockets = new Sockets();
    sockets.dropped = [null, null];
    sockets.pass(1, { noted: 10_000 });
    sockets.pass(20, { filtered: 50_000 });
    expect(sockets.filters).toEqual([true]);
    expect(sockets.seen()).toEqual([
      [1_000_000, null],
      [0, null],
    ]);
  });

  it('rests for a minute after a flood that passes the filter', () => {
    const sockets = new Sockets();
    sockets.pass(12, { noted: 20_000 });
    expect(sockets.filters).toEqual([true, false]);
    sockets.pass(45, { noted: 20_000 });
    expect(sockets.filters).toEqual([true, false]);
    sockets.pass(20, { noted: 20_000 });
    expect(sockets.filters.slice(0, 3)).toEqual([true, false, true]);
  });

  it('goes on without a filter that the kernel refuses, and tries again after a minute', () => {
    const sockets = new Sockets();
    sockets.failure = new Error('ENOMEM');
    sockets.pass(5, { noted: 20_000 });
    expect(sockets.filters).toEqual([]);
    expect(sockets.board.all).toEqual([]);
    sockets.failure = undefined;
    sockets.pass(50, { noted: 20_000 });
    expect(sockets.filters).toEqual([]);
    sockets.pass(8, { noted: 20_000 });
    expect(sockets.filters).toEqual([true]);
  });

  it('takes the filter away when its data plane ends', () => {
    const sockets = new Sockets();
    sockets.pass(1, { noted: 10_000 });
    sockets.gate.close();
    expect(sockets.filters).toEqual([true, false]);
    expect(sockets.board.all).toEqual([]);
    sockets.gate.close();
    sockets.pass(60, {});
    expect(sockets.filters).toEqual([true, false]);
  });
});
