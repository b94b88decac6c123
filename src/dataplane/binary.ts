/**
 * Which binary of the addon is loaded: the one built here, else the prebuilt one for this machine
 * (node-gyp-build's layout: build/Release, then prebuilds/linux-ARCH/flannelette.LIBC.node).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { requirePackage } from '../commonjs.js';
import { messageOf, systemError, type FlannelletteError } from '../errors.js';

export type Libc = 'glibc' | 'musl';

const BUILD =
  'with a C++20 compiler, make and python3: npm rebuild flannelette --build-from-source';

/** e_machine of the ELF header (elf.h), by Node's name of the architecture. */
const MACHINES: Readonly<Record<number, string>> = {
  3: 'ia32',
  22: 's390x',
  40: 'arm',
  62: 'x64',
  183: 'arm64',
  243: 'riscv64',
};
const ELF_MAGIC = 0x7f454c46;
const ELF_BIG_ENDIAN = 2;

/** The error of a binary that was found and not loaded: which it is, which is needed, and the remedy. */
export function cannotLoad(path: string, cause: unknown): FlannelletteError {
  const why = reason(path, cause);
  return systemError(`cannot load the native addon ${path}: ${why}; build it ${BUILD}`, { cause });
}

/** The folder of package.json and binding.gyp, above this file wherever it was bundled to. */
function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'binding.gyp'))) {
    const parent = dirname(directory);
    if (parent === directory)
      throw systemError('the native addon is missing: binding.gyp not found');
    directory = parent;
  }
  return directory;
}

/** Path of the binary for this machine. Throws a system error that names which there are. */
export function findBinary(): string {
  const root = packageRoot();
  // node-gyp-build takes every system but Alpine for one with glibc, and reads the variable as it loads.
  const told = process.env.LIBC;
  process.env.LIBC ??= runningLibc();
  try {
    return (requirePackage('node-gyp-build') as { resolve(root: string): string }).resolve(root);
  } catch (cause) {
    const found = prebuilt(root);
    const here = found.length === 0 ? 'none is there' : `there are ${found.join(', ')}`;
    throw systemError(
      `no binary of the native addon for ${process.arch}-${runningLibc()}: ${here}; build it ${BUILD}`,
      { cause },
    );
  } finally {
    if (told === undefined) delete process.env.LIBC;
  }
}

/** The prebuilt binaries that the package has, as ARCH-LIBC. */
function prebuilt(root: string): string[] {
  const folder = join(root, 'prebuilds');
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((platform) =>
    readdirSync(join(folder, platform))
      .map((file) => /^flannelette\.(\w+)\.node$/.exec(file)?.[1])
      .filter((libc) => libc !== undefined)
      .map((libc) => `${platform.replace('linux-', '')}-${libc}`),
  );
}

function reason(path: string, cause: unknown): string {
  const binary = describeBinary(readFileSync(path));
  if (binary === undefined) return 'it is not an ELF file';
  const libc = runningLibc();
  if (binary.arch !== process.arch || binary.libc !== libc) {
    return `it is for ${binary.arch}-${binary.libc}, this is ${process.arch}-${libc}`;
  }
  return messageOf(cause);
}

/** Architecture and C library that a binary was built for; undefined when it is no ELF file. */
export function describeBinary(file: Buffer): { arch: string; libc: Libc } | undefined {
  if (file.length < 20 || file.readUInt32BE(0) !== ELF_MAGIC) return undefined;
  const machine = file[5] === ELF_BIG_ENDIAN ? file.readUInt16BE(18) : file.readUInt16LE(18);
  return {
    arch: MACHINES[machine] ?? `ELF machine ${machine}`,
    libc: file.includes('libc.so.6\0') ? 'glibc' : 'musl',
  };
}

/** The C library this process runs with: where musl's loader is a link, it is mapped as `libc.so`. */
export function runningLibc(maps = readFileSync('/proc/self/maps', 'latin1')): Libc {
  return /\/(ld-musl-.*|libc\.musl-.*|libc\.so)$/m.test(maps) ? 'musl' : 'glibc';
}
