/** Formats everything in place: `npm run format`. */
import { spawnSync } from 'node:child_process';
import { CXX, ROOT, SCRIPTS, sourceFiles } from './files.mjs';

const commands = [
  ['./node_modules/.bin/prettier', '--write', '--log-level=warn', ...sourceFiles(...SCRIPTS)],
  ['clang-format-14', '-i', ...sourceFiles(...CXX)],
];
for (const [file, ...args] of commands) {
  const { status } = spawnSync(file, args, { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) process.exitCode = 1;
}
