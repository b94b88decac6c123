/**
 * Faults of the host and of the way, with real tools: traffic goes on, or comes back within 5 s, and
 * what is lost is counted.
 *
 *   container-1 -- host-1 -- switch -- host-2 -- container-2
 */
import { afterEach, describe, expect, it } from 'vitest';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { ping } from '../../src/testbed/traffic.js';
import { transferBothWays } from '../support/exact.js';
import { counters, TestLab, waitForDrops } from '../support/test-lab.js';

const MODES = ['basic', 'offload'] as const;
let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

/** A rule of nftables in a table of its own, on a hook of a namespace. */
async function rule(namespace: string, hook: 'input' | 'output', text: string): Promise<void> {
  const table = `table ip fault { chain c { type filter hook ${hook} priority 0; ${text} }; }\n`;
  await run(inNamespace(namespace, ['nft', '-f', '-']), { input: table });
}

describe.each(MODES)('mode %s', (mode) => {
  it('counts what a firewall of its host refuses (EPERM), and is back when that is over', async () => {
    lab = await TestLab.setUp({ mode });
    const { near, far } = lab;
    await rule(near.host, 'output', 'udp dport 8285 drop;');
    const pings = { count: 5, intervalSeconds: 0.02 };
    expect(await ping(near, far.containerAddress, pings)).toMatchObject({ received: 0 });
    await waitForDrops(lab.nearDaemon, 'encapsulate', 'send_refused', 5);
    await run(inNamespace(near.host, ['nft', 'delete', 'table', 'ip', 'fault']));
    expect(await ping(near, far.containerAddress, pings)).toMatchObject({ received: 5 });
    expect((await lab.nearDaemon.status()).dataPlane?.error).toBeNull();
  });

  it.each([1, 5])('carries every byte over a way that loses %i in 100', async (percent) => {
    lab = await TestLab.setUp({ mode });
    const { near, far } = lab;
    const lost = `udp dport 8285 numgen random mod 100 < ${percent} drop;`;
    for (const { host } of [near, far]) await rule(host, 'input', lost);
    await transferBothWays(near, far, 1024 * 1024);
    const { drops } = await counters(lab.nearDaemon, 'decapsulate');
    expect(Object.values(drops).every((count) => count === 0)).toBe(true);
  });

  it('answers a flood without route within the limits, and traffic goes on beside it', async () => {
    lab = await TestLab.setUp({ mode });
    const { near, far, nearDaemon } = lab;
    const flood = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setblocking(False)
while True:
    try: s.sendto(b"x", ("100.96.99.9", 9))
    except OSError: pass`;
    const before = await counters(nearDaemon, 'encapsulate');
    const flooding = new Program(inNamespace(near.container, ['python3', '-c', flood]));
    try {
      await waitForDrops(nearDaemon, 'encapsulate', 'no_route', 20_000);
      const pings = { count: 20, intervalSeconds: 0.02 };
      const { received } = await ping(near, far.containerAddress, pings);
      expect(received).toBeGreaterThan(0);
    } finally {
      await flooding.stop();
    }
    const after = await counters(nearDaemon, 'encapsulate');
    const missed = (after.drops['no_route'] ?? 0) - (before.drops['no_route'] ?? 0);
    const answered = after.icmpUnreachable - before.icmpUnreachable;
    expect(answered).toBeGreaterThan(0);
    expect(answered).toBeLessThan(missed / 2);
    const pings = { count: 5, intervalSeconds: 0.02 };
    expect(await ping(near, far.containerAddress, pings)).toMatchObject({ received: 5 });
  });
});

it('forwards on with room for 32 descriptors, and is whole again when it has more', async () => {
  lab = await TestLab.setUp({ mode: 'auto' });
  const { near, far, nearDaemon } = lab;
  const { pid } = await nearDaemon.status();
  const limit = (count: string) => run(['prlimit', `--pid=${pid}`, `--nofile=${count}`]);
  const pings = { count: 5, intervalSeconds: 0.02 };
  await limit('32:1024');
  expect(await ping(near, far.containerAddress, pings)).toMatchObject({ received: 5 });
  await run(inNamespace(near.host, ['ip', 'link', 'delete', 'flannel0']));
  await limit('1024:1024');
  await waitFor('the way back', 5_000, async () =>
    (await ping(near, far.containerAddress, { ...pings, count: 1 })).received > 0
      ? true
      : undefined,
  );
  expect(nearDaemon.program.running).toBe(true);
});
