/** `npm pack` in a clone in which nothing is built. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, rm, symlink, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..', '..');
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flannelette-pack-'));
  const listed = spawnSync(
    'git',
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    {
      cwd: ROOT,
      encoding: 'utf8',
    },
  );
  const files = listed.stdout.split('\0').filter((file) => existsSync(join(ROOT, file)));
  for (const file of files) if (file !== '') await cp(join(ROOT, file), join(folder, file));
  // The packages are there, so that none is fetched: they are newer than what locks them.
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  await utimes(join(folder, 'package-lock.json'), 0, 0);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('packs the built program and the unit', { timeout: 300_000 }, async () => {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--json'], { cwd: folder });
  const [packed] = JSON.parse(stdout) as { files: { path: string }[] }[];
  const files = packed?.files.map(({ path }) => path) ?? [];
  for (const file of [
    'dist/src/cli/main.js',
    'dist/src/index.js',
    'dist/src/index.d.ts',
    'dist/src/lab/web/page/index.html',
    'deploy/flannelette.service',
    'binding.gyp',
    'native/binding/addon.cc',
  ]) {
    expect(files).toContain(file);
  }
});
