/** `flannelette lab` as a user runs it: its result, its end by kill -9, and without root. */
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Program, run, waitFor } from '../../src/testbed/programs.js';
import { buildSwitch, removeSwitch } from '../../src/testbed/topology.js';
import { COMMAND, machine, processesWith, requireIsolation, ROOT } from '../support/test-lab.js';

beforeAll(async () => {
  await requireIsolation();
  await buildSwitch();
});
afterAll(() => removeSwitch());

const LAB = [...COMMAND, 'lab', '--json', '--seconds=1'];

describe('with root', () => {
  it.each([
    ['basic', 'file'],
    ['batch', 'etcd'],
  ])('passes and says so in one line of JSON, mode %s, store %s', async (mode, store) => {
    const mark = `FLANNELETTE_TEST_MARK=whole-${store}-${process.pid}`;
    const before = await machine();
    const argv = ['env', mark, ...LAB, `--mode=${mode}`, `--store=${store}`];
    const result = await runLab(argv);
    expect(result).toMatchObject({
      ok: true,
      mode,
      store: { kind: store },
      ping: { sent: 40, received: 40, avgMs: expect.any(Number) as number },
      tcp: {
        forwardGbps: expect.any(Number) as number,
        reverseGbps: expect.any(Number) as number,
      },
      udp: { receivedPps: expect.any(Number) as number },
      captureOk: true,
      routesOk: true,
    });
    expectThirdHost(result);
    if (store === 'etcd') expectFlannelsKeys(result);
    else expect(result.store.etcd).toBeUndefined();
    expect(await machine()).toEqual(before);
    expect(await processesWith(mark)).toEqual([]);
  });

  it('needs etcd for --store=etcd only, and says so before anything is built', async () => {
    const { stdout: etcd } = await run(['sh', '-c', 'command -v etcd']);
    // No more a program that can be run than one that is not there.
    const hide = `mount --bind /dev/null ${etcd.trim()} && exec "$@"`;
    const without = ['unshare', '--mount', 'sh', '-c', hide, 'sh'];
    const refused = await run([...without, ...LAB, '--store=etcd'], { accept: [1] });
    expect(refused.stdout).toBe('');
    expect(refused.stderr.trim()).toBe(
      'the lab needs programs that are not installed: etcd (Debian package etcd-server)',
    );
    expect(await runLab([...without, ...LAB])).toMatchObject({ ok: true, store: { kind: 'file' } });
  });

  it('refuses a store that it does not have', async () => {
    const { stderr } = await run([...COMMAND, 'lab', '--store=kube'], { accept: [2] });
    expect(stderr).toContain('--store: "kube" is not valid: expected file or etcd');
  });

  it('leaves the lab up with --keep, says how to enter it, and ends when asked', async () => {
    const lab = new Program([...COMMAND, 'lab', '--seconds=1', '--store=etcd', '--keep']);
    try {
      const enter = await waitFor('the explanation', 50_000, () => {
        const into = (name: string): string | undefined =>
          new RegExp(`^ +(nsenter .*/netns/${name}) bash$`, 'm').exec(lab.stderr)?.[1];
        const [container, host] = [into('container-3'), into('host-3')];
        return container === undefined || host === undefined ? undefined : { container, host };
      });
      const pings = ['ping', '-c', '1', '-W', '2', '100.96.1.2'];
      const { stdout: answer } = await run([...enter.container.split(' '), ...pings]);
      expect(answer).toContain('1 received');
      const { stdout: routes } = await run([...enter.host.split(' '), 'ip', 'route']);
      expect(routes).toContain('100.96.0.0/16 dev flannel0 scope link');
      lab.kill('SIGINT');
      expect(await lab.ended).toBe(0);
      expect(lab.stdout).toContain('The lab passed; nothing of it is left behind.');
    } finally {
      lab.kill('SIGKILL');
    }
  });

  it.each([
    ['outer', 'file'],
    ['unshare', 'file'],
    ['inner', 'etcd'],
  ])('leaves nothing after kill -9 of %s, store %s', async (victim, store) => {
    const mark = `FLANNELETTE_TEST_MARK=${victim}-${process.pid}`;
    const lab = new Program(['env', mark, ...LAB, '--seconds=30', `--store=${store}`]);
    try {
      const chain = await waitFor('the whole lab', 20_000, async () => {
        const marked = await processesWith(mark);
        const names = marked.map(({ argv }) => argv.join(' '));
        return names.some((name) => name.includes('iperf3 -J')) ? marked : undefined;
      });
      expect(chain.some(({ argv }) => argv[0] === 'etcd')).toBe(store === 'etcd');
      const pid = {
        outer: lab.pid,
        unshare: chain.find(({ argv }) => argv[0] === 'unshare')?.pid,
        inner: chain.find(({ argv }) => argv.includes('--isolated') && argv[0] !== 'unshare')?.pid,
      }[victim];
      if (pid === undefined) throw new Error(`${victim} was not found`);
      process.kill(pid, 'SIGKILL');
      await lab.ended;
      await waitFor('the end of every process', 5_000, async () =>
        (await processesWith(mark)).length === 0 ? true : undefined,
      );
    } finally {
      lab.kill('SIGKILL');
    }
  });
});

describe('without root', () => {
  const project = '/mnt/project';
  const user = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
  // Whoever runs the tests may have a folder for temporary files, and a umask, that are for him alone.
  const nobody = [...user, 'env', '--unset=TMPDIR'];
  /** A /dev/net of its own, in a mount namespace of its own. */
  const withTun = (mode: string, argv: readonly string[]): string[] => [
    ...['unshare', '--mount', 'sh', '-c'],
    `umask 022 && mount -t tmpfs none /dev/net && mknod /dev/net/tun c 10 200 && chmod ${mode} /dev/net/tun && exec "$@"`,
    ...['sh', ...nobody, ...argv],
  ];
  const lab = ['/mnt/node', join(project, 'dist', 'src', 'cli', 'main.js'), ...LAB.slice(2)];

  beforeAll(async () => {
    // Where another user can read it, wherever this clone is; the lab hides what is in /run.
    await run(['mount', '-t', 'tmpfs', 'project', '/mnt']);
    await mkdir(project);
    for (const part of ['dist', 'build', 'node_modules', 'package.json', 'binding.gyp']) {
      await cp(join(ROOT, part), join(project, part), { recursive: true });
    }
    await cp(process.execPath, '/mnt/node');
    await run(['chmod', '-R', 'a+rX', '/mnt']);
  });
  afterAll(() => run(['umount', '/mnt']));

  it.each(['file', 'etcd'])(
    'passes through a user namespace where /dev/net/tun allows, store %s',
    async (store) => {
      const argv = withTun('0666', [...lab, `--store=${store}`]);
      expect(await runLab(argv)).toMatchObject({ ok: true, captureOk: true });
    },
  );

  it('says plainly why when /dev/net/tun does not allow', async () => {
    const { stderr, stdout } = await run(withTun('0600', lab), { accept: [1] });
    expect(stdout).toBe('');
    expect(stderr).toMatch(/\/dev\/net\/tun: EACCES; its mode is 600, owner 0, .*user 65534/);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  it('says plainly why when there is no /dev/net/tun', async () => {
    const scene = 'mount -t tmpfs none /dev/net && exec "$@"';
    const argv = ['unshare', '--mount', 'sh', '-c', scene, 'sh', ...nobody, ...lab];
    const { stderr } = await run(argv, { accept: [1] });
    expect(stderr).toMatch(/\/dev\/net\/tun, which does not exist/);
  });
});

/** What the tests read of the JSON. */
interface LabJson {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean }[];
  readonly store: { readonly etcd?: { readonly entries: readonly unknown[] } };
  readonly udp: {
    readonly sentPackets: number;
    readonly arrivedPackets: number;
    readonly receivedPackets: number;
  };
  readonly hops: readonly {
    readonly where: string;
    readonly device: string;
    readonly forward: number;
    readonly forwardPasses: number | null;
  }[];
  readonly thirdHost: {
    readonly joinSeconds: number;
    readonly leaveSeconds: number;
    readonly returnSeconds: number;
    readonly pingMeanwhile: { readonly sent: number; readonly received: number };
  };
}

/** The JSON of a lab whose checks passed; the failure names those that did not. */
async function runLab(argv: readonly string[]): Promise<LabJson> {
  const { stdout } = await run(argv, { timeoutMs: 60_000, accept: [0, 1] });
  const result = JSON.parse(stdout) as LabJson;
  expect(result.checks.filter(({ ok }) => !ok)).toEqual([]);
  expectPackets(result);
  return result;
}

/** Behind a daemon every hop has the packets that it counted, in trains or one by one. */
function expectPackets({ hops, udp }: LabJson): void {
  const daemonOf = (host: string): number =>
    hops.find(({ where, device }) => where === host && device === 'daemon')?.forward ?? NaN;
  const behind = (host: string, ...places: readonly string[]): void => {
    for (const place of places) {
      const hop = hops.find(({ where, device }) => `${where} ${device}` === place);
      const wrong = Math.abs((hop?.forward ?? NaN) - daemonOf(host));
      expect(wrong, `${place}: ${JSON.stringify(hops)}`).toBeLessThan(100 + daemonOf(host) / 100);
      expect(hop?.forwardPasses).toBeLessThanOrEqual(hop?.forward ?? NaN);
    }
  };
  behind('host-1', 'host-1 flannel0', 'host-1 eth0');
  behind('host-2', 'host-2 flannel0', 'host-2 docker0', 'container-2 eth0');
  expect(udp.sentPackets).toBeGreaterThanOrEqual(udp.arrivedPackets);
  expect(udp.arrivedPackets).toBeGreaterThanOrEqual(udp.receivedPackets);
  expect(udp.arrivedPackets).toBeLessThanOrEqual(daemonOf('host-2'));
}

function expectThirdHost({ thirdHost, checks }: LabJson): void {
  const { joinSeconds, leaveSeconds, returnSeconds, pingMeanwhile } = thirdHost;
  for (const seconds of [joinSeconds, leaveSeconds, returnSeconds]) {
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(5);
  }
  expect(pingMeanwhile.sent).toBeGreaterThan(40);
  expect(pingMeanwhile.received).toBe(pingMeanwhile.sent);
  const names = checks.map(({ name }) => name);
  expect(names).toContain('a third host joins and is reached, both ways');
  expect(names).toContain('it leaves: Destination Net Unreachable');
  expect(names).toContain('it comes back and is reached, both ways');
}

function expectFlannelsKeys({ store }: LabJson): void {
  const lease = (subnet: number, host: number): object => ({
    key: `/coreos.com/network/subnets/100.96.${subnet}.0-24`,
    value: `{"PublicIP":"10.168.0.${host}","PublicIPv6":null}`,
    leaseSeconds: 86_400,
  });
  expect(store.etcd?.entries).toEqual([
    {
      key: '/coreos.com/network/config',
      value: '{"Network":"100.96.0.0/16","Backend":{"Type":"udp","Port":8285}}',
      leaseSeconds: null,
    },
    ...[lease(1, 2), lease(2, 3), lease(3, 4)],
  ]);
}
