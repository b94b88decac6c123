import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { parseIpv4 } from '../../../src/config/ipv4.js';
import { systemError } from '../../../src/errors.js';
import type { ExternalInterface } from '../../../src/host/interface.js';
import { watchExternalInterface } from '../../../src/host/watch-interface.js';

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
  const told = { asked: [] as ExternalInterface[], renamed: [] as ExternalInterface[] };
  const missing: (string | undefined)[] = [];
  const look = (current: ExternalInterface): Promise<ExternalInterface> => {
    const next = looks[Math.min(count, looks.length - 1)];
    count += 1;
    told.asked.push(current);
    return next instanceof Error || next === undefined
      ? Promise.reject(next ?? new Error('none'))
      : Promise.resolve(next);
  };
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(line) });
  const onRenamed = (external: ExternalInterface) => told.renamed.push(external);
  const onMissing = (reason: string | undefined) => missing.push(reason);
  const options = { current: CURRENT, look, onRenamed, onMissing, log, intervalMs: 1 };
  const outcome = watchExternalInterface(options, stop.signal);
  return { stop, looks: () => count, outcome, ...told, missing, lines };
}

describe('watchExternalInterface', () => {
  it.each([
    ['address', { address: ip('10.168.0.9') }],
    ['public address', { publicIp: ip('203.0.113.7') }],
    ['MTU', { mtu: 1400 }],
    ['address under another name', { address: ip('10.168.0.9'), name: 'eth1' }],
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

  it('stays with what it has while there is none, and says why at each look', async () => {
    const none = new Error('no default route');
    const { stop, outcome, looks, missing, lines } = watch(none, none, none, CURRENT, none);
    while (looks() < 20) await new Promise((resolve) => setTimeout(resolve, 1));
    stop.abort();
    expect(await outcome).toBeUndefined();
    const reason = 'no default route';
    expect(missing.slice(0, 5)).toEqual([reason, reason, reason, undefined, reason]);
    // Once for each time that it goes.
    expect(lines).toHaveLength(2);
    expect(lines[0]).toContain('no external interface now; waiting');
  });

  it.each(['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EAGAIN'])(
    'does not take %s for an absence',
    async (code) => {
      const failure = systemError(`getifaddrs: ${code}`, { code });
      const { stop, outcome, looks, missing, lines } = watch(failure);
      while (looks() < 5) await new Promise((resolve) => setTimeout(resolve, 1));
      stop.abort();
      expect(await outcome).toBeUndefined();
      expect(missing).toEqual([]);
      expect(lines).toHaveLength(1);
      expect(lines[0]).toContain('cannot read the interfaces; the external interface stays');
    },
  );

  it('does not take one look before and one after an absence for two in a row', async () => {
    const next = { ...CURRENT, mtu: 1400 };
    const { outcome, looks } = watch(next, new Error('gone'), next, next);
    await outcome;
    expect(looks()).toBe(4);
  });

  it('goes on under another name, which is no change to a tunnel', async () => {
    const renamed = { ...CURRENT, name: 'lan0' };
    const moved = { ...renamed, address: ip('10.168.0.9') };
    const { outcome, asked, renamed: told } = watch(renamed, renamed, renamed, moved, moved);
    expect(await outcome).toEqual(moved);
    expect(told).toEqual([renamed]);
    expect(asked.map(({ name }) => name)).toEqual(['eth0', 'eth0', 'lan0', 'lan0', 'lan0']);
  });
});
