/** `flannelette lab` as a user runs it: its result, its end by kill -9, and without root. */
import { cp, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Program, run, waitFor } from '../../src/lab/commands.js';
import { removeSwitch, buildSwitch } from '../../src/lab/topology.js';
import { COMMAND, requireIsolation, ROOT } from '../support/test-lab.js';

beforeAll(async () => {
  await requireIsolation();
  await buildSwitch();
});
afterAll(() => removeSwitch());

const LAB = [...COMMAND, 'lab', '--json', '--seconds=1'];

describe('with root', () => {
  it.each(['basic', 'batch'])('passes and says so in one line of JSON, mode %s', async (mode) => {
    const { stdout } = await run([...LAB, `--mode=${mode}`], { timeoutMs: 60_000 });
    const result = JSON.parse(stdout) as Record<string, unknown>;
    expect(result).toMatchObject({
      ok: true,
      mode,
      ping: { sent: 40, received: 40, avgMs: expect.any(Number) as number },
      tcp: {
        forwardGbps: expect.any(Number) as number,
        reverseGbps: expect.any(Number) as number,
      },
      udp: { receivedPps: expect.any(Number) as number },
      captureOk: true,
      routesOk: true,
    });
  });

  it.each(['outer', 'unshare', 'inner'])('leaves nothing after kill -9 of %s', async (victim) => {
    const mark = `FLANNELETTE_TEST_MARK=${victim}-${process.pid}`;
    const lab = new Program(['env', mark, ...LAB, '--seconds=30']);
    try {
      const chain = await waitFor('the whole lab', 20_000, async () => {
        const marked = await processesWith(mark);
        const names = marked.map(({ argv }) => argv.join(' '));
        return names.some((name) => name.includes('iperf3 -J')) ? marked : undefined;
      });
      const pid = {
        outer: lab.pid,
        unshare: chain.find(({ argv }) => argv[0] === 'unshare')?.pid,
        inner: chain.find(({ argv }) => argv.includes('--inside') && argv[0] !== 'unshare')?.pid,
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
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
  /** A /dev/net of its own, in a mount namespace of its own. */
  const withTun = (mode: string, argv: readonly string[]): string[] => [
    ...['unshare', '--mount', 'sh', '-c'],
    `mount -t tmpfs none /dev/net && mknod /dev/net/tun c 10 200 && chmod ${mode} /dev/net/tun && exec "$@"`,
    ...['sh', ...nobody, ...argv],
  ];
  const lab = [process.execPath, join(project, 'dist', 'src', 'cli', 'main.js'), ...LAB.slice(2)];

  beforeAll(async () => {
    // Where another user can read it, wherever this clone is; the lab hides what is in /run.
    await run(['mount', '-t', 'tmpfs', 'project', '/mnt']);
    await mkdir(project);
    for (const part of ['dist', 'build', 'node_modules', 'package.json', 'binding.gyp']) {
      await cp(join(ROOT, part), join(project, part), { recursive: true });
    }
    await run(['chmod', '-R', 'a+rX', '/mnt']);
  });
  afterAll(() => run(['umount', '/mnt']));

  it('passes through a user namespace where /dev/net/tun allows', async () => {
    const { stdout } = await run(withTun('0666', lab), { timeoutMs: 60_000 });
    expect(JSON.parse(stdout)).toMatchObject({ ok: true, captureOk: true });
  });

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

/** Processes whose environment holds `mark`; a dead one's environment is empty. */
async function processesWith(mark: string): Promise<{ pid: number; argv: string[] }[]> {
  const found: { pid: number; argv: string[] }[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const read = (file: string): Promise<string[]> =>
      readFile(`/proc/${name}/${file}`, 'utf8').then(
        (text) => text.split('\0'),
        () => [],
      );
    if ((await read('environ')).includes(mark)) {
      found.push({ pid: Number(name), argv: await read('cmdline') });
    }
  }
  return found;
}
