import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { keepLease } from '../../../src/daemon/renew.js';
import { systemError } from '../../../src/errors.js';
import { endsIn, remainingMs } from '../../../src/lease/expiry.js';
import type { Lease } from '../../../src/lease/store.js';
import { silentLogger } from '../../../src/log.js';
import { FakeStore, lease, leaseLost, OWN_IP, OWN_SUBNET } from '../../support/fake-store.js';

const HOUR = 3_600_000;
const START = Date.parse('2026-01-01T00:00:00Z');

class FakeNetwork {
  lease: Lease;
  leaseLost: string | undefined;
  readonly adopted: Lease[] = [];
  readonly listeners = new Set<() => void>();

  constructor(own: Lease) {
    this.lease = own;
  }

  onLeaseChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  adoptLease(own: Lease): void {
    this.adopted.push(own);
    this.lease = own;
    this.leaseLost = undefined;
  }

  lose(reason: string): void {
    this.leaseLost = reason;
    for (const listener of [...this.listeners]) listener();
  }
}

let stop: AbortController;
beforeEach(() => {
  stop = new AbortController();
  vi.useFakeTimers({ now: START });
});
afterEach(() => {
  stop.abort();
  vi.useRealTimers();
});

function setUp(expiresAt: number | undefined = START + 24 * HOUR, marginMinutes = 60) {
  const store = new FakeStore();
  const network = new FakeNetwork(lease(OWN_SUBNET, OWN_IP, expiresAt));
  const acquire = vi.fn<() => Promise<Lease>>();
  const kept = keepLease(
    { store, network, marginMinutes, acquire, log: silentLogger() },
    stop.signal,
  );
  return { store, network, acquire, kept };
}

describe('keepLease', () => {
  it('renews at the expiry minus the margin', async () => {
    const { store, network } = setUp();
    await vi.advanceTimersByTimeAsync(23 * HOUR - 1);
    expect(store.renewals).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(store.renewals).toBe(1);
    expect(network.lease.expiresAt).toBe(START + 47 * HOUR);
    await vi.advanceTimersByTimeAsync(22 * HOUR);
    expect(store.renewals).toBe(1);
    await vi.advanceTimersByTimeAsync(HOUR);
    expect(store.renewals).toBe(2);
  });

  it('tries again each minute while the store refuses', async () => {
    const { store } = setUp();
    store.renew = () => {
      throw systemError('locked');
    };
    await vi.advanceTimersByTimeAsync(23 * HOUR);
    expect(store.renewals).toBe(1);
    await vi.advanceTimersByTimeAsync(59_999);
    expect(store.renewals).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(store.renewals).toBe(2);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(store.renewals).toBe(12);
  });

  it('does not spin when the margin is longer than the lease', async () => {
    const { store } = setUp(START + HOUR, 1439);
    store.renew = (old) => ({ ...old, expiresAt: Date.now() + HOUR });
    await vi.advanceTimersByTimeAsync(600_000);
    expect(store.renewals).toBe(11);
  });

  it('leaves a reservation alone', async () => {
    const store = new FakeStore();
    const network = new FakeNetwork(lease(OWN_SUBNET, OWN_IP));
    const acquire = () => Promise.reject(new Error('not expected'));
    const options = { store, network, marginMinutes: 60, acquire, log: silentLogger() };
    const kept = keepLease(options, stop.signal);
    await vi.advanceTimersByTimeAsync(100 * HOUR);
    expect(store.renewals).toBe(0);
    stop.abort();
    await expect(kept).resolves.toBeUndefined();
  });

  it('notices within a minute that the clock jumped', async () => {
    const { store } = setUp();
    await vi.advanceTimersByTimeAsync(30_000);
    vi.setSystemTime(START + 24 * HOUR);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(store.renewals).toBe(1);
  });

  it('acquires again when the renewal says the lease is lost; the same subnet goes on', async () => {
    const { store, network, acquire } = setUp();
    const again = lease(OWN_SUBNET, OWN_IP, START + 48 * HOUR);
    acquire.mockResolvedValue(again);
    store.renew = () => {
      throw leaseLost();
    };
    await vi.advanceTimersByTimeAsync(23 * HOUR);
    expect(acquire).toHaveBeenCalledTimes(1);
    expect(network.adopted).toEqual([again]);
  });

  it('resolves with the lease of another subnet when an event says ours is lost', async () => {
    const { network, acquire, kept } = setUp();
    const other = lease('100.96.9.0/24', OWN_IP, START + 24 * HOUR);
    acquire.mockResolvedValue(other);
    await vi.advanceTimersByTimeAsync(1_000);
    network.lose('taken over');
    await expect(kept).resolves.toBe(other);
    expect(network.adopted).toEqual([]);
    expect(network.listeners.size).toBe(0);
  });

  it('rejects when the lost lease cannot be acquired again', async () => {
    const { network, acquire, kept } = setUp();
    acquire.mockRejectedValue(systemError('no free subnet'));
    const outcome = expect(kept).rejects.toThrow('no free subnet');
    network.lose('deleted');
    await outcome;
  });

  it('rejects also when the loss comes before it has begun to wait', async () => {
    const { network, acquire, kept } = setUp();
    acquire.mockRejectedValue(systemError('no free subnet'));
    const outcome = expect(kept).rejects.toThrow('no free subnet');
    await Promise.resolve();
    network.lose('deleted');
    await outcome;
  });

  it('ends at once and leaves no timer when the signal aborts', async () => {
    const { kept, network } = setUp();
    await vi.advanceTimersByTimeAsync(1_000);
    stop.abort();
    await expect(kept).resolves.toBeUndefined();
    expect(vi.getTimerCount()).toBe(0);
    expect(network.listeners.size).toBe(0);
  });
});

describe('the clock of the node', () => {
  /** A lease of 24 h in a store that tells its end when asked; the boot clock cannot be set. */
  function setUpClocks(wrongBy = 0) {
    const started = performance.now();
    const passed = (): number => performance.now() - started;
    let offset = wrongBy;
    const clocks = { now: () => START + offset + passed(), boot: () => 1_000 + passed() };
    const store = new FakeStore();
    const network = new FakeNetwork({ ...lease(OWN_SUBNET, OWN_IP), ...endsIn(24 * HOUR, clocks) });
    /** By the boot clock. */
    const truth = { endsAt: clocks.boot() + 24 * HOUR, asked: 0 };
    store.renew = (old) => {
      truth.endsAt = clocks.boot() + 24 * HOUR;
      return { ...old, ...endsIn(24 * HOUR, clocks) };
    };
    const refreshLease = (old: Lease): Promise<Lease> => {
      truth.asked += 1;
      return Promise.resolve({ ...old, ...endsIn(truth.endsAt - clocks.boot(), clocks) });
    };
    Object.assign(store, { refreshLease });
    const acquire = () => Promise.reject(new Error('not expected'));
    const options = { store, network, marginMinutes: 60, acquire, log: silentLogger(), clocks };
    void keepLease(options, stop.signal);
    const set = (by: number): void => {
      offset = by;
    };
    return { store, network, clocks, set, truth };
  }

  it.each([48, -48, 87_600])(
    'was off by %d hours and is put right: renewed in time',
    async (hours) => {
      const { store, set } = setUpClocks(hours * HOUR);
      await vi.advanceTimersByTimeAsync(HOUR);
      set(0);
      await vi.advanceTimersByTimeAsync(22 * HOUR - 1);
      expect(store.renewals).toBe(0);
      await vi.advanceTimersByTimeAsync(61_000);
      expect(store.renewals).toBe(1);
    },
  );

  it('once set, the store is asked for the end within a minute; else each hour', async () => {
    const { truth, set, network } = setUpClocks();
    await vi.advanceTimersByTimeAsync(90_000);
    expect(truth.asked).toBe(1);
    set(-48 * HOUR);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(truth.asked).toBe(2);
    await vi.advanceTimersByTimeAsync(10 * HOUR);
    expect(truth.asked).toBe(12);
    // An end that is the same as before is no change.
    expect(network.adopted).toEqual([]);
  });

  it('a lease remembered with an end years off gets the one the store gives', async () => {
    const { network, clocks, truth, store } = setUpClocks();
    network.adoptLease({ ...lease(OWN_SUBNET, OWN_IP), expiresAt: START + 87_600 * HOUR });
    truth.endsAt = clocks.boot() + 2 * HOUR;
    await vi.advanceTimersByTimeAsync(120_000);
    expect(remainingMs(network.lease, clocks)).toBe(2 * HOUR - 120_000);
    await vi.advanceTimersByTimeAsync(HOUR);
    expect(store.renewals).toBe(1);
  });

  it('a store that cannot be asked is asked again a minute later', async () => {
    const { network, clocks, truth, store } = setUpClocks();
    const { refreshLease } = store as { refreshLease?: (old: Lease) => Promise<Lease> };
    let failures = 3;
    Object.assign(store, {
      refreshLease: (old: Lease) => {
        failures -= 1;
        return failures < 0 ? refreshLease?.(old) : Promise.reject(systemError('away'));
      },
    });
    truth.endsAt = clocks.boot() + 5 * HOUR;
    await vi.advanceTimersByTimeAsync(4 * 60_000);
    expect(remainingMs(network.lease, clocks)).toBe(5 * HOUR - 4 * 60_000);
  });
});
