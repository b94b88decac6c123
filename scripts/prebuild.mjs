/**
 * Builds the addon for every machine it promises to run on, with one cross compiler, into the layout
 * that node-gyp-build reads: prebuilds/linux-ARCH/flannelette.LIBC.node.
 *
 *   npm run prebuild [-- [--if-older] [TARGET ...]]
 *
 *   TARGET      ARCH-LIBC, such as x64-glibc; all of them by default
 *   --if-older  only those that are missing or older than their sources
 *
 * The compiler is zig's C++ (clang and libc++) from the PyPI package ziglang: it alone targets an old
 * glibc and musl by a flag and brings their headers, so one package makes what would else take eight
 * sysroots. It is kept in the user's cache. Each binary is checked before it takes its place: machine,
 * libraries, and no symbol that is newer than the glibc promised.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { homedir, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CACHE } from './cache.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const ZIG_VERSION = '0.17.1';
/** RHEL 8 and Debian 10: the oldest userland on which Node 20's own binaries run. */
const GLIBC = '2.28';

/** Node's name of an architecture, zig's name of it, and the machine in the ELF header (readelf). */
const ARCHITECTURES = {
  x64: { zig: 'x86_64', machine: 'Advanced Micro Devices X86-64' },
  arm64: { zig: 'aarch64', machine: 'AArch64' },
  riscv64: { zig: 'riscv64', machine: 'RISC-V' },
  s390x: { zig: 's390x', machine: 'IBM S/390' },
};
const LIBCS = { glibc: `gnu.${GLIBC}`, musl: 'musl' };

const LAYERS = ['core', 'sys', 'engine', 'binding'];
/** As in binding.gyp. */
const DEFINES = [
  'NAPI_VERSION=9',
  'NAPI_DISABLE_CPP_EXCEPTIONS',
  'NODE_ADDON_API_DISABLE_DEPRECATED',
  'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
  'NODE_GYP_MODULE_NAME=flannelette',
  'BUILDING_NODE_EXTENSION',
];
/** What a binary may need of the machine. */
const LIBRARIES =
  /^(libc|libm|libdl|librt|libpthread)\.so(\.\d+)?$|^ld(-linux.*|64|-musl.*)?\.so(\.\d+)?$/;

const known = Object.keys(ARCHITECTURES).flatMap((arch) =>
  Object.keys(LIBCS).map((libc) => `${arch}-${libc}`),
);
const words = process.argv.slice(2);
const named = words.filter((word) => word !== '--if-older');
const chosen = named.length > 0 ? named : known;
const unknown = chosen.find((target) => !known.includes(target));
if (unknown !== undefined) {
  fail(`target "${unknown}" is not known: expected ${known.join(', ')}`, 2);
}

const wanted = words.includes('--if-older') ? chosen.filter(isOlder) : chosen;
const zig = wanted.length > 0 ? compiler() : [];
const headers = wanted.length > 0 ? nodeHeaders() : '';
for (const target of wanted) {
  const [arch, libc] = target.split('-');
  const path = build(arch, libc);
  console.log(`${path}  ${(statSync(join(ROOT, path)).size / 1024).toFixed(0)} KiB`);
}

function build(arch, libc) {
  const path = binaryPath(arch, libc);
  const folder = dirname(path);
  mkdirSync(join(ROOT, folder), { recursive: true });
  const work = mkdtempSync(join(tmpdir(), 'flannelette-prebuild-'));
  try {
    const output = join(work, 'flannelette.node');
    run([...zig, 'c++', ...flags(arch, libc), '-o', output, ...sources()]);
    check(output, arch, libc);
    // Beside its place first: the temporary folder may be another file system.
    const partial = join(ROOT, folder, `.flannelette.${libc}.${process.pid}`);
    run(['cp', output, partial]);
    renameSync(partial, join(ROOT, path));
    return path;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** In node-gyp-build's layout. */
function binaryPath(arch, libc) {
  return join('prebuilds', `linux-${arch}`, `flannelette.${libc}.node`);
}

function isOlder(target) {
  const [arch, libc] = target.split('-');
  const path = join(ROOT, binaryPath(arch, libc));
  if (!existsSync(path)) return true;
  const native = readdirSync(join(ROOT, 'native'), { recursive: true });
  const inputs = [...native.map((name) => join('native', name)), 'scripts/prebuild.mjs'];
  const made = statSync(path).mtimeMs;
  return inputs.some((name) => statSync(join(ROOT, name)).mtimeMs > made);
}

function flags(arch, libc) {
  return [
    ...['-target', `${ARCHITECTURES[arch].zig}-linux-${LIBCS[libc]}`],
    ...['-std=c++20', '-O2', '-fPIC', '-shared', '-s', '-fno-exceptions', '-fvisibility=hidden'],
    ...['-Wall', '-Wextra', '-Werror', '-Wl,-z,now', '-Wl,-z,relro', '-Wl,-z,nodelete'],
    // musl's CMSG_NXTHDR compares a signed with an unsigned length.
    ...(libc === 'musl' ? ['-Wno-sign-compare'] : []),
    ...DEFINES.map((define) => `-D${define}`),
    ...['-Inative', '-isystem', nodeAddonApi(), '-isystem', headers],
  ];
}

function sources() {
  return LAYERS.flatMap((layer) =>
    readdirSync(join(ROOT, 'native', layer))
      .filter((file) => file.endsWith('.cc'))
      .sort()
      .map((file) => join('native', layer, file)),
  );
}

/** Exits when the binary needs what the promised machine does not have. */
function check(file, arch, libc) {
  const elf = run(['readelf', '--wide', '--file-header', '--dynamic', '--version-info', file]);
  const machine = /Machine:\s*(.*)/.exec(elf)?.[1];
  const expected = ARCHITECTURES[arch].machine;
  if (machine !== expected) fail(`${arch}-${libc}: machine is ${machine}, expected ${expected}`);
  const needed = [...elf.matchAll(/\(NEEDED\)\s+Shared library: \[(.*)\]/g)].map(
    ([, name]) => name,
  );
  const foreign = needed.find((name) => !LIBRARIES.test(name));
  if (needed.length === 0 || foreign !== undefined) {
    fail(`${arch}-${libc}: needs the libraries ${needed.join(', ')}, expected libc's own only`);
  }
  const versions = [...elf.matchAll(/Name: GLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [
    +major,
    +minor,
  ]);
  if (libc === 'glibc' && versions.length === 0) fail(`${arch}-${libc}: no version of glibc in it`);
  if (libc === 'musl' && versions.length > 0) fail(`${arch}-${libc}: needs symbols of glibc`);
  const [, limit] = GLIBC.split('.').map(Number);
  const newer = versions.find(([major, minor]) => major > 2 || minor > limit);
  if (newer !== undefined)
    fail(`${arch}-${libc}: needs glibc ${newer.join('.')}, promised is ${GLIBC}`);
  const symbols = run(['readelf', '--wide', '--dyn-syms', file]);
  if (!/\bnapi_register_module_v1$/m.test(symbols)) fail(`${arch}-${libc}: registers no module`);
  if (libc === 'musl') {
    // Each of libc's symbols is unversioned here: what Node itself provides is all the rest.
    const gnu = /\bUND\s+(__\w+_chk|__cxa_thread_atexit_impl|gnu_\w+)/.exec(symbols);
    if (gnu !== null) fail(`${arch}-${libc}: needs ${gnu[1]} of glibc`);
  }
}

/** The command of zig, fetched by pip when it is not in the cache. */
function compiler() {
  const folder = join(CACHE, `ziglang-${ZIG_VERSION}`);
  const zig = join(folder, 'ziglang', 'zig');
  if (!existsSync(zig)) {
    mkdirSync(CACHE, { recursive: true });
    const partial = mkdtempSync(join(CACHE, '.ziglang-'));
    process.stderr.write(`prebuild: fetching ziglang ${ZIG_VERSION} ...\n`);
    const pip = ['python3', '-m', 'pip', 'install', '--quiet', '--target', partial];
    run([...pip, `ziglang==${ZIG_VERSION}`]);
    rmSync(folder, { recursive: true, force: true });
    renameSync(partial, folder);
  }
  return [zig];
}

/** Node's headers beside the running node, or those that node-gyp keeps. */
function nodeHeaders() {
  const gypCache = join(homedir(), '.cache', 'node-gyp', process.versions.node, 'include', 'node');
  const places = [resolve(dirname(process.execPath), '..', 'include', 'node'), gypCache];
  const found = places.find((place) => existsSync(join(place, 'node_api.h')));
  return found ?? fail(`node_api.h is missing: expected in ${places.join(' or ')}`);
}

function nodeAddonApi() {
  return dirname(createRequire(import.meta.url).resolve('node-addon-api'));
}

function run([file, ...argv]) {
  const result = spawnSync(file, argv, {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (result.status === 0) return result.stdout;
  return fail(`${file} failed:\n${result.error?.message ?? result.stderr.slice(-8_000)}`);
}

function fail(why, code = 1) {
  process.stderr.write(`prebuild: ${why}\n`);
  return process.exit(code);
}
