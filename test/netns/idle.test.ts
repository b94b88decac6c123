/** A daemon that has nothing to do sleeps: what wakes it is packets, news of the kernel, and the firewall's resync. */
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import type { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { parseSwitches } from '../../src/testbed/proc.js';
import { ping } from '../../src/testbed/traffic.js';
import { TestLab } from '../support/test-lab.js';

const SECONDS = 12;

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

/** How often each thread of a daemon gave up or lost its CPU so far, by its name and number. */
async function switches({ program }: DaemonProcess): Promise<Map<string, number>> {
  const tasks = `/proc/${String(program.pid)}/task`;
  const each = (await readdir(tasks)).map(async (thread) => {
    const name = (await readFile(`${tasks}/${thread}/comm`, 'utf8')).trim();
    const status = await readFile(`${tasks}/${thread}/status`, 'utf8');
    return [`${name} ${thread}`, parseSwitches(status)] as const;
  });
  return new Map(await Promise.all(each));
}

it.each(['offload', 'kernel'] as const)(
  'none of its own threads wakes by itself, mode %s, and the event loop seldom',
  async (mode) => {
    const now = await TestLab.setUp({ mode, flags: ['--iptables-resync=600'] });
    lab = now;
    const { near, far, nearDaemon } = now;
    // The path to the other host is known from here on, and nothing more is to be found out.
    const { received } = await ping(near, far.containerAddress, { count: 3, size: 1_400 });
    expect(received).toBe(3);
    await now.daemons.pop()?.stop();
    await delay(5_000);
    const before = await switches(nearDaemon);
    await delay(SECONDS * 1_000);
    const after = await switches(nearDaemon);
    const woken = new Map(
      [...after].map(([thread, count]) => [thread, count - (before.get(thread) ?? 0)]),
    );
    // The event loop's, whose name is the program's, and the pool's behind it.
    const ours = [...woken].filter(([thread]) => !/^(node|libuv-worker|main\.js) /.test(thread));
    expect(ours.length).toBeGreaterThan(2);
    // The kernel has news even so: neighbours that were not heard of for a while.
    const most = (thread: string): number => (thread.startsWith('host-watch ') ? SECONDS / 2 : 0);
    expect(ours.filter(([thread, count]) => count > most(thread))).toEqual([]);
    const total = [...woken.values()].reduce((sum, count) => sum + count, 0);
    expect(total).toBeLessThan(SECONDS * 20);
  },
);
