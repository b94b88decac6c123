/** The project's source files, as git knows them: tracked, or new and not ignored. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { NEEDED, requireNode } from './node-version.mjs';

requireNode(NEEDED.test);

export const ROOT = resolve(import.meta.dirname, '..');

export function sourceFiles(...patterns) {
  const { stdout, status } = spawnSync(
    'git',
    // Also in a clone of another user.
    [
      '-c',
      'safe.directory=*',
      'ls-files',
      '--cached',
      '--others',
      '--exclude-standard',
      '--',
      ...patterns,
    ],
    { cwd: ROOT, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error('git ls-files failed: not a clone?');
  const files = stdout.split('\n').filter((file) => file !== '');
  return [...new Set(files)].filter((file) => existsSync(join(ROOT, file)));
}

export const CXX = ['*.cc', '*.h'];
export const SCRIPTS = ['*.ts', '*.js', '*.mjs', '*.cjs', '*.json', ':!package-lock.json'];
