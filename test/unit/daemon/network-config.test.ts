/** The configuration of a running cluster as people break it, and what a daemon makes of it. */
import { pino } from 'pino';
import { describe, expect, it, vi } from 'vitest';
import { parseNetworkConfig } from '../../../src/config/network.js';
import { keysWithoutEffect } from '../../../src/network/registry.js';
import {
  awaitNetworkConfig,
  configProblems,
  watchNetworkConfig,
} from '../../../src/daemon/network-config.js';
import { systemError } from '../../../src/errors.js';
import { ProblemBoard } from '../../../src/problems.js';
import { CONFIG_TEXT, FakeStore } from '../../support/fake-store.js';

function setUp(kind = 'etcd') {
  const store = new FakeStore();
  store.kind = kind;
  const lines: string[] = [];
  const log = pino(
    { base: null },
    { write: (text: string) => void lines.push((JSON.parse(text) as { msg: string }).msg) },
  );
  const problems = new ProblemBoard(log);
  const stop = new AbortController();
  const ask = () => store.readNetworkConfig();
  const wait = () => awaitNetworkConfig({ store, ask, problems, log, intervalMs: 0 }, stop.signal);
  const ids = () => problems.all.map(({ id }) => id);
  return { store, lines, log, problems, stop, wait, ids };
}

const NOT_VALID = [
  'x',
  '{}',
  '[]',
  '',
  'null',
  '{"Network":"100.96.0.0/16","SubnetLen":17}',
  '{"Network":"100.96.0.0/33"}',
  '{"Network":"100.96.0.0/16","SubnetMin":"10.0.0.0"}',
  '{"Network":"100.96.0.0/16","Backend":{}}',
  '{"Network":"100.96.0.0/16","Backend":{"Type":"udp","Port":"x"}}',
  `{"Network":"100.96.0.0/16","x":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
  `{"Network":"100.96.0.0/16","x":"${'y'.repeat(100_000)}"}`,
];

describe('at the start', () => {
  const asked = (store: FakeStore, times: number) =>
    vi.waitFor(() => {
      expect(store.configReads).toBeGreaterThan(times);
    });

  it.each(NOT_VALID.map((text) => [text.slice(0, 60), text]))(
    '%j is asked for again each second until it is right',
    async (_start, text) => {
      const { store, wait, ids, lines } = setUp();
      store.config = text;
      const config = wait();
      await asked(store, 125);
      expect(ids()).toEqual(['config_invalid']);
      // Once when it is found, then once a minute.
      const times = 1 + Math.floor((store.configReads - 1) / 60);
      expect(lines).toHaveLength(times);
      expect(lines[0]).toMatch(/^the network configuration in memory is not valid: /);
      expect(lines[0]?.length).toBeLessThan(1_000);
      expect(lines[2]).toBe(
        'network configuration still not valid; waiting for it to be corrected',
      );
      store.config = CONFIG_TEXT;
      expect(await config).toEqual(parseNetworkConfig(CONFIG_TEXT));
      expect(ids()).toEqual([]);
    },
  );

  it('one that is another mistake each time is told each time', async () => {
    const { store, wait, lines, stop } = setUp();
    store.config = 'x';
    const config = wait().catch(() => 'stopped');
    await asked(store, 2);
    store.config = '{}';
    await asked(store, store.configReads + 1);
    store.config = undefined;
    await asked(store, store.configReads + 60);
    expect(lines[1]).toMatch(/Network: \(missing\)/);
    expect(lines).toContain('no network configuration yet; waiting for it');
    stop.abort();
    expect(await config).toBe('stopped');
  });

  it('what flannelette does not do is not waited for, nor is a lease file', async () => {
    const ipv6 = setUp();
    ipv6.store.config = '{"Network":"100.96.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}';
    await expect(ipv6.wait()).rejects.toThrow('EnableIPv6');
    const file = setUp('file');
    file.store.config = '{}';
    await expect(file.wait()).rejects.toMatchObject({ kind: 'input', field: 'Network' });
  });

  it('keys nobody reads are told with the nearest there is', async () => {
    const { store, wait, problems } = setUp();
    store.config = `{"Network":"100.96.0.0/16","SubnetLength":26,"Backend":{"Type":"udp","Prot":8286}}`;
    expect((await wait()).subnetLen).toBe(24);
    expect(problems.all).toEqual([
      {
        id: 'config_unknown_key',
        message:
          'the network configuration has keys without effect: "SubnetLength" (did you mean SubnetLen?), "Backend.Prot" (did you mean Backend.Port?)',
      },
    ]);
  });
});

it.each([
  ['{"network":"10.3.0.0/16"}', []],
  ['{"NETWORK":"10.3.0.0/16","ipv6network":"fc00::/48","BACKEND":{"TYPE":"udp","port":1}}', []],
  ['{"Network":"10.3.0.0/16","subnetlen_":26}', ['subnetlen_']],
  [
    '{"Network":"10.3.0.0/16","Backend":{"Type":"udp","VNI":1,"DirectRouting":true,"GBP":true}}',
    ['Backend.VNI', 'Backend.GBP'],
  ],
  ['{"Network":"10.3.0.0/16","__proto__":{},"":1}', ['__proto__', '']],
])('unknown keys of %s', (text, expected) => {
  expect(keysWithoutEffect(text).map(({ path }) => path)).toEqual(expected);
});

describe('after the start', () => {
  const config = parseNetworkConfig(CONFIG_TEXT);
  const problemsOf = (text: string | undefined) => configProblems(text, config, 'etcd');

  it('the same configuration, however it is written, is no problem', () => {
    for (const text of [
      CONFIG_TEXT,
      '{ "network": "100.96.0.0/16" }',
      '{"Network":"100.96.7.0/16","SubnetLen":24,"Backend":{"Type":"UDP","Port":8285}}',
    ]) {
      expect(problemsOf(text)).toEqual([]);
    }
  });

  it('one that is gone, broken or another is named with what stays in force', () => {
    expect(problemsOf(undefined)).toEqual([
      {
        id: 'config_missing',
        message:
          'the network configuration is gone from etcd: Network 100.96.0.0/16 stays in force here, a restart would wait for one',
      },
    ]);
    for (const text of NOT_VALID) {
      expect(problemsOf(text)).toMatchObject([{ id: 'config_invalid' }]);
    }
    expect(
      problemsOf('{"Network":"10.5.0.0/16","SubnetLen":26,"Backend":{"Type":"vxlan"}}'),
    ).toEqual([
      {
        id: 'config_changed',
        message:
          'the network configuration in etcd has changed (Network 100.96.0.0/16 -> 10.5.0.0/16, SubnetLen 24 -> 26, SubnetMin 100.96.1.0 -> 10.5.0.64, SubnetMax 100.96.255.0 -> 10.5.255.192, Backend.Type udp -> vxlan, Backend.Port 8285 -> 8472): it takes effect when this daemon is restarted',
        remedy: 'systemctl restart flannelette',
      },
    ]);
  });

  it('it is looked at while the store is followed, and a store that fails is left to others', async () => {
    const { store, problems, stop, ids, lines, log } = setUp();
    let followed = true;
    let looks = 0;
    const watching = watchNetworkConfig(
      {
        store,
        config,
        problems,
        log,
        lookMs: 1,
        intervalMs: 0,
        followed: () => (looks += 1) > 0 && followed,
      },
      stop.signal,
    );
    store.config = undefined;
    await vi.waitFor(() => {
      expect(ids()).toEqual(['config_missing']);
    });
    // As at the start: each second, and said once a minute.
    await vi.waitFor(() => {
      expect(lines).toHaveLength(3);
    });
    expect(store.configReads).toBeGreaterThanOrEqual(120);
    expect(new Set(lines).size).toBe(1);
    store.configErrors.push(systemError('away'));
    store.config = CONFIG_TEXT;
    await vi.waitFor(() => {
      expect(ids()).toEqual([]);
    });
    followed = false;
    store.config = 'x';
    const [reads, before] = [store.configReads, looks];
    await vi.waitFor(() => {
      expect(looks).toBeGreaterThan(before + 3);
    });
    expect(store.configReads).toBe(reads);
    expect(ids()).toEqual([]);
    stop.abort();
    await watching;
  });
});
