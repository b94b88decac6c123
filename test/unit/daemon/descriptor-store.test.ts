import { fstatSync, openSync } from 'node:fs';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { DescriptorStore, type StoreCalls } from '../../../src/daemon/descriptor-store.js';

const PATH = '/run/systemd/notify';
const NAME = '100.96.0.0/16 100.96.1.0/24';
const OTHER = '100.64.0.0/16 100.64.1.0/24';
const PID = 4711;

interface Fake {
  readonly support?: ReturnType<StoreCalls['probe']>;
  readonly env?: Readonly<Record<string, string>>;
  /** The kernel has a share of the tunnel. */
  readonly links?: boolean;
}

/** A store with a manager that notes what it is sent. */
function fake({ support = 'usable', env = {}, links = false }: Fake = {}) {
  const sent: string[] = [];
  const said: string[] = [];
  const log = pino(
    { level: 'info', base: null },
    { write: (line: string) => said.push((JSON.parse(line) as { msg: string }).msg) },
  );
  const calls: StoreCalls = {
    notify: (_, message) => sent.push(message),
    settle: () => sent.push('BARRIER=1'),
    probe: () => support,
    keepPrivate: (fd) => sent.push(`private ${fd}`),
  };
  const store = DescriptorStore.fromEnvironment({ NOTIFY_SOCKET: PATH, ...env }, log, PID, calls);
  const plane = {
    storeDescriptors: (_: string, message: string) => sent.push(message),
    storeKernelPath: (_: string, message: string) => {
      if (links) sent.push(message);
      return links;
    },
  };
  return { store, sent, said, plane };
}

const storing = (name: string): string => `FDSTORE=1\nFDNAME=flannelette ${name}\nFDPOLL=0`;
const removing = (name: string): string => `FDSTOREREMOVE=1\nFDNAME=flannelette ${name}`;

/** As systemd tells of descriptors; those from 3 on have to be opened before. */
function listening(...names: string[]): Record<string, string> {
  return {
    LISTEN_PID: String(PID),
    LISTEN_FDS: String(names.length),
    LISTEN_FDNAMES: names.join(':'),
  };
}

describe('a tunnel', () => {
  it('is stored once under its name, and let go of when it is closed for good', () => {
    const { store, sent, plane } = fake();
    store.keep(NAME, plane);
    store.keep(NAME, plane);
    expect(sent).toEqual([storing(NAME)]);
    expect(store.leaves).toBe(false);
    store.release();
    store.release();
    expect(sent.slice(1)).toEqual([removing(NAME), 'BARRIER=1']);
  });

  it('is left to the manager by a daemon that is asked to stop', () => {
    const { store, sent, plane } = fake();
    store.keep(NAME, plane);
    store.stopping();
    expect(store.leaves).toBe(true);
    store.release();
    expect(sent).toEqual([storing(NAME)]);
  });

  it('has the links of its programs stored anew with each start', () => {
    const { store, sent, plane } = fake({ links: true });
    store.keep(NAME, plane);
    expect(sent).toEqual([storing(NAME), storing(`${NAME} kernel`)]);
    sent.length = 0;
    store.keep(NAME, plane);
    expect(sent).toEqual([removing(`${NAME} kernel`), 'BARRIER=1', storing(`${NAME} kernel`)]);
    sent.length = 0;
    store.release();
    expect(sent).toEqual([removing(NAME), removing(`${NAME} kernel`), 'BARRIER=1']);
  });

  it.each(['none', 'no-return'] as const)('is not given to a store that is %s', (support) => {
    const { store, sent, plane } = fake({ support });
    store.keep(NAME, plane);
    store.stopping();
    expect([sent, store.leaves]).toEqual([[], false]);
  });

  it('is not stored without a manager', () => {
    const { store, sent, plane } = fake({ env: { NOTIFY_SOCKET: '' } });
    store.keep(NAME, plane);
    store.release();
    expect(sent).toEqual([]);
  });
});

describe('descriptors that were passed on', () => {
  it('are taken by their name, once, and not sent again', () => {
    const env = listening(`flannelette ${NAME}`, 'web', `flannelette ${NAME} kernel`);
    const { store, sent, plane } = fake({ env });
    expect(store.hasTunnel).toBe(true);
    // Those of a socket unit are somebody else's.
    expect(sent).toEqual(['private 3', 'private 5']);
    const { tun, udp, links, until } = store.take(NAME) ?? {};
    expect([...(tun ?? []), ...(udp ?? [])]).toEqual([3]);
    expect([links, until]).toEqual([[5], undefined]);
    expect([store.hasTunnel, store.take(NAME)]).toEqual([false, undefined]);
    sent.length = 0;
    store.keep(NAME, plane);
    expect(sent).toEqual([removing(`${NAME} kernel`), 'BARRIER=1']);
  });

  it('of another tunnel are closed, and the manager lets go of them', () => {
    const fd = openSync('/dev/null', 'r');
    const names = Array.from({ length: fd - 2 }, (_, at) =>
      at + 3 === fd ? `flannelette ${OTHER}` : 'web',
    );
    const { store, sent, said } = fake({ env: listening(...names) });
    expect(store.take(NAME)).toBeUndefined();
    expect(sent).toEqual([`private ${fd}`, removing(OTHER), 'BARRIER=1']);
    expect(said).toEqual(['the service manager kept another tunnel; it is removed']);
    expect(() => fstatSync(fd)).toThrow('EBADF');
  });

  it.each([
    ['another process', { LISTEN_PID: '1' }],
    ['nobody', { LISTEN_PID: '' }],
    ['no number', { LISTEN_FDS: 'many' }],
    ['other names than descriptors', { LISTEN_FDS: '2' }],
  ])('for %s are left alone', (_, wrong) => {
    const { store, sent } = fake({ env: { ...listening(`flannelette ${NAME}`), ...wrong } });
    expect([store.hasTunnel, store.take(NAME), sent]).toEqual([false, undefined, []]);
  });
});
