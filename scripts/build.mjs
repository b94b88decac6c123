/** TypeScript to `dist/`: the page of the lab for browsers, then everything else for Node. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const PAGE = join('src', 'lab', 'web', 'page');
/** Served as they are. */
const ASSETS = /\.(html|css|svg)$/;

rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
compile(join(PAGE, 'tsconfig.build.json'));
compile('tsconfig.build.json');
mkdirSync(join(ROOT, 'dist', PAGE), { recursive: true });
for (const file of readdirSync(join(ROOT, PAGE)).filter((name) => ASSETS.test(name))) {
  copyFileSync(join(ROOT, PAGE, file), join(ROOT, 'dist', PAGE, file));
}

function compile(project) {
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status } = spawnSync(process.execPath, [tsc, '-p', project], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}
