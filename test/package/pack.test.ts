/** `npm pack` in a clone in which nothing is built. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, rm, symlink, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..', '..');
/** What a clone has; empty where this is none. Also in a clone of another user. */
const LIST = 'git -c safe.directory=* ls-files -z --cached --others --exclude-standard'.split(' ');
const files = spawnSync(LIST[0] ?? '', LIST.slice(1), { cwd: ROOT, encoding: 'utf8' })
  .stdout.split('\0')
  .filter((file) => file !== '' && existsSync(join(ROOT, file)));
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flannelette-pack-'));
  for (const file of files) await cp(join(ROOT, file), join(folder, file));
  // The packages are there, so that none is fetched: they are newer than what locks them.
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  await utimes(join(folder, 'package-lock.json'), 0, 0);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it.skipIf(files.length === 0)(
  'packs the built program and the unit',
  { timeout: 300_000 },
  async () => {
    const { stdout } = await promisify(execFile)('npm', ['pack', '--json'], { cwd: folder });
    const [packed] = JSON.parse(stdout) as { files: { path: string }[] }[];
    const inside = packed?.files.map(({ path }) => path) ?? [];
    for (const file of [
      'dist/package/cli/main.js',
      'dist/package/index.js',
      'dist/src/index.d.ts',
      'dist/package/page/index.html',
      'deploy/flannelette.service',
      'binding.gyp',
      'native/binding/addon.cc',
    ]) {
      expect(inside).toContain(file);
    }
  },
);
