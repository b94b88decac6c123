import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { keepLease } from '../../src/daemon/renew.js';
import { systemError } from '../../src/errors.js';
import type { Lease } from '../../src/lease/store.js';
import { silentLogger } from '../../src/log.js';
import { FakeStore, lease, leaseLost, OWN_IP, OWN_SUBNET } from '../support/fake-store.js';

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

  it('ends at once and leaves no timer when the signal aborts', async () => {
    const { kept, network } = setUp();
    await vi.advanceTimersByTimeAsync(1_000);
    stop.abort();
    await expect(kept).resolves.toBeUndefined();
    expect(vi.getTimerCount()).toBe(0);
    expect(network.listeners.size).toBe(0);
  });
});
