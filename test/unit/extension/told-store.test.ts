import { describe, expect, it } from 'vitest';
import { parseCidr, parseIpv4 } from '../../../src/config/ipv4.js';
import type { Holder } from '../../../src/extension/contract.js';
import { ToldStore } from '../../../src/extension/told-store.js';
import type { LeaseEvent } from '../../../src/lease/store.js';
import { waitFor } from '../../../src/testbed/programs.js';

const holder = (subnet: string, publicIp: string): Holder => ({
  subnet: parseCidr('subnet', subnet),
  publicIp: parseIpv4('publicIp', publicIp),
});
const OWN = { ...holder('100.96.1.0/24', '10.168.0.2'), network: parseCidr('', '100.96.0.0/16') };
const SECOND = holder('100.96.2.0/24', '10.168.0.3');
const THIRD = holder('100.96.3.0/24', '10.168.0.4');
const TUNNEL = { port: 8285, directRouting: false };

/** Follows a store as a network does, and keeps what it saw. */
function follow(store: ToldStore): { seen: LeaseEvent[]; stop: () => Promise<void> } {
  const seen: LeaseEvent[] = [];
  const end = new AbortController();
  const done = (async () => {
    for await (const event of store.watchLeases(end.signal)) seen.push(event);
  })();
  return {
    seen,
    stop: async () => {
      end.abort();
      await done;
    },
  };
}

const words = (events: readonly LeaseEvent[]): string[] =>
  events.map((event) => {
    if (event.type === 'snapshot') return `snapshot of ${event.leases.length}`;
    return event.type === 'put' ? `put ${event.lease.subnet.network >>> 8}` : event.type;
  });

describe('the store that commands tell', () => {
  it('tells a watch what there is and then each change, and is done when that was followed', async () => {
    const store = new ToldStore({ own: OWN, tunnel: TUNNEL });
    await store.put(SECOND);
    const watch = follow(store);
    await store.put(THIRD);
    expect(words(watch.seen)).toEqual(['snapshot of 2', `put ${THIRD.subnet.network >>> 8}`]);
    expect(await store.delete(THIRD)).toBe(true);
    expect(await store.delete(THIRD)).toBe(false);
    expect(words(watch.seen).slice(2)).toEqual(['delete', 'delete']);
    await watch.stop();
    // Nobody follows: not waited for.
    await store.put(THIRD);
    const again = follow(store);
    await waitFor('the snapshot', 1_000, () => again.seen[0]);
    expect(words(again.seen)).toEqual(['snapshot of 3']);
    await store.close();
    await again.stop();
  });

  it('keeps what was told before until flanneld has told all again', async () => {
    const store = new ToldStore({ own: OWN, tunnel: TUNNEL, quietMs: 100 });
    await store.put(SECOND);
    await store.put(THIRD);
    const watch = follow(store);
    store.expectAgain();
    await store.put(SECOND);
    expect(words(watch.seen)).toHaveLength(2);
    const removed = await waitFor('the removal', 5_000, () => watch.seen[2]);
    expect(removed).toEqual({ type: 'delete', subnet: THIRD.subnet });
    await store.close();
    await watch.stop();
  });

  it('takes any subnet of the network, and no other', () => {
    const store = new ToldStore({ own: OWN, tunnel: TUNNEL });
    const config = { network: OWN.network } as Parameters<ToldStore['accepts']>[0];
    expect(store.accepts(config, parseCidr('', '100.96.0.0/26'))).toBe(true);
    expect(store.accepts(config, parseCidr('', '10.9.0.0/24'))).toBe(false);
  });

  it('refuses a network that is none', () => {
    const network = parseCidr('', '0.0.0.0/0');
    expect(() => new ToldStore({ own: { ...OWN, network }, tunnel: TUNNEL })).toThrow(
      'Network: "0.0.0.0/0" is not valid: expected a subnet narrower than /0',
    );
  });
});
