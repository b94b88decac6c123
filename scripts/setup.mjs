/**
 * Set-up on a fresh clone: `run` is what `npm start` needs; `bench`, `bench-flood`, `bench-lease`,
 * `bench-micro`, `soak` and `test` what `npm run bench`, `npm run bench:flood` and so on, and `npm test`,
 * need on top; `pack` is what `npm pack` needs, which neither runs nor tests anything. Uses Node's built-ins only,
 * because node_modules may not be there yet. Each step is skipped when it has nothing to do, and prints
 * its log only when it fails.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NEEDED, requireNode } from './node-version.mjs';
import { installBenchTools, installTestTools } from './test-tools.mjs';

const mode = process.argv[2] ?? 'run';
requireNode(mode === 'test' ? NEEDED.test : NEEDED.run);

const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');

const RUN_PACKAGES = {
  'g++': 'g++',
  make: 'make',
  python3: 'python3-minimal',
  ip: 'iproute2',
  iperf3: 'iperf3',
  ping: 'iputils-ping',
  tcpdump: 'tcpdump',
  ethtool: 'ethtool',
  sysctl: 'procps',
  unshare: 'util-linux',
  flock: 'util-linux',
};
const BENCH_LEASE_PACKAGES = {
  etcd: 'etcd-server',
};
/** The user-space tunnels that flannelette is compared with, and what counts system calls. */
const BENCH_PACKAGES = {
  'wireguard-go': 'wireguard-go',
  wg: 'wireguard-tools',
  tincd: 'tinc',
  vtund: 'vtun',
  perf: 'linux-perf',
  ...BENCH_LEASE_PACKAGES,
};
const BENCH_FLOOD_PACKAGES = {
  nft: 'nftables',
};
const SOAK_PACKAGES = {
  ...BENCH_LEASE_PACKAGES,
  etcdctl: 'etcd-client',
  iptables: 'iptables',
};
const TEST_PACKAGES = {
  ...BENCH_LEASE_PACKAGES,
  'clang++-14': 'clang-14',
  'clang-format-14': 'clang-format-14',
  'clang-tidy-14': 'clang-tidy-14',
  openssl: 'openssl',
  traceroute: 'traceroute',
  tracepath: 'iputils-tracepath',
  chromium: 'chromium',
  iptables: 'iptables',
  ...BENCH_FLOOD_PACKAGES,
  'systemd-analyze': 'systemd',
  script: 'bsdutils',
  depmod: 'kmod',
  debootstrap: 'debootstrap',
  man: 'man-db',
  etcdctl: 'etcd-client',
  route: 'net-tools',
  arping: 'iputils-arping',
  ipvsadm: 'ipvsadm',
  ipset: 'ipset',
  flex: 'flex',
  bison: 'bison',
  bc: 'bc',
};
/** Packages without a program of their own, by a file they bring. */
const TEST_FILES = {
  '/usr/include/doctest/doctest.h': 'doctest-dev',
  '/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.fuzzer-x86_64.a': 'libclang-rt-14-dev',
};

checkPlatform();
if (mode !== 'pack') installDebianPackages();
installNodePackages();
if (mode !== 'pack') buildAddon();
buildTypeScript();
if (mode === 'test') installTestTools(step);
if (mode === 'bench') installBenchTools(step);
if (mode === 'bench') makeIn('bench/overlays', "the benchmark's sender");
if (mode === 'bench-flood' || mode === 'test') makeIn('bench/flood', "the flood's sender");
if (mode === 'bench-micro') makeIn('bench/micro', 'the micro benchmarks');
if (mode === 'test') makeIn('bench/copies/native', 'the benchmark of the crossings');

function checkPlatform() {
  if (process.platform !== 'linux') fail(`Linux is needed, this is ${process.platform}`);
}

function installDebianPackages() {
  const more =
    {
      bench: BENCH_PACKAGES,
      'bench-flood': BENCH_FLOOD_PACKAGES,
      'bench-lease': BENCH_LEASE_PACKAGES,
      soak: SOAK_PACKAGES,
      test: TEST_PACKAGES,
    }[mode] ?? {};
  const programs = { ...RUN_PACKAGES, ...more };
  const missing = Object.entries(programs)
    .filter(([program]) => !onPath(program))
    .map(([, name]) => name);
  if (mode === 'test') {
    for (const [file, name] of Object.entries(TEST_FILES)) {
      // The compiler's version and machine are in the path: any that dpkg knows will do.
      if (!existsSync(file) && !installed(name)) missing.push(name);
    }
  }
  if (missing.length === 0) return;
  const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...new Set(missing)];
  if (process.getuid() !== 0 || !onPath('apt-get')) {
    fail(`packages are missing; install them as root: ${install.join(' ')}`);
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  step(`Debian packages: ${[...new Set(missing)].join(' ')}`, () => {
    run(['apt-get', 'update'], { env });
    run(install, { env });
  });
}

function installNodePackages() {
  const lock = join(ROOT, 'package-lock.json');
  if (newest([join(ROOT, 'node_modules', '.package-lock.json')]) >= newest([lock])) return;
  step('npm packages and the addon', () => {
    run(['npm', 'ci', '--no-audit', '--no-fund'], { env: { ...process.env, JOBS: 'max' } });
  });
}

function buildAddon() {
  const addon = join(ROOT, 'build', 'Release', 'flannelette.node');
  const sources = [...filesBelow(join(ROOT, 'native')), join(ROOT, 'binding.gyp')];
  if (existsSync(addon) && oldest([addon]) >= newest(sources)) return;
  step('the native addon', () => {
    const gyp = (...words) => ['npx', 'node-gyp', ...words, '--jobs=max'];
    // A clone that was moved has makefiles with the paths of where it was.
    if (!knowsEverySource() || !succeeds(gyp('build'))) run(gyp('rebuild'));
  });
}

/** gyp lists the sources when it configures: one that is new since needs that again. */
function knowsEverySource() {
  const makefile = join(ROOT, 'build', 'flannelette.target.mk');
  if (!existsSync(makefile)) return false;
  const text = readFileSync(makefile, 'utf8');
  return filesBelow(join(ROOT, 'native'))
    .filter((file) => file.endsWith('.cc'))
    .every((file) => text.includes(relative(ROOT, file).replace(/\.cc$/, '.o')));
}

function buildTypeScript() {
  const output = join(ROOT, 'dist');
  const sources = [
    ...filesBelow(join(ROOT, 'src')),
    // Not what the makefiles build there.
    ...filesBelow(join(ROOT, 'bench')).filter((file) => file.endsWith('.ts')),
    join(ROOT, 'tsconfig.json'),
    join(ROOT, 'tsconfig.build.json'),
    join(ROOT, 'scripts', 'build.mjs'),
  ];
  const built = existsSync(output) ? filesBelow(output) : [];
  // The oldest output: a file that did not change is written again all the same.
  if (built.length > 0 && oldest(built) >= newest(sources)) return;
  step('TypeScript', () => {
    run(['node', 'scripts/build.mjs']);
  });
}

function makeIn(directory, what) {
  const make = ['make', '-C', directory];
  if (spawnSync(make[0], [...make.slice(1), '--question'], { cwd: ROOT }).status === 0) return;
  step(what, () => {
    run(make);
  });
}

function step(what, work) {
  const started = Date.now();
  process.stderr.write(`setup: ${what} ...`);
  work();
  process.stderr.write(` ${((Date.now() - started) / 1000).toFixed(0)} s\n`);
}

function succeeds([file, ...args]) {
  return spawnSync(file, args, { cwd: ROOT }).status === 0;
}

function run([file, ...args], options = {}) {
  const result = spawnSync(file, args, { cwd: ROOT, encoding: 'utf8', ...options });
  if (result.status === 0) return;
  const said = `${result.stdout ?? ''}${result.stderr ?? ''}`.slice(-8_000);
  fail(`${[file, ...args].join(' ')} failed:\n${result.error?.message ?? said}`);
}

function fail(why) {
  process.stderr.write(`\nsetup: ${why}\n`);
  process.exit(1);
}

function onPath(program) {
  const path = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  return path.some((directory) => existsSync(join(directory, program)));
}

function installed(name) {
  const { stdout } = spawnSync('dpkg-query', ['-W', '-f=${Status}', name], { encoding: 'utf8' });
  return stdout?.includes('install ok installed') ?? false;
}

/** The latest change of the files that exist; 0 when none does. */
function newest(files) {
  return Math.max(0, ...files.filter((file) => existsSync(file)).map((f) => statSync(f).mtimeMs));
}

function oldest(files) {
  return Math.min(...files.map((file) => statSync(file).mtimeMs));
}

function filesBelow(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}
