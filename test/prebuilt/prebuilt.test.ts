/**
 * Every prebuilt binary that can be run here is run (npm test -- --stage prebuilt): the tarball of a
 * release in the userlands of machines.ts, and the native unit tests for other byte orders and word sizes,
 * compiled by the compiler of the prebuilt binaries. Needs root, a mirror of Debian, npm and PyPI, and the
 * packages debootstrap and qemu-user-static; takes minutes.
 */
import { cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageVersion } from '../../src/daemon/version.js';
import { execute } from '../support/release.js';
import { CACHE } from '../../src/testbed/tools.js';
import { inRoot, MACHINES, rootOf } from './machines.js';

const ROOT = resolve(import.meta.dirname, '..', '..');
const PROGRAM = 'package/dist/package/cli/main.js';
const EMULATED = join(import.meta.dirname, 'emulated.sh');
const MINUTE = 60_000;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flannelette-prebuilt-'));
  const argv = [join(ROOT, 'scripts', 'release.mjs'), `--output=${join(folder, 'release')}`];
  await execute(process.execPath, argv, { cwd: ROOT });
  const tarball = join(folder, 'release', `flannelette-${packageVersion()}.tgz`);
  await execute('tar', ['--extract', `--file=${tarball}`, `--directory=${folder}`]);
}, 30 * MINUTE);
afterAll(() => rm(folder, { recursive: true, force: true }));

describe.each([...MACHINES])('$arch-$libc', (machine) => {
  let root: string;
  const run = async (...argv: string[]) => {
    const [file = '', ...words] = inRoot(root, machine, argv);
    const env = { PATH: process.env.PATH };
    return (await execute(file, words, { env, timeout: 2 * MINUTE })).stdout;
  };

  beforeAll(async () => {
    root = await rootOf(machine);
    await rm(join(root, 'package'), { recursive: true, force: true });
    await cp(join(folder, 'package'), join(root, 'package'), { recursive: true });
  }, 10 * MINUTE);

  it('loads its binary, and tries the kernel with it', { timeout: 5 * MINUTE }, async () => {
    const libc = "process.report.getReport().header.glibcVersionRuntime ? 'glibc' : 'musl'";
    expect(await run('-p', `process.arch + '-' + (${libc})`)).toBe(
      `${machine.arch}-${machine.libc}\n`,
    );
    expect(await run(PROGRAM, '--version')).toBe(`${packageVersion()}\n`);
    const { features } = JSON.parse(await run(PROGRAM, 'probe', '--json')) as {
      features: { name: string; state: string }[];
    };
    const states = Object.fromEntries(features.map(({ name, state }) => [name, state]));
    expect(states).toMatchObject({ tun: 'yes', 'udp-gso': 'yes', mmsg: 'yes' });
  });

  // musl's Node finds no loader outside its root, and qemu 7.2 does not translate an MTU for s390x.
  const withLab = machine.libc === 'glibc' && machine.arch !== 's390x';
  it.runIf(withLab)('carries the traffic of the lab', { timeout: 5 * MINUTE }, async () => {
    const emulator = machine.arch === process.arch ? [] : ['bash', EMULATED];
    const lab = [join(folder, PROGRAM), 'lab', '--seconds=2', '--json'];
    const [file = '', ...words] = [...emulator, join(root, 'node', 'bin', 'node'), ...lab];
    const env = { PATH: process.env.PATH, QEMU_LD_PREFIX: root };
    // It fails where a daemon takes more than 5 s to start, as under an emulator.
    const { stdout } = await execute(file, words, { env, maxBuffer: 1 << 26 }).catch(
      (error: unknown) => error as { readonly stdout: string },
    );
    const { checks } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as {
      checks: { name: string; ok: boolean; detail: string }[];
    };
    expect(checks.length).toBeGreaterThan(9);
    for (const { name, ok, detail } of checks) {
      const late = emulator.length > 0 && /^after [\d.]+ s, expected at most 5 s$/.test(detail);
      expect([name, ok || late, detail]).toEqual([name, true, detail]);
    }
  });
});

/**
 * Linked against musl without a loader, so that they need no root; x86 for 32-bit words. qemu lets a load
 * pass a store-release before it on arm64 (stlr, then ldar), which the architecture forbids and Published
 * rests on: its tests fail there now and then, and three lines of std::atomic do.
 */
const UNITS: readonly { zig: string; machine?: string; without?: readonly string[] }[] = [
  {
    machine: 'aarch64',
    zig: 'aarch64-linux-musl',
    without: ['readers under a publisher*', 'lookups in a forwarding table that changes*'],
  },
  { machine: 's390x', zig: 's390x-linux-musl' },
  // An x64 machine runs it itself.
  ...(process.arch === 'x64' ? [{ zig: 'x86-linux-musl' }] : []),
];

/**
 * qemu's user mode keeps the C library's own signals for itself (the daemon begins anew there), knows
 * SO_ATTACH_FILTER but not SO_DETACH_FILTER, and has in /proc/self/smaps its own addresses, not the guest's.
 */
const NOT_EMULATED = [
  'Every thread loses what is not kept*',
  'The signals are as they were afterwards',
  'the kernel refuses by it before*',
  'a file that was mapped for another reason*',
];

describe.each(UNITS)('the native tests for $zig', ({ machine, zig, without }) => {
  it('pass', { timeout: 30 * MINUTE }, async () => {
    const program = join(folder, `tests-${zig}`);
    const include = join(folder, 'include');
    await mkdir(include, { recursive: true });
    await cp('/usr/include/doctest', join(include, 'doctest'), { recursive: true });
    const flags = ['-target', zig, '-std=c++20', '-O1', '-Inative', '-Itest/native'];
    const sources = await Promise.all(
      ['native/core', 'native/sys', 'native/engine', 'test/native'].map(sourcesIn),
    );
    const file = await compiler();
    const compile = (...argv: string[]) =>
      execute(file, ['c++', ...flags, ...argv], { cwd: ROOT, maxBuffer: 1 << 26 });
    const waiting = [...sources.flat().entries()];
    const objects = waiting.map(([index]) => `${program}-${index}.o`);
    const worker = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [index, source] = next;
        await compile('-isystem', include, '-c', source, '-o', objects[index] ?? '');
      }
    };
    await Promise.all(Array.from({ length: availableParallelism() }, worker));
    await compile('-static', ...objects, '-o', program);
    const emulator = machine === undefined ? [] : [`qemu-${machine}-static`];
    const excluded = [...(without ?? []), ...(machine === undefined ? [] : NOT_EMULATED)];
    const filter = excluded.length === 0 ? [] : [`--test-case-exclude=${excluded.join(',')}`];
    const [runner = '', ...words] = [...emulator, program, ...filter];
    const { stdout } = await execute(runner, words, { timeout: 5 * MINUTE, maxBuffer: 1 << 26 });
    expect(stdout).toMatch(/test cases: +\d{3} \| +\d{3} passed \| +0 failed/);
  });
});

async function sourcesIn(directory: string): Promise<string[]> {
  const names = await readdir(join(ROOT, directory));
  return names.filter((name) => name.endsWith('.cc')).map((name) => join(directory, name));
}

/** In the cache of scripts/prebuild.mjs; the newest of several. */
async function compiler(): Promise<string> {
  const versions = (await readdir(CACHE)).filter((name) => name.startsWith('ziglang-')).sort();
  return join(CACHE, versions.at(-1) ?? 'ziglang', 'ziglang', 'zig');
}
