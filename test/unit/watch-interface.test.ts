import { afterEach, describe, expect, it } from 'vitest';
import { parseIpv4 } from '../../src/config/ipv4.js';
import type { ExternalInterface } from '../../src/host/interface.js';
import { watchExternalInterface } from '../../src/host/watch-interface.js';
import { silentLogger } from '../../src/log.js';

const ip = (text: string) => parseIpv4('test', text);
const CURRENT: ExternalInterface = {
  name: 'eth0',
  address: ip('10.168.0.2'),
  publicIp: ip('10.168.0.2'),
  mtu: 1500,
};

const stops: AbortController[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop.abort();
});

/** Looks give these, the last one for ever. */
function watch(...looks: (ExternalInterface | Error)[]) {
  const stop = new AbortController();
  stops.push(stop);
  let count = 0;
  const choose = (): Promise<ExternalInterface> => {
    const look = looks[Math.min(count, looks.length - 1)];
    count += 1;
    return look instanceof Error || look === undefined
      ? Promise.reject(look ?? new Error('none'))
      : Promise.resolve(look);
  };
  const options = { current: CURRENT, choose, log: silentLogger(), intervalMs: 1 };
  return { stop, looks: () => count, outcome: watchExternalInterface(options, stop.signal) };
}

describe('watchExternalInterface', () => {
  it.each([
    ['address', { address: ip('10.168.0.9') }],
    ['public address', { publicIp: ip('203.0.113.7') }],
    ['MTU', { mtu: 1400 }],
    ['name', { name: 'eth1' }],
  ])('tells another %s once it is seen twice', async (_what, more) => {
    const next = { ...CURRENT, ...more };
    const { outcome, looks } = watch(CURRENT, CURRENT, next, next);
    expect(await outcome).toEqual(next);
    expect(looks()).toBe(4);
  });

  it('waits until a change has come to rest', async () => {
    const step = { ...CURRENT, mtu: 1400 };
    const end = { ...CURRENT, mtu: 9000 };
    expect(await watch(step, CURRENT, step, end, end).outcome).toEqual(end);
  });

  it('stays with what it has while there is none', async () => {
    const none = new Error('no default route');
    const { stop, outcome, looks } = watch(none, none, none, CURRENT, none);
    while (looks() < 20) await new Promise((resolve) => setTimeout(resolve, 1));
    stop.abort();
    expect(await outcome).toBeUndefined();
  });

  it('does not take one look before and one after an absence for two in a row', async () => {
    const next = { ...CURRENT, mtu: 1400 };
    const { outcome, looks } = watch(next, new Error('gone'), next, next);
    await outcome;
    expect(looks()).toBe(4);
  });
});
