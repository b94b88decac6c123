/**
 * What an operator gets: the packed tarball, installed alone into an empty folder. Needs the registry,
 * a compiler and root, as the set-up of the tests does.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { lstat, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
/** Half of them are the addon's sources, two for each of its parts. */
const MAX_FILES = 260;
const MAX_INSTALLED_BYTES = 25 * 1_000_000;

const execute = promisify(execFile);
let folder: string;
let files: readonly string[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flannelette-package-'));
  const packed = await npm(['pack', '--ignore-scripts', '--json', ROOT]);
  const [{ filename, files: list }] = JSON.parse(packed) as [
    { filename: string; files: { path: string }[] },
  ];
  files = list.map(({ path }) => path);
  // Newer npm asks for consent before a package builds its addon; the operator gives it so.
  await writeFile(join(folder, 'package.json'), '{"allowScripts":{"flannelette":true}}');
  await npm(['install', '--omit=dev', '--no-audit', '--no-fund', `./${filename}`]);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function npm(argv: readonly string[]): Promise<string> {
  const env = { ...process.env, JOBS: 'max' };
  const { stdout } = await execute('npm', argv, { cwd: folder, env });
  return stdout;
}

function flannelette(...argv: readonly string[]) {
  const program = join(folder, 'node_modules', '.bin', 'flannelette');
  return execute(program, argv, { cwd: folder, timeout: 90_000, maxBuffer: 16 * 1024 * 1024 });
}

describe('the tarball', () => {
  it(`has at most ${MAX_FILES} files, none of the benchmarks or tests`, () => {
    expect(files.length).toBeGreaterThan(100);
    expect(files.length).toBeLessThanOrEqual(MAX_FILES);
    expect(files.filter((path) => /(^|\/)(bench|test)\//.test(path))).toEqual([]);
  });

  it(`installs at most ${MAX_INSTALLED_BYTES / 1e6} MB of dependencies`, async () => {
    const modules = join(folder, 'node_modules');
    let bytes = 0;
    for (const name of await readdir(modules, { recursive: true })) {
      if (name.startsWith('flannelette/')) continue;
      const found = await lstat(join(modules, name));
      if (found.isFile()) bytes += found.size;
    }
    expect(bytes).toBeGreaterThan(1_000_000);
    expect(bytes).toBeLessThanOrEqual(MAX_INSTALLED_BYTES);
  });

  it('has none of the packages that only the benchmarks use', () => {
    for (const name of ['echarts', 'zrender', 'koffi', 'commander', 'benchmark', 'zod', 'vitest']) {
      expect(existsSync(join(folder, 'node_modules', name))).toBe(false);
    }
  });
});

describe('the installed program', () => {
  it('prints its version', async () => {
    expect((await flannelette('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('probes the kernel', async () => {
    expect((await flannelette('probe')).stdout).toMatch(/^ {2}tun +\S/m);
  });

  it('runs the lab', async () => {
    const { stdout } = await flannelette('lab', '--json');
    expect(JSON.parse(stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({ ok: true });
  });

  it('traces a packet', async () => {
    const { stdout } = await flannelette('trace', '--json');
    const { ok, hops } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as {
      ok: boolean;
      hops: unknown[];
    };
    expect([ok, hops.length > 8]).toEqual([true, true]);
  });

  it('has the live page', async () => {
    const program = join(folder, 'node_modules', '.bin', 'flannelette');
    const lab = spawn(program, ['lab', '--web=0'], { cwd: folder });
    const ended = once(lab, 'close');
    try {
      const url = await new Promise<string>((found, failed) => {
        let said = '';
        const timer = setTimeout(failed, 60_000, new Error('no address within 60 s'));
        lab.stdout.on('data', (chunk: Buffer) => {
          said += chunk.toString();
          const address = /http:\/\/127\.0\.0\.1:\d+\//.exec(said)?.[0];
          if (address === undefined) return;
          clearTimeout(timer);
          found(address);
        });
      });
      const page = await fetch(url);
      expect([page.status, await page.text()]).toEqual([200, expect.stringContaining('<title>')]);
    } finally {
      lab.kill('SIGINT');
      await ended;
    }
  });

  it('says where the benchmarks are', async () => {
    const failed = flannelette('bench', 'modes', '--quick');
    await expect(failed).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^the benchmarks are not part .*a checkout.*\n$/) as string,
    });
  });
});
