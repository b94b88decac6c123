import { describe, expect, it } from 'vitest';
import { formatCidr, parseCidr, parseIpv4 } from '../../../src/config/ipv4.js';
import type { Lease, LeaseEvent, LeaseStore } from '../../../src/lease/store.js';
import { LeasesAhead } from '../../../src/network/leases-ahead.js';

const lease = (subnet: string, host: string, key?: string): Lease => ({
  subnet: parseCidr('subnet', subnet),
  ...(key === undefined ? {} : { key }),
  attributes: { publicIp: parseIpv4('host', host) },
  expiresAt: undefined,
});
const ONE = lease('100.96.1.0/24', '10.168.0.2');
const TWO = lease('100.96.2.0/24', '10.168.0.3');
const THREE = lease('100.96.3.0/24', '10.168.0.4');
const MOVED = lease('100.96.2.0/24', '10.168.0.9');

/** A store that says these, and goes on until it is left. */
function telling(events: readonly LeaseEvent[], end?: Error) {
  const left: AbortSignal[] = [];
  const store = {
    async *watchLeases(signal: AbortSignal): AsyncIterable<LeaseEvent> {
      left.push(signal);
      yield* events;
      if (end !== undefined) throw end;
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve, { once: true });
      });
    },
  } as unknown as LeaseStore;
  return { store, left };
}

const turns = () => new Promise((resolve) => setTimeout(resolve, 5));
const shown = (leases: readonly Lease[]) =>
  leases.map(({ subnet, attributes }) => `${formatCidr(subnet)} ${attributes.publicIp}`);

async function known(events: readonly LeaseEvent[], end?: Error): Promise<readonly string[]> {
  const { store } = telling(events, end);
  const ahead = new LeasesAhead(store, new AbortController().signal);
  await turns();
  return shown(ahead.end());
}

describe('LeasesAhead', () => {
  it('knows the leases as the store has them', async () => {
    expect(
      await known([
        { type: 'snapshot', leases: [ONE, TWO], rejected: [] },
        { type: 'put', lease: THREE },
        { type: 'put', lease: MOVED },
        { type: 'delete', subnet: ONE.subnet },
      ]),
    ).toEqual(shown([MOVED, THREE]));
  });

  it('takes a new snapshot for all there is, and keeps keys apart', async () => {
    const twin = lease('100.96.3.0/24', '10.168.0.5', '100.96.3.1-24');
    expect(
      await known([
        { type: 'put', lease: ONE },
        { type: 'snapshot', leases: [TWO, THREE, twin], rejected: [] },
        { type: 'delete', subnet: twin.subnet, key: '100.96.3.1-24' },
      ]),
    ).toEqual(shown([TWO, THREE]));
  });

  it('keeps what it knows when the store says no more', async () => {
    const snapshot: LeaseEvent = { type: 'snapshot', leases: [ONE], rejected: [] };
    expect(await known([snapshot, { type: 'degraded', error: new Error('away') }])).toEqual(
      shown([ONE]),
    );
    expect(await known([snapshot], new Error('no store'))).toEqual(shown([ONE]));
    expect(await known([])).toEqual([]);
  });

  it('leaves the store when its leases are taken, or the signal aborts', async () => {
    const { store, left } = telling([]);
    const ahead = new LeasesAhead(store, new AbortController().signal);
    await turns();
    ahead.end();
    expect(left.map(({ aborted }) => aborted)).toEqual([true]);
    const stop = new AbortController();
    new LeasesAhead(store, stop.signal);
    await turns();
    stop.abort();
    expect(left.map(({ aborted }) => aborted)).toEqual([true, true]);
  });
});
