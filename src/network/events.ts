/** What a daemon tells its embedder as it happens. */

/** Subnets and addresses as text: `100.96.2.0/24`, `10.168.0.3`. */
export type DaemonEvent =
  /** Traffic can flow: this host has its subnet, the routes known so far are in force. */
  | {
      readonly type: 'lease';
      readonly subnet: string;
      readonly device: string | undefined;
      /** Bytes. */
      readonly mtu: number;
    }
  /** Another host's subnet is reached, by another host, or no more. */
  | {
      readonly type: 'route';
      readonly change: 'add' | 'update' | 'remove';
      readonly subnet: string;
      readonly nextHop: string;
    }
  /** The store cannot be followed (the last known routes stay), or packets do not travel. */
  | { readonly type: 'degraded'; readonly part: Part; readonly reason: string }
  | { readonly type: 'recovered'; readonly part: Part }
  /** Packets go another way than was asked for, or are asked for again by a better one. */
  | {
      readonly type: 'fallback';
      readonly from: string;
      readonly to: string;
      readonly reason: string;
    }
  /** The store has this host's subnet no more, or for another host; it is asked for again. */
  | { readonly type: 'lost'; readonly subnet: string; readonly reason: string }
  /** So many events came faster than they were read, and are gone. */
  | { readonly type: 'missed'; readonly count: number };

export type Part = 'store' | 'forwarding';

export interface EventSink {
  /** False while an event would reach nobody: one that costs something need not be made. */
  readonly isRead: boolean;
  emit(event: DaemonEvent): void;
}

/** Events that wait for one reader at most; a network has some thousand leases. */
const WAITING_MAX = 10_000;

class Reader {
  readonly #waiting: DaemonEvent[] = [];
  #missed = 0;
  #wake: () => void = () => undefined;

  push(event: DaemonEvent): void {
    if (this.#waiting.length < WAITING_MAX) this.#waiting.push(event);
    else this.#missed += 1;
    this.#wake();
  }

  wake(): void {
    this.#wake();
  }

  next(): DaemonEvent | undefined {
    const event = this.#waiting.shift();
    if (event !== undefined || this.#missed === 0) return event;
    const count = this.#missed;
    this.#missed = 0;
    return { type: 'missed', count };
  }

  arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Hands each event to everybody who reads at that moment. */
export class EventStream implements EventSink {
  readonly #readers = new Set<Reader>();

  get isRead(): boolean {
    return this.#readers.size > 0;
  }

  emit(event: DaemonEvent): void {
    for (const reader of this.#readers) reader.push(event);
  }

  /** Events from now on, until the signal aborts or the loop is left. Never throws. */
  read(signal?: AbortSignal): AsyncIterableIterator<DaemonEvent> {
    // Here, and not at the first `next`: what happens in between is not missed.
    const reader = new Reader();
    this.#readers.add(reader);
    return this.#follow(reader, signal);
  }

  async *#follow(
    reader: Reader,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<DaemonEvent, void, undefined> {
    const stop = (): void => {
      reader.wake();
    };
    signal?.addEventListener('abort', stop, { once: true });
    try {
      while (signal?.aborted !== true) {
        const event = reader.next();
        if (event === undefined) await reader.arrival();
        else yield event;
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      this.#readers.delete(reader);
    }
  }
}
