/**
 * A flood of datagrams from hosts that hold no lease, kept from the packet threads: while there are very
 * many, the sockets' own filter refuses them before they are queued (native/sys/source_filter.h).
 *
 *   refused by the threads: FLOOD a second -> filter on -> refused by it: less than CALM a second,
 *                                                          CALM_LOOKS in a row -> filter off
 *
 * A flood that bears the address of a host with a lease passes the filter: it is off again then, and is not
 * tried for a while.
 *
 * What filters refuse is counted by the namespace's own counters, as the difference of UDP's errors of every
 * kind and of each other kind; in the sockets' drops it stands with what found no room. What the filter of
 * another program's UDP socket refuses meanwhile is taken for this one's, as far as its drops allow.
 */
import type { ThreadCounters } from '../../dataplane/dataplane.js';
import { messageOf } from '../../errors.js';
import { formatIpv4, type Ipv4 } from '../../config/ipv4.js';
import { readOwnSnmp } from '../../host/snmp.js';
import type { Logger } from '../../log.js';
import type { ProblemBoard } from '../../problems.js';

/** Of drops. */
const REASON = 'unknown_source';
/** What is reported to the problem board. */
const SOURCE = 'flood';
/** Datagrams a second. */
const FLOOD = 5_000;
const CALM = 500;
/** A thread tells ten times a second; the tenth still counts when it comes a little late. */
const WINDOW_MS = 1_050;
const LOOK_MS = 1_000;
const CALM_LOOKS = 10;
/** After a filter that was refused, or refused nothing. */
const REST_MS = 60_000;

export interface FloodGateParts {
  readonly filter: (on: boolean) => void;
  readonly log: Logger;
  readonly problems: ProblemBoard | undefined;
  /** Datagrams that filters of the namespace's UDP sockets have refused; the kernel's count. */
  readonly filtered?: (() => number) | undefined;
  /** Milliseconds that only grow. */
  readonly now?: (() => number) | undefined;
}

export class FloodGate {
  readonly #parts: FloodGateParts;
  #windowBegan = -Infinity;
  #inWindow = 0;
  #restUntil = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  /** What filters had refused when they were last looked at. */
  #seen = 0;
  #refused = 0;
  #refusedBefore = 0;
  #calmLooks = 0;

  constructor(parts: FloodGateParts) {
    this.#parts = parts;
  }

  /** Notes datagrams from hosts without a lease that a packet thread refused. */
  note(source: Ipv4, count: number): void {
    const now = this.#now();
    if (now - this.#windowBegan >= WINDOW_MS) {
      // What the first one of a window brings may have been held back long ago.
      this.#windowBegan = now;
      this.#inWindow = 0;
      return;
    }
    this.#inWindow += count;
    if (this.#timer === undefined && this.#inWindow >= FLOOD && now >= this.#restUntil) {
      this.#begin(source);
    }
  }

  /** The threads' counters with what the filter refused where it belongs. */
  corrected(threads: readonly ThreadCounters[]): readonly ThreadCounters[] {
    if (this.#timer !== undefined) this.#count();
    let left = this.#refused;
    return threads.map((thread) => {
      if (thread.direction !== 'decapsulate' || left === 0) return thread;
      const { queueDrops, drops } = thread;
      const refused = Math.min(left, queueDrops ?? left);
      left -= refused;
      return {
        ...thread,
        drops: { ...drops, [REASON]: (drops[REASON] ?? 0) + refused },
        queueDrops: queueDrops === null ? null : queueDrops - refused,
      };
    });
  }

  /** Takes the filter away. */
  close(): void {
    if (this.#timer !== undefined) this.#end();
  }

  #begin(source: Ipv4): void {
    const { filter, log, problems } = this.#parts;
    try {
      this.#seen = this.#filtered();
      filter(true);
    } catch (error) {
      this.#restUntil = this.#now() + REST_MS;
      log.debug({ error: messageOf(error) }, 'a flood cannot be filtered');
      return;
    }
    this.#refusedBefore = this.#refused;
    this.#calmLooks = 0;
    this.#timer = setInterval(() => {
      this.#look();
    }, LOOK_MS).unref();
    const message = `a flood of datagrams from hosts without a lease, ${formatIpv4(source)} among them: refused before they are queued`;
    problems?.report(SOURCE, [{ id: 'flood', message }]);
  }

  #look(): void {
    const before = this.#refused;
    this.#count();
    const calm = this.#refused - before < CALM;
    this.#calmLooks = calm ? this.#calmLooks + 1 : 0;
    if (this.#calmLooks >= CALM_LOOKS) this.#end();
  }

  #end(): void {
    const { filter, log, problems } = this.#parts;
    clearInterval(this.#timer);
    this.#timer = undefined;
    try {
      this.#count();
      filter(false);
    } catch (error) {
      log.debug({ error: messageOf(error) }, 'the filter went with its sockets');
    }
    const refused = this.#refused - this.#refusedBefore;
    if (refused < FLOOD) this.#restUntil = this.#now() + REST_MS;
    log.info({ refused }, 'datagrams refused before they were queued');
    problems?.report(SOURCE, []);
  }

  #count(): void {
    const now = this.#filtered();
    this.#refused += now - this.#seen;
    this.#seen = now;
  }

  #filtered(): number {
    return (this.#parts.filtered ?? filteredHere)();
  }

  #now(): number {
    return (this.#parts.now ?? (() => performance.now()))();
  }
}

function filteredHere(): number {
  const udp = readOwnSnmp('Udp');
  const others = ['RcvbufErrors', 'InCsumErrors', 'MemErrors'];
  return others.reduce((left, name) => left - (udp.get(name) ?? 0), udp.get('InErrors') ?? 0);
}
