/**
 * Threads and queue pairs: whatever their number, transfers are byte-exact, a stop is clean and the
 * port is ours alone.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/lab/commands.js';
import { usableCpus } from '../../src/dataplane/dataplane.js';
import type { DaemonProcess } from '../../src/lab/daemon-process.js';
import { ping } from '../../src/lab/traffic.js';
import { COMMAND, LEASE_FILE, TestLab, tunDevices } from '../support/test-lab.js';
import { transfer } from '../support/transfer.js';

const BYTES = 8 * 1024 * 1024;

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.lower();
  lab = undefined;
});

async function raise(...flags: string[]): Promise<TestLab> {
  lab = await TestLab.raise({ mode: 'auto', flags });
  return lab;
}

/** A daemon's packet threads by name, with the CPUs each may run on. */
async function packetThreads(
  daemon: DaemonProcess,
): Promise<{ readonly name: string; readonly cpus: string | undefined }[]> {
  const tasks = `/proc/${(await daemon.status()).pid}/task`;
  const threads = await Promise.all(
    (await readdir(tasks)).map(async (task) => {
      const name = (await readFile(join(tasks, task, 'comm'), 'utf8')).trim();
      const status = await readFile(join(tasks, task, 'status'), 'utf8');
      return { name, cpus: /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] };
    }),
  );
  return threads
    .filter(({ name }) => name.startsWith('fl-'))
    .sort((a, b) => a.name.localeCompare(b.name));
}

async function threadNames(daemon: DaemonProcess): Promise<string[]> {
  return (await packetThreads(daemon)).map(({ name }) => name);
}

/** Sockets a host has on the tunnel's port. */
async function sockets(namespace: string): Promise<number> {
  const { stdout } = await run(inNamespace(namespace, ['ss', '-Huan', 'sport', '=', ':8285']));
  return stdout.split('\n').filter((line) => line !== '').length;
}

describe.each([
  [1, ['fl-tunnel'], 'unused'],
  [2, ['fl-decap-0', 'fl-encap-0'], 'unused'],
  [4, ['fl-decap-0', 'fl-decap-1', 'fl-encap-0', 'fl-encap-1'], 'active'],
] as const)('%i workers', (workers, names, multiqueue) => {
  it('carry both ways, stop cleanly, and start again', async () => {
    const { near, far, nearDaemon } = await raise(`--workers=${workers}`);
    expect(await threadNames(nearDaemon)).toEqual(names);
    expect(await sockets(near.host)).toBe(Math.max(1, workers / 2));
    const { dataPlane } = await nearDaemon.status();
    expect(dataPlane?.features).toContainEqual({ name: 'multiqueue', state: multiqueue, errno: 0 });
    expect(dataPlane?.threads.map(({ direction }) => direction)).toEqual([
      'encapsulate',
      'decapsulate',
    ]);
    await Promise.all([transfer(near, far, 7001, BYTES), transfer(far, near, 7002, BYTES)]);

    await nearDaemon.stop();
    expect(await tunDevices(near.host)).toEqual([]);
    await lab?.startDaemon(near, { flags: [`--workers=${workers}`] });
    const { received } = await ping(near, far.containerAddress, { count: 5 });
    expect(received).toBe(5);
  });
});

it('4 workers do without more queues when these are disabled, each on its CPU', async () => {
  // The last CPU there is, and the first: where there is one, both.
  const last = usableCpus().at(-1) ?? 0;
  const flags = ['--workers=4', '--disable=multiqueue', `--cpus=${last},0`];
  const { near, far, nearDaemon } = await raise(...flags);
  expect(await packetThreads(nearDaemon)).toEqual([
    { name: 'fl-decap-0', cpus: '0' },
    { name: 'fl-encap-0', cpus: String(last) },
  ]);
  expect(await sockets(near.host)).toBe(1);
  expect((await ping(near, far.containerAddress, { count: 3 })).received).toBe(3);
});

it('nobody else gets a port that 4 workers share', async () => {
  const { near, far } = await raise('--workers=4');
  const argv = [...COMMAND, 'run', `--lease-file=${LEASE_FILE}`, '--iface=eth0'];
  argv.push('--iptables-forward-rules=false', '--subnet-file=/run/second/subnet.env');
  for (const workers of [1, 4]) {
    const second = inNamespace(near.host, [...argv, `--workers=${workers}`]);
    const { stderr } = await run(second, { accept: [1] });
    expect(stderr.trim().split('\n').at(-1)).toMatch(/UDP port 8285 is taken.*EADDRINUSE/);
  }
  expect((await ping(near, far.containerAddress, { count: 3 })).received).toBe(3);
});
