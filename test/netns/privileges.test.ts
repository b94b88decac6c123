/**
 * What a running daemon may do: no thread has more capabilities than it needs, none can gain one, packet
 * threads have none and make no other system calls than those of their loops, and nobody reads a password
 * from the process list.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { treeOf } from '../../src/testbed/proc.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { ipBatch, LAB_DIRECTORY, type HostPlan } from '../../src/testbed/topology.js';
import { probeKernel } from '../../src/dataplane/dataplane.js';
import { ping } from '../../src/testbed/traffic.js';
import { buildRefuse, refusing } from '../support/refuse.js';
import { COMMAND, featureOf, TestLab, tunDevices } from '../support/test-lab.js';
import { transferBothWays } from '../support/exact.js';

const NET_ADMIN = 1n << 12n;
const NET_RAW = 1n << 13n;
const PERFMON = 1n << 38n;
const BPF = 1n << 39n;
const SECCOMP_MODE_FILTER = 2;

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

interface Task {
  readonly name: string;
  readonly effective: bigint;
  readonly permitted: bigint;
  readonly bounding: bigint;
  readonly noNewPrivileges: number;
  readonly seccomp: number;
}

const field = (status: string, name: string): string =>
  new RegExp(`^${name}:\\s+(\\S+)$`, 'm').exec(status)?.[1] ?? '';

async function tasksOf(pid: number): Promise<Task[]> {
  const directory = `/proc/${pid}/task`;
  return Promise.all(
    (await readdir(directory)).map(async (task) => {
      const status = await readFile(join(directory, task, 'status'), 'utf8');
      const set = (name: string) => BigInt(`0x${field(status, name)}`);
      return {
        name: field(status, 'Name'),
        effective: set('CapEff'),
        permitted: set('CapPrm'),
        bounding: set('CapBnd'),
        noNewPrivileges: Number(field(status, 'NoNewPrivs')),
        seccomp: Number(field(status, 'Seccomp')),
      };
    }),
  );
}

const isPacketThread = ({ name }: Task): boolean => name.startsWith('fl-') || name === 'path-mtu';

/** Every thread of a daemon has these capabilities, and packet threads none. */
async function expectReduced(daemon: DaemonProcess, allowed: bigint): Promise<void> {
  const { pid } = await daemon.status();
  const own = (await tasksOf(process.pid))[0]?.seccomp ?? 0;
  const tasks = await tasksOf(pid);
  const packet = tasks.filter(isPacketThread);
  const others = tasks.filter((task) => !isPacketThread(task));
  expect(packet.length).toBeGreaterThan(0);
  // Node's own: the event loop, its pool, V8's.
  expect(others.length).toBeGreaterThan(4);
  for (const task of packet) {
    expect(task).toMatchObject({
      effective: 0n,
      permitted: 0n,
      noNewPrivileges: 1,
      seccomp: SECCOMP_MODE_FILTER,
    });
  }
  for (const task of others) {
    expect(task).toMatchObject({
      effective: allowed,
      permitted: allowed,
      bounding: allowed,
      noNewPrivileges: 1,
      seccomp: own,
    });
  }
}

/** Node was started a second time, in the same process. */
async function wasBegunAnew(pid: number): Promise<boolean> {
  const environment = await readFile(`/proc/${pid}/environ`, 'utf8');
  return environment.split('\0').includes(`FLANNELETTE_RESTARTED=${pid}`);
}

async function expectTraffic(near: HostPlan, far: HostPlan): Promise<void> {
  const { received } = await ping(near, far.containerAddress, { count: 5, intervalSeconds: 0.02 });
  expect(received).toBe(5);
}

describe('a daemon started by root with every capability', () => {
  it.each(['basic', 'batch', 'offload'] as const)(
    'keeps two of them in mode %s, and carries traffic',
    async (mode) => {
      lab = await TestLab.setUp({ mode, flags: ['--workers=2', '--ip-masq'] });
      const { near, far, nearDaemon } = lab;
      await expectReduced(nearDaemon, NET_ADMIN | NET_RAW);
      const { pid, privileges } = await nearDaemon.status();
      expect(await wasBegunAnew(pid)).toBe(false);
      expect(privileges).toEqual({
        capabilities: ['NET_ADMIN', 'NET_RAW'],
        noNewPrivileges: true,
      });
      expect(await featureOf(nearDaemon, 'seccomp')).toBe('active');
      const { stdout } = await run([
        ...COMMAND,
        'status',
        `--subnet-file=${nearDaemon.subnetFile}`,
      ]);
      expect(stdout).toContain('privileges CAP_NET_ADMIN, CAP_NET_RAW\n');
      await transferBothWays(near, far, 2 * 1024 * 1024);
      // An ICMP error goes out by the raw socket of a thread without capabilities.
      const trace = ['ping', '-c', '1', '-W', '2', '-t', '1', far.containerAddress];
      const answer = await run(inNamespace(near.container, trace), { accept: [1] });
      expect(answer.stdout).toContain('Time to live exceeded');
    },
  );

  it('begins anew where its threads cannot be made to give them up', async () => {
    await buildRefuse();
    lab = await TestLab.bare(2, { mode: 'offload' });
    const { near, far } = lab;
    await lab.attachContainer(await lab.startDaemon(far));
    const daemon = await lab.startDaemon(near, { command: refusing('thread-signal=ENOSYS') });
    await lab.attachContainer(daemon);
    expect(await wasBegunAnew((await daemon.status()).pid)).toBe(true);
    expect((await daemon.status()).privileges?.capabilities).toEqual(['NET_ADMIN', 'NET_RAW']);
    await expectTraffic(near, far);
  });

  it('opens a new data plane, and puts rules, address and route back', async () => {
    lab = await TestLab.setUp({ mode: 'offload', flags: ['--ip-masq', '--iptables-resync=1'] });
    const { near, far, nearDaemon } = lab;
    await run(inNamespace(near.host, ['iptables', '-t', 'nat', '-F', 'FLANNEL-POSTRTG']));
    await ipBatch(near.host, ['link set flannel0 down', 'link set flannel0 up']);
    await waitFor('rules', 10_000, async () =>
      (await nearDaemon.status()).firewall.repairs > 0 ? true : undefined,
    );
    await waitFor('traffic', 10_000, async () => {
      const { received } = await ping(near, far.containerAddress, {
        count: 1,
        intervalSeconds: 0.02,
      });
      return received === 1 ? true : undefined;
    });
    await ipBatch(near.host, ['link delete flannel0']);
    await waitFor('a new device', 10_000, async () =>
      (await nearDaemon.status()).dataPlane?.restarts === 1 ? true : undefined,
    );
    expect(await tunDevices(near.host)).toEqual(['flannel0']);
    await expectTraffic(near, far);
    await expectReduced(nearDaemon, NET_ADMIN | NET_RAW);
  });

  const kernelPath = probeKernel().find(({ name }) => name === 'kernel-path');
  it.skipIf(kernelPath?.state !== 'yes')(
    'keeps CAP_BPF and CAP_PERFMON besides in mode kernel',
    async () => {
      lab = await TestLab.setUp({ mode: 'kernel' });
      const { near, far, nearDaemon } = lab;
      await expectReduced(nearDaemon, NET_ADMIN | NET_RAW | PERFMON | BPF);
      expect(await featureOf(nearDaemon, 'kernel-path')).toBe('active');
      await expectTraffic(near, far);
    },
  );

  it('keeps all of them with --drop-privileges=false, but not in the packet threads', async () => {
    lab = await TestLab.setUp({ mode: 'batch', flags: ['--drop-privileges=false'] });
    const { nearDaemon } = lab;
    const { pid, privileges } = await nearDaemon.status();
    const own = (await tasksOf(process.pid))[0]?.permitted ?? 0n;
    for (const task of await tasksOf(pid))
      expect(task.permitted).toBe(isPacketThread(task) ? 0n : own);
    expect(privileges?.capabilities).toContain('SYS_ADMIN');
  });
});

it('as nobody with two ambient capabilities it runs as well', async () => {
  const user = ['--reuid=65534', '--regid=65534', '--clear-groups'];
  const sets = ['inh-caps', 'ambient-caps', 'bounding-set'].map(
    (name) => `--${name}=-all,+net_admin,+net_raw`,
  );
  lab = await TestLab.bare(2, { mode: 'offload' });
  const { near, far } = lab;
  await lab.attachContainer(await lab.startDaemon(far));
  // Of the /run that the stage has for itself; and a device node of its own, open to all.
  await run(['chown', '-R', '65534:65534', LAB_DIRECTORY]);
  const scene = 'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"';
  const own = ['unshare', '--mount', 'sh', '-c', scene, 'sh'];
  const command = [...own, 'setpriv', ...user, ...sets, ...COMMAND];
  try {
    const daemon = await lab.startDaemon(near, { command });
    await lab.attachContainer(daemon);
    await expectReduced(daemon, NET_ADMIN | NET_RAW);
    await expectTraffic(near, far);
  } finally {
    // Root without CAP_DAC_OVERRIDE, as the other daemons are, could not write there.
    await run(['chown', '-R', '0:0', LAB_DIRECTORY]);
  }
});

describe('the filter of the packet threads', () => {
  it('is not there with --disable=seccomp, and all else is the same', async () => {
    lab = await TestLab.setUp({ mode: 'offload', flags: ['--disable=seccomp'] });
    const { near, far, nearDaemon } = lab;
    expect(await featureOf(nearDaemon, 'seccomp')).toBe('disabled');
    const own = (await tasksOf(process.pid))[0]?.seccomp ?? 0;
    const tasks = await tasksOf((await nearDaemon.status()).pid);
    for (const task of tasks) expect(task.seccomp).toBe(own);
    await expectTraffic(near, far);
  });

  it('survives a stop and continue, which the kernel resumes by a call of its own', async () => {
    lab = await TestLab.setUp({ mode: 'offload' });
    const { near, far, nearDaemon } = lab;
    const { pid } = await nearDaemon.status();
    for (let turn = 0; turn < 3; turn += 1) {
      process.kill(pid, 'SIGSTOP');
      await waitFor('the stop', 5_000, async () => {
        const states = await Promise.all(
          (await readdir(`/proc/${pid}/task`)).map(async (task) =>
            field(
              (await readFile(`/proc/${pid}/task/${task}/status`, 'utf8')).replace(/ \(.*\)/, ''),
              'State',
            ),
          ),
        );
        return states.every((state) => state === 'T') ? true : undefined;
      });
      process.kill(pid, 'SIGCONT');
      await expectTraffic(near, far);
    }
    expect((await nearDaemon.status()).dataPlane).toMatchObject({ restarts: 0, error: null });
  });

  it.each([
    ['an old kernel, which has prctl(2) alone', ['seccomp=ENOSYS'], 'active'],
    ['a kernel without filters', ['seccomp=ENOSYS', 'prctl-seccomp=EINVAL'], 'refused'],
  ])('of %s', async (_what, rules, state) => {
    await buildRefuse();
    lab = await TestLab.bare(2, { mode: 'offload' });
    const { near, far } = lab;
    await lab.attachContainer(await lab.startDaemon(far));
    const daemon = await lab.startDaemon(near, { command: refusing(...rules) });
    await lab.attachContainer(daemon);
    expect(await featureOf(daemon, 'seccomp')).toBe(state);
    await expectTraffic(near, far);
    const packet = (await tasksOf((await daemon.status()).pid)).filter(isPacketThread);
    for (const task of packet) expect(task.permitted).toBe(0n);
  });
});

it('a password on the command line is gone from it, and from what the daemon starts', async () => {
  const secret = 'correct-horse-battery';
  lab = await TestLab.bare(1, { mode: 'batch' });
  const { near } = lab;
  const flags = ['--etcd-username=flannel', `--etcd-password=${secret}`, '--ip-masq'];
  const daemon = await lab.startDaemon(near, { flags });
  const { pid } = await daemon.status();
  expect(await wasBegunAnew(pid)).toBe(true);
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8');
  expect(commandLine.split('\0')).toContain('--etcd-username=flannel');
  expect(commandLine).not.toContain(secret);
  // The one that watches the firewall lives as long as the daemon.
  const children = await waitFor('a program that it started', 5_000, async () => {
    const [, ...found] = await treeOf(pid);
    return found.length > 0 ? found : undefined;
  });
  for (const child of children) {
    const environment = await readFile(`/proc/${child}/environ`, 'utf8');
    expect(environment).toContain('PATH=');
    expect(environment).not.toContain(secret);
  }
  expect(daemon.program.stderr).toContain('set FLANNELD_ETCD_PASSWORD instead');
  expect(daemon.program.stderr).not.toContain(secret);
  expect(JSON.stringify(await daemon.status())).not.toContain(secret);
});
