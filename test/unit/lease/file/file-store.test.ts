import {
  chmod,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatCidr, formatIpv4, parseCidr, parseIpv4 } from '../../../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../../../src/config/network.js';
import { LEASE_TIME_MS, LeaseFileStore } from '../../../../src/lease/file/file-store.js';
import type { Lease, LeaseEvent, LeaseRequest } from '../../../../src/lease/store.js';
import { silentLogger } from '../../../../src/log.js';

const CONFIG_TEXT = '{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}';
const CONFIG = parseNetworkConfig(CONFIG_TEXT);
const ME = '10.168.0.2';
const OTHER = '10.168.0.3';

let directory: string;
let path: string;
let stop: AbortController;
let stores: LeaseFileStore[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
  path = join(directory, 'leases.json');
  stop = new AbortController();
  stores = [];
});
afterEach(async () => {
  stop.abort();
  await Promise.all(stores.map((store) => store.close()));
  await rm(directory, { recursive: true, force: true });
});

type Entries = Record<string, unknown>;
const fileText = (leases: Entries, rest: object = {}): string =>
  JSON.stringify({ version: 1, config: JSON.parse(CONFIG_TEXT) as unknown, leases, ...rest });

/** Replaces the file as a careful editor does. */
async function put(leases: Entries, rest: object = {}): Promise<void> {
  await writeFile(`${path}.new`, fileText(leases, rest));
  await rename(`${path}.new`, path);
}

async function openStore(now?: () => number): Promise<LeaseFileStore> {
  const store = await LeaseFileStore.open(path, {
    log: silentLogger(),
    ...(now === undefined ? {} : { now }),
  });
  stores.push(store);
  return store;
}

async function entries(): Promise<Record<string, Record<string, unknown>>> {
  const document = JSON.parse(await readFile(path, 'utf8')) as { leases: never };
  return document.leases;
}

const request = (ip: string, previous?: string): LeaseRequest => ({
  config: CONFIG,
  attributes: { publicIp: parseIpv4('test', ip) },
  previousSubnet: previous === undefined ? undefined : parseCidr('test', previous),
});

const key = (lease: Lease): string => formatCidr(lease.subnet).replace('/', '-');

/** One line an event: what a person would want to read in a failure. */
function show(event: LeaseEvent): string {
  const of = (lease: Lease): string =>
    `${formatCidr(lease.subnet)}=${formatIpv4(lease.attributes.publicIp)}`;
  switch (event.type) {
    case 'snapshot':
      return ['snapshot', ...event.leases.map(of), ...event.rejected.map((r) => `!${r.key}`)].join(
        ' ',
      );
    case 'put':
      return `put ${of(event.lease)}`;
    case 'delete':
      return `delete ${formatCidr(event.subnet)}`;
    default:
      return event.type;
  }
}

class Watch {
  readonly #events: AsyncIterator<LeaseEvent>;
  constructor(store: LeaseFileStore, signal: AbortSignal = stop.signal) {
    this.#events = store.watchLeases(signal)[Symbol.asyncIterator]();
  }
  async event(): Promise<LeaseEvent | undefined> {
    const next = await this.#events.next();
    return next.done === true ? undefined : next.value;
  }
  async next(): Promise<string> {
    const event = await this.event();
    return event === undefined ? 'end' : show(event);
  }
}

describe('opening', () => {
  it.each([
    ['missing', undefined, /ENOENT/],
    ['torn', '{"version":1,', /not JSON/],
    ['empty', '', /not JSON/],
    ['of another version', '{"version":9}', /version: 9/],
  ])('a %s file names the flag and the path', async (_name, text, reason) => {
    if (text !== undefined) await writeFile(path, text);
    const error = await openStore().catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({ kind: 'system', field: '--lease-file', value: path });
    expect((error as Error).message).toMatch(/^--lease-file: ".*leases\.json" cannot be used: /);
    expect((error as Error).message).toMatch(reason);
  });

  it('refuses a directory', async () => {
    await mkdir(path);
    await expect(openStore()).rejects.toMatchObject({ kind: 'system', code: 'EISDIR' });
  });

  it('waits for an edit under way', async () => {
    await writeFile(path, '{"version":1,');
    const opening = openStore();
    await put({});
    await expect(opening).resolves.toMatchObject({ kind: 'file', location: path });
  });

  it('hands out the configuration, or that there is none yet', async () => {
    await put({});
    const store = await openStore();
    expect(await store.readNetworkConfig(stop.signal)).toBe(CONFIG_TEXT);
    await writeFile(path, '{"version":1}');
    expect(await store.readNetworkConfig(stop.signal)).toBeUndefined();
    stop.abort(new Error('enough'));
    await expect(store.readNetworkConfig(stop.signal)).rejects.toThrow('enough');
  });
});

describe('acquiring', () => {
  it('writes a lease of 24 hours, exactly as documented', async () => {
    await put({});
    const now = Date.UTC(2026, 10, 20, 12);
    const store = await openStore(() => now);
    const lease = await store.acquireLease(request(ME, '100.96.1.0/24'), stop.signal);
    expect(lease.expiresAt).toBe(now + LEASE_TIME_MS);
    expect(await entries()).toEqual({
      '100.96.1.0-24': { PublicIP: ME, PublicIPv6: null, expiresAt: '2026-11-21T12:00:00.000Z' },
    });
    expect(await readdir(directory)).toEqual(['leases.json']);
  });

  it('takes its own again, whichever process asks', async () => {
    await put({});
    const first = await (await openStore()).acquireLease(request(ME), stop.signal);
    const again = await (await openStore()).acquireLease(request(ME), stop.signal);
    expect(again.subnet).toEqual(first.subnet);
    expect(Object.keys(await entries())).toHaveLength(1);
  });

  it('takes a reservation over, and it stays permanent, renewals included', async () => {
    await put({ '100.96.7.0-24': { PublicIP: ME, note: 'by hand' } });
    const store = await openStore();
    const lease = await store.acquireLease(request(ME), stop.signal);
    expect([formatCidr(lease.subnet), lease.expiresAt]).toEqual(['100.96.7.0/24', undefined]);
    const renewed = await store.renewLease(lease, stop.signal);
    expect(renewed.expiresAt).toBeUndefined();
    expect((await entries())['100.96.7.0-24']).toEqual({ PublicIP: ME, note: 'by hand' });
  });

  it('drops its own out of range, keeps unknown fields, bad entries and the mode', async () => {
    await put(
      { '10.9.0.0-24': { PublicIP: ME, expiresAt: '2999-01-01' }, '100.96.5.0-24': { Public: 1 } },
      { remark: 'ours' },
    );
    await chmod(path, 0o640);
    const store = await openStore();
    const lease = await store.acquireLease(request(ME, '100.96.5.0/24'), stop.signal);
    expect(key(lease)).not.toBe('100.96.5.0-24');
    expect(Object.keys(await entries()).sort()).toEqual(['100.96.5.0-24', key(lease)].sort());
    expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ remark: 'ours' });
    expect((await stat(path)).mode & 0o777).toBe(0o640);
  });

  it('reassigns an ended lease without what was written about its old holder', async () => {
    await put({ '100.96.8.0-24': { PublicIP: OTHER, expiresAt: '2001-01-01', note: 'old' } });
    const store = await openStore();
    await store.acquireLease(request(ME, '100.96.8.0/24'), stop.signal);
    const entry = (await entries())['100.96.8.0-24'];
    expect(entry).toMatchObject({ PublicIP: ME });
    expect(entry).not.toHaveProperty('note');
  });

  it('writes through a symbolic link to the file itself', async () => {
    await put({});
    const link = join(directory, 'link.json');
    await symlink(path, link);
    const store = await LeaseFileStore.open(link, { log: silentLogger() });
    stores.push(store);
    await store.acquireLease(request(ME), stop.signal);
    expect(Object.keys(await entries())).toHaveLength(1);
    expect((await readdir(directory)).sort()).toEqual(['leases.json', 'link.json']);
  });

  it('never writes over a file it cannot parse', async () => {
    await put({});
    const store = await openStore();
    const lease = await store.acquireLease(request(ME), stop.signal);
    await writeFile(path, '{"version":1, "leases": {');
    await expect(store.acquireLease(request(OTHER), stop.signal)).rejects.toMatchObject({
      kind: 'system',
      message: expect.stringContaining('not JSON') as string,
    });
    await expect(store.renewLease(lease, stop.signal)).rejects.toMatchObject({ kind: 'system' });
    expect(await readFile(path, 'utf8')).toBe('{"version":1, "leases": {');
    expect(await readdir(directory)).toEqual(['leases.json']);
  });
});

describe('renewing', () => {
  it('moves the expiry and keeps unknown fields', async () => {
    let now = Date.UTC(2026, 10, 20, 12);
    await put({ '100.96.7.0-24': { PublicIP: ME, expiresAt: '2026-11-21', note: 'x' } });
    const store = await openStore(() => now);
    const lease = await store.acquireLease(request(ME), stop.signal);
    now += 3_600_000;
    const renewed = await store.renewLease(lease, stop.signal);
    expect(renewed.expiresAt).toBe(now + LEASE_TIME_MS);
    expect((await entries())['100.96.7.0-24']).toEqual({
      PublicIP: ME,
      PublicIPv6: null,
      note: 'x',
      expiresAt: '2026-11-21T13:00:00.000Z',
    });
  });

  it('of a lease that ended but that nobody took succeeds', async () => {
    let now = Date.UTC(2026, 10, 20, 12);
    await put({});
    const store = await openStore(() => now);
    const lease = await store.acquireLease(request(ME), stop.signal);
    now += 2 * LEASE_TIME_MS;
    expect((await store.renewLease(lease, stop.signal)).expiresAt).toBe(now + LEASE_TIME_MS);
  });

  it.each<[string, Entries, RegExp]>([
    ['gone', {}, /100\.96\.7\.0\/24 is lost: its entry is gone/],
    ["another's", { '100.96.7.0-24': { PublicIP: OTHER } }, /belongs to 10\.168\.0\.3/],
  ])('of a lease that is %s is ELEASELOST', async (_name, after, reason) => {
    await put({ '100.96.7.0-24': { PublicIP: ME, expiresAt: '2999-01-01' } });
    const store = await openStore();
    const lease = await store.acquireLease(request(ME), stop.signal);
    await put(after);
    await expect(store.renewLease(lease, stop.signal)).rejects.toMatchObject({
      code: 'ELEASELOST',
      message: expect.stringMatching(reason) as string,
    });
    expect(await entries()).toEqual(after);
  });

  it('of a lease whose entry a bad edit broke fails, but the lease is not lost', async () => {
    await put({ '100.96.7.0-24': { PublicIP: ME, expiresAt: '2999-01-01' } });
    const store = await openStore();
    const lease = await store.acquireLease(request(ME), stop.signal);
    await put({ '100.96.7.0-24': { PublicIP: 'oops' } });
    const error = await store.renewLease(lease, stop.signal).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ kind: 'system', code: undefined });
  });
});

describe('watching', () => {
  it('tells a snapshot, then each change, of our own lease too', async () => {
    await put({ '100.96.2.0-24': { PublicIP: OTHER } });
    const store = await openStore();
    const watch = new Watch(store);
    expect(await watch.next()).toBe('snapshot 100.96.2.0/24=10.168.0.3');

    const lease = await store.acquireLease(request(ME, '100.96.1.0/24'), stop.signal);
    expect(await watch.next()).toBe('put 100.96.1.0/24=10.168.0.2');
    await put({ [key(lease)]: { PublicIP: '10.168.0.9' } });
    expect(await watch.next()).toBe('delete 100.96.2.0/24');
    expect(await watch.next()).toBe('put 100.96.1.0/24=10.168.0.9');
    await put({});
    expect(await watch.next()).toBe('delete 100.96.1.0/24');
  });

  it('sees what another store writes, and an edit in place', async () => {
    await put({});
    const watch = new Watch(await openStore());
    expect(await watch.next()).toBe('snapshot');
    await (await openStore()).acquireLease(request(OTHER, '100.96.2.0/24'), stop.signal);
    expect(await watch.next()).toBe('put 100.96.2.0/24=10.168.0.3');
    await writeFile(path, fileText({ '100.96.4.0-24': { PublicIP: OTHER } }));
    expect(await watch.next()).toBe('delete 100.96.2.0/24');
    expect(await watch.next()).toBe('put 100.96.4.0/24=10.168.0.3');
  });

  it('keeps the last good state through a torn edit and says so once', async () => {
    const good = { '100.96.2.0-24': { PublicIP: OTHER } };
    await put(good);
    const store = await openStore();
    const watch = new Watch(store);
    expect(await watch.next()).toBe('snapshot 100.96.2.0/24=10.168.0.3');

    await writeFile(path, fileText(good).slice(0, 70));
    const degraded = await watch.event();
    expect(degraded).toMatchObject({ type: 'degraded' });
    expect((degraded as { error: Error }).error.message).toMatch(
      /leases\.json: not JSON: .*; the last good state stays in force/,
    );
    expect(await store.readNetworkConfig(stop.signal)).toBe(CONFIG_TEXT);
    const late = new Watch(store);
    expect(await late.next()).toBe('snapshot 100.96.2.0/24=10.168.0.3');
    expect(await late.next()).toBe('degraded');

    // Bad in another way: not told again. Then whole again.
    await writeFile(path, '[]');
    await store.readNetworkConfig(stop.signal);
    await put({ ...good, '100.96.3.0-24': { PublicIP: '10.168.0.4' } });
    expect(await watch.next()).toBe('recovered');
    expect(await watch.next()).toBe('snapshot 100.96.2.0/24=10.168.0.3 100.96.3.0/24=10.168.0.4');
    expect(await late.next()).toBe('recovered');
  });

  it('survives the file going and coming back', async () => {
    await put({ '100.96.2.0-24': { PublicIP: OTHER } });
    const watch = new Watch(await openStore());
    expect(await watch.next()).toBe('snapshot 100.96.2.0/24=10.168.0.3');
    await rename(path, `${path}.away`);
    expect(await watch.next()).toBe('degraded');
    await rename(`${path}.away`, path);
    expect(await watch.next()).toBe('recovered');
    expect(await watch.next()).toBe('snapshot 100.96.2.0/24=10.168.0.3');
  });

  it('sets bad entries aside beside good ones, and keeps what a bad edit broke', async () => {
    await put({ '100.96.2.0-24': { PublicIP: OTHER } });
    const watch = new Watch(await openStore());
    await watch.next();
    await put({ '100.96.2.0-24': { PublicIP: 'oops' }, x: 1, '100.96.3.0-24': { PublicIP: ME } });
    expect(await watch.next()).toBe(
      'snapshot 100.96.3.0/24=10.168.0.2 100.96.2.0/24=10.168.0.3 !100.96.2.0-24 !x',
    );
    await put({ '100.96.3.0-24': { PublicIP: ME } });
    expect(await watch.next()).toBe('snapshot 100.96.3.0/24=10.168.0.2');
  });

  it('tells the end of a lease when its time comes', async () => {
    const end = Date.now() + 400;
    await put({ '100.96.2.0-24': { PublicIP: OTHER, expiresAt: new Date(end).toISOString() } });
    const watch = new Watch(await openStore());
    expect(await watch.next()).toBe('snapshot 100.96.2.0/24=10.168.0.3');
    expect(await watch.next()).toBe('delete 100.96.2.0/24');
    expect(Date.now()).toBeGreaterThanOrEqual(end);
    expect(Date.now()).toBeLessThan(end + 1_000);
  });

  it('notices a clock that was set forward', async () => {
    let offset = 0;
    await put({
      '100.96.2.0-24': {
        PublicIP: OTHER,
        expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
      },
    });
    const watch = new Watch(await openStore(() => Date.now() + offset));
    await watch.next();
    offset = 86_400_000;
    expect(await watch.next()).toBe('delete 100.96.2.0/24');
  });

  it('ends with the signal and with the store', async () => {
    await put({});
    const store = await openStore();
    const cancel = new AbortController();
    const one = new Watch(store, cancel.signal);
    const two = new Watch(store);
    await Promise.all([one.next(), two.next()]);
    const ends = [one.next(), two.next()];
    cancel.abort();
    expect(await ends[0]).toBe('end');
    await store.close();
    expect(await ends[1]).toBe('end');
    expect(await new Watch(store).next()).toBe('end');
  });
});

it('holds 65,536 leases and tells one change among them', async () => {
  const many: Entries = {};
  for (let n = 0; n < 65_536; n++) {
    many[`10.${n >> 8}.${n & 255}.0-24`] = {
      PublicIP: `172.16.${n >> 8}.${n & 255}`,
      PublicIPv6: null,
    };
  }
  await put(many);
  const watch = new Watch(await openStore());
  expect(await watch.event()).toMatchObject({ type: 'snapshot', leases: { length: 65_536 } });
  many['10.255.255.0-24'] = { PublicIP: '172.31.0.1', PublicIPv6: null };
  await put(many);
  expect(await watch.next()).toBe('put 10.255.255.0/24=172.31.0.1');
});
