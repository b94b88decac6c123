/**
 * User-mode Linux with FOU (CONFIG_NET_FOU_IP_TUNNELS), which neither Debian's own nor its other kernels
 * have: built from Debian's package of Linux's source with a small configuration, some minutes, once.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = 'linux-source-6.1';
// No import.meta.dirname: set-up loads this, and has to tell a Node that is too old for it.
const CONFIG = fileURLToPath(new URL('../test/support/old-kernel/fou.config', import.meta.url));

/** Works in `folder`; a folder with bin/linux.uml in it. */
export function buildUmlWithFou(folder) {
  const run = (argv, options) => {
    const [file, ...args] = argv;
    const { status, stderr, error } = spawnSync(file, args, {
      cwd: folder,
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
      ...options,
    });
    if (status === 0) return;
    throw new Error(`${file} ${args[0]}: ${error?.message ?? stderr.trim().split('\n').at(-1)}`);
  };
  const tree = join(folder, SOURCE);
  const make = (...words) => {
    const jobs = `-j${availableParallelism()}`;
    const env = { ...process.env, KCONFIG_ALLCONFIG: CONFIG };
    run(['nice', 'make', 'ARCH=um', jobs, ...words], { cwd: tree, env });
  };
  run(['apt-get', 'download', SOURCE]);
  run(['sh', '-c', `dpkg-deb --fsys-tarfile ${SOURCE}_*.deb | tar -x ./usr/src/${SOURCE}.tar.xz`]);
  // Nothing of it is built; the configuration needs a file above its folders.
  const unused = `--exclude=${SOURCE}/Documentation/*/*`;
  run(['tar', '-x', unused, '-f', `usr/src/${SOURCE}.tar.xz`]);
  make('allnoconfig');
  make('linux');
  const out = join(folder, 'out');
  mkdirSync(join(out, 'bin'), { recursive: true });
  cpSync(join(tree, 'linux'), join(out, 'bin', 'linux.uml'));
  run(['strip', join(out, 'bin', 'linux.uml')]);
  return out;
}
