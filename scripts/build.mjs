/**
 * TypeScript to `dist/`: the page of the lab for browsers, then everything else for Node; from that the
 * package's program (bundle.mjs). Declarations stay where an entry point of the package needs them.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const PAGE = join('src', 'lab', 'page');
/** Served as they are. */
const ASSETS = /\.(html|css|svg)$/;

rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
compile(join(PAGE, 'tsconfig.build.json'));
compile('tsconfig.build.json');
mkdirSync(join(ROOT, 'dist', PAGE), { recursive: true });
for (const file of readdirSync(join(ROOT, PAGE)).filter((name) => ASSETS.test(name))) {
  copyFileSync(join(ROOT, PAGE, file), join(ROOT, 'dist', PAGE, file));
}

await bundle();
dropDeclarations(Object.values(packageExports()).map(({ types }) => join(ROOT, types)));

function packageExports() {
  return JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).exports;
}

/** Removes every declaration that the entry points do not reach. */
function dropDeclarations(entryPoints) {
  const needed = new Set();
  const reach = (file) => {
    if (needed.has(file)) return;
    needed.add(file);
    for (const [, path] of readFileSync(file, 'utf8').matchAll(
      /(?:from|import\()\s*'(\.[^']+)'/g,
    )) {
      reach(join(dirname(file), path.replace(/\.js$/, '.d.ts')));
    }
  };
  entryPoints.forEach(reach);
  for (const name of readdirSync(join(ROOT, 'dist'), { recursive: true })) {
    const file = join(ROOT, 'dist', name);
    if (file.endsWith('.d.ts') && !needed.has(file)) rmSync(file);
  }
}

function compile(project) {
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status } = spawnSync(process.execPath, [tsc, '-p', project], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}
