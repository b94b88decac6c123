/**
 * Threads, queue pairs and source ports: whatever their number, transfers are byte-exact, a stop is
 * clean, the port is ours alone, and a flow leaves by one port.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Capture } from '../../src/testbed/capture.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { usableCpus } from '../../src/dataplane/dataplane.js';
import type { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { ipv4Of } from '../../src/testbed/wire/pcap.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { COMMAND, counters, LEASE_FILE, ROOT, TestLab, tunDevices } from '../support/test-lab.js';
import { transferBothWays } from '../support/exact.js';

const BYTES = 8 * 1024 * 1024;
const FLOWS = join(ROOT, 'test', 'support', 'udp-flows.mjs');

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

async function setUp(...flags: string[]): Promise<TestLab> {
  lab = await TestLab.setUp({ mode: 'auto', flags });
  return lab;
}

/** How many of five pings are answered. */
async function pings(from: HostPlan, to: HostPlan): Promise<number> {
  return (await ping(from, to.containerAddress, { count: 5, intervalSeconds: 0.01 })).received;
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

/** Packets a host's flannel0 dropped because its queue was full. */
async function droppedByDevice(namespace: string): Promise<number> {
  const link = ['ip', '-j', '-s', 'link', 'show', 'flannel0'];
  const [device] = JSON.parse((await run(inNamespace(namespace, link))).stdout) as [
    { stats64: { tx: { dropped: number } } },
  ];
  return device.stats64.tx.dropped;
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
    const { near, far, nearDaemon } = await setUp(`--workers=${workers}`);
    expect(await threadNames(nearDaemon)).toEqual(names);
    expect(await sockets(near.host)).toBe(Math.max(1, workers / 2));
    const { dataPlane } = await nearDaemon.status();
    expect(dataPlane?.features).toContainEqual({ name: 'multiqueue', state: multiqueue, errno: 0 });
    expect(dataPlane?.threads.map(({ direction }) => direction)).toEqual([
      'encapsulate',
      'decapsulate',
    ]);
    await transferBothWays(near, far, BYTES);

    await nearDaemon.stop();
    expect(await tunDevices(near.host)).toEqual([]);
    await lab?.startDaemon(near, { flags: [`--workers=${workers}`] });
    expect(await pings(near, far)).toBe(5);
  });
});

it('4 workers do without more queues when these are disabled, each on its CPU', async () => {
  // The last CPU there is, and the first: where there is one, both.
  const last = usableCpus().at(-1) ?? 0;
  const flags = ['--workers=4', '--disable=multiqueue', `--cpus=${last},0`];
  const { near, far, nearDaemon } = await setUp(...flags);
  expect(await packetThreads(nearDaemon)).toEqual([
    { name: 'fl-decap-0', cpus: '0' },
    { name: 'fl-encap-0', cpus: String(last) },
  ]);
  expect(await sockets(near.host)).toBe(1);
  expect(await pings(near, far)).toBe(5);
});

it('nobody else gets a port that 4 workers share', async () => {
  const { near, far } = await setUp('--workers=4');
  const argv = [...COMMAND, 'run', `--lease-file=${LEASE_FILE}`, '--iface=eth0'];
  argv.push('--iptables-forward-rules=false', '--subnet-file=/run/second/subnet.env');
  for (const workers of [1, 4]) {
    const second = inNamespace(near.host, [...argv, `--workers=${workers}`]);
    const { stderr } = await run(second, { accept: [1] });
    expect(stderr.trim().split('\n').at(-1)).toMatch(/UDP port 8285 is taken.*EADDRINUSE/);
  }
  expect(await pings(near, far)).toBe(5);
});

it('4 source ports: each flow by one of them, to 8285, and peers with one port take it', async () => {
  lab = await TestLab.bare(2);
  const { near, far } = lab;
  // Without trains, which this capture would show whole.
  const flags = ['--source-ports=4', '--workers=4', '--disable=udp-gso'];
  for (const daemon of [
    await lab.startDaemon(near, { mode: 'auto', flags }),
    await lab.startDaemon(far, { mode: 'basic' }),
  ]) {
    await lab.attachContainer(daemon);
  }
  const echo = [process.execPath, FLOWS, 'echo', far.containerAddress, '7'];
  const server = new Program(inNamespace(far.container, echo));
  await waitFor('the echo', 5_000, () => server.stdout.includes('listening') || undefined);
  const capture = await Capture.start({
    namespace: far.host,
    filter: `udp and src host ${near.address}`,
  });
  const flows = Array.from({ length: 64 }, (_, index) => 20_000 + index);
  const ask = [
    process.execPath,
    FLOWS,
    'ask',
    far.containerAddress,
    '7',
    '3',
    ...flows.map(String),
  ];
  await run(inNamespace(near.container, ask));
  await server.stop();
  const frames = await waitFor('the datagrams', 5_000, async () => {
    const seen = await capture.frames();
    return seen.length >= 3 * flows.length ? seen : undefined;
  });
  await capture.stop();
  const ports = new Map<number, Set<number>>();
  for (const frame of frames) {
    const udp = ipv4Of(frame)?.subarray(20) ?? Buffer.alloc(0);
    expect(udp.readUInt16BE(2)).toBe(8285);
    const inner = udp.subarray(8);
    const flow = inner.readUInt16BE(20);
    expect(inner.subarray(28).toString()).toBe(`flow ${flow}`);
    ports.set(flow, (ports.get(flow) ?? new Set()).add(udp.readUInt16BE(0)));
  }
  expect([...ports.keys()].sort()).toEqual(flows);
  expect([...ports.values()].every((used) => used.size === 1)).toBe(true);
  const used = new Set([...ports.values()].flatMap((each) => [...each]));
  expect(used.size).toBe(4);
  expect(used).toContain(8285);

  await transferBothWays(near, far, BYTES);

  // What is sent to a port that only sends is dropped, not queued.
  const extra = [...used].find((port) => port !== 8285) ?? 0;
  const three = `for i in 1 2 3; do echo > /dev/udp/${near.address}/${extra}; done`;
  await run(inNamespace(far.host, ['bash', '-c', three]));
  const argv = ['ss', '-Huanm', 'sport', '=', `:${extra}`];
  await waitFor('the socket to drop three datagrams', 5_000, async () => {
    const { stdout } = await run(inNamespace(near.host, argv));
    return /skmem:\(r0,.*,d3\)/.test(stdout) ? true : undefined;
  });
});

it('queues have the sizes asked for, and what they lost is counted, also over a new device', async () => {
  const flags = ['--tun-queue=2', '--socket-buffer=8192', '--ring-bytes=524288'];
  const { near, far, nearDaemon } = await setUp(...flags);
  const { pid, dataPlane } = await nearDaemon.status();
  expect(dataPlane?.queues).toEqual({
    tunPackets: 2,
    socketReceiveBytes: 16_384,
    socketSendBytes: 16_384,
  });
  expect((await counters(nearDaemon, 'encapsulate')).ringCapacityBytes).toBe(524_288);

  process.kill(pid, 'SIGSTOP');
  // A busy machine takes its time: each thread stops when it is next scheduled.
  await waitFor('all threads to stop', 5_000, () => allStopped(pid));
  const flood = ['ping', '-q', '-c', '50', '-i', '0.01', '-s', '1400', '-W', '0.1'];
  await Promise.all([
    run(inNamespace(near.container, [...flood, far.containerAddress]), { accept: [1] }),
    run(inNamespace(far.container, [...flood, near.containerAddress]), { accept: [1] }),
  ]);
  const before = await droppedByDevice(near.host);
  process.kill(pid, 'SIGCONT');
  const lost = (await counters(nearDaemon, 'encapsulate')).queueDrops ?? 0;
  expect(lost).toBeGreaterThanOrEqual(before);
  expect(lost).toBeLessThanOrEqual(await droppedByDevice(near.host));
  expect(lost).toBeGreaterThan(40);
  expect((await counters(nearDaemon, 'decapsulate')).queueDrops).toBeGreaterThan(10);

  await run(inNamespace(near.host, ['ip', 'link', 'del', 'flannel0']));
  await waitFor('a new device', 5_000, async () =>
    (await nearDaemon.status()).dataPlane?.restarts === 1 ? true : undefined,
  );
  expect((await counters(nearDaemon, 'encapsulate')).queueDrops).toBeGreaterThanOrEqual(lost);
});

/** True once each thread of a process is in state T (proc_pid_stat(5)). */
async function allStopped(pid: number): Promise<true | undefined> {
  const directory = `/proc/${pid}/task`;
  const states = await Promise.all(
    (await readdir(directory)).map(
      async (thread) =>
        /^State:\s+(\S)/m.exec(await readFile(join(directory, thread, 'status'), 'utf8'))?.[1],
    ),
  );
  return states.every((state) => state === 'T') ? true : undefined;
}
