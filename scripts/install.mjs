/**
 * npm's `install` of this package: nothing to do when the prebuilt binary for this machine loads, which
 * needs neither a compiler nor the network; else, or when told --build-from-source, compiles the addon.
 * Uses Node's built-ins only.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const { bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const program = join(ROOT, bin.flannelette);
const fromSource = !['', 'false', undefined].includes(process.env.npm_config_build_from_source);

// A checkout has neither a program nor prebuilt binaries yet.
const failure = fromSource || !existsSync(program) ? '' : prebuiltFails();
if (failure !== undefined) compile(failure);

/** Why the package's binary cannot be used, undefined when it can; also says what the kernel lacks. */
function prebuiltFails() {
  const { stdout, stderr } = spawnSync(process.execPath, [program, 'probe', '--json'], {
    encoding: 'utf8',
  });
  try {
    const { features, reason } = JSON.parse(stdout);
    if (features.some(({ name, state }) => name === 'tun' && state === 'no')) {
      process.stderr.write(`flannelette: installed, but no daemon can run here: ${reason}\n`);
    }
    return undefined;
  } catch {
    return stderr.trim().split('\n').at(-1) || 'the program cannot be run';
  }
}

function compile(why) {
  const missing = ['c++', 'make', 'python3'].find((name) => !onPath(name));
  if (missing !== undefined) {
    const cause = why === '' ? 'the addon has to be compiled' : why;
    process.stderr.write(`flannelette: ${cause} (${missing} is not on this machine)\n`);
    process.exit(1);
  }
  const { status } = spawnSync('node-gyp', ['rebuild'], {
    cwd: ROOT,
    stdio: 'inherit',
    shell: true,
  });
  process.exit(status ?? 1);
}

function onPath(name) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)));
}
