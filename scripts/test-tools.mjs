/**
 * What tests and benchmarks use and no Debian package brings in a light way, in the user's cache and not
 * in the repository: promtool alone out of Debian's prometheus, other versions of Node, user-mode Linux of
 * this Debian, an older one and one with FOU, a root of Debian 13, whose nodejs is new enough, to install the .deb in,
 * and, built where there is Go, flanneld, kube-apiserver, the CNI plugins of flannel and of the reference,
 * and the tunnels that flannelette is compared with.
 * What cannot be had is said, and what needs it is skipped by name.
 */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { CACHE } from './cache.mjs';
import { buildFlanneld, FLANNEL } from './flanneld.mjs';
import { goInstall } from './go.mjs';
import { buildKubeApiserver, KUBERNETES } from './kube-apiserver.mjs';
import { buildUmlWithFou } from './uml-fou.mjs';

const TOOLS = join(CACHE, 'tools');

/** What only Go builds. */
export const KUBE_APISERVER = `kube-apiserver-${KUBERNETES}`;
export const CNI_PLUGINS = 'cni-plugins';

/** The oldest that is promised, the long-term versions after it, and one that is too old. */
const NODES = ['20.11.0', '22', '24', '20.10.0'];

/** User-mode Linux by version of the kernel, and the release of Debian that has it. */
const UML = [
  ['6.1', 'bookworm'],
  ['5.10', 'bullseye'],
];
const UML_FOU = 'uml-6.1-fou';
const umlPath = (name) => join(TOOLS, name, 'bin', 'linux.uml');
export const UML_KERNELS = UML.map(([version]) => ({
  name: `user-mode Linux ${version}`,
  path: umlPath(`uml-${version}`),
}));
/** Built here, with little else. */
export const UML_KERNEL_WITH_FOU = {
  name: 'user-mode Linux 6.1 with FOU',
  path: umlPath(UML_FOU),
};

/** Those of the reference that the tests use, by their folder in its source. */
const REFERENCE_PLUGINS = ['main/bridge', 'main/loopback', 'ipam/host-local', 'meta/portmap'];

const FLANNELD = [`flanneld-${FLANNEL}`, (folder) => built(folder, buildFlanneld)];
/** By the program's package: the name of its binary, what it is called here, and the version. */
const TUNNELS = [
  ['golang.zx2c4.com/wireguard', 'wireguard', 'wireguard-go', 'v0.0.0-20260522210424-ecfc5a8d5446'],
  // 1.12 needs Go 1.27; of 1.11.2 a part is not published everywhere.
  ['github.com/slackhq/nebula/cmd/nebula', 'nebula', 'nebula', 'v1.11.1'],
  ['github.com/slackhq/nebula/cmd/nebula-cert', 'nebula-cert', 'nebula-cert', 'v1.11.1'],
];

/** `step` names what is being done and runs it. */
export function installTestTools(step) {
  install(step, 'test tools', [
    ['promtool', fetchPromtool],
    ['debian-13.tar', fetchDebian],
    FLANNELD,
    [KUBE_APISERVER, (folder) => built(folder, buildKubeApiserver)],
    ...NODES.map((version) => [`node-${version}`, (into) => fetchNode(version, into)]),
    ...UML.map(([version, suite]) => [`uml-${version}`, (into) => fetchUml(suite, into)]),
    [UML_FOU, buildUmlWithFou],
    [CNI_PLUGINS, fetchCniPlugins],
  ]);
}

/** The tunnels of the comparison, where there is Go. */
export function installBenchTools(step) {
  if (!onPath('go')) return;
  const tunnels = TUNNELS.map(([program, binary, name, version]) => [
    `${name}-${version}`,
    (folder) => {
      goInstall(folder, program, version);
      return join(folder, binary);
    },
  ]);
  install(step, 'tunnels to compare with', [FLANNELD, ...tunnels]);
}

function install(step, what, wanted) {
  const missing = wanted.filter(([name]) => !available(name));
  if (missing.length === 0) return;
  step(`${what}: ${missing.map(([name]) => name).join(' ')}`, () => {
    for (const [name, fetch] of missing) keep(name, fetch);
  });
}

/** True for a tool that is not there and that this machine cannot build. */
export function missingWithoutGo(name) {
  return !available(name) && !onPath('go');
}

/** Fetches into a folder of its own; what is in the cache is whole. */
function keep(name, fetch) {
  const folder = mkdtempSync(join(tmpdir(), 'flannelette-tool-'));
  try {
    mkdirSync(TOOLS, { recursive: true });
    const partial = join(TOOLS, `.${name}.${process.pid}`);
    cpSync(fetch(folder), partial, { recursive: true, verbatimSymlinks: true });
    renameSync(partial, join(TOOLS, name));
  } catch (error) {
    process.stderr.write(` ${name} cannot be had (${error.message}), what needs it is skipped;`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function fetchPromtool(folder) {
  run(folder, ['apt-get', 'download', 'prometheus']);
  run(folder, ['sh', '-c', 'dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool']);
  return join(folder, 'usr', 'bin', 'promtool');
}

/** Some minutes, once. */
function built(folder, build) {
  const file = join(folder, 'program');
  build(file);
  return file;
}

/** An archive, because files of other users and devices are in it. Needs root. */
function fetchDebian(folder) {
  const root = join(folder, 'root');
  const flags = ['--variant=minbase', '--include=nodejs'];
  run(folder, ['debootstrap', ...flags, 'trixie', root]);
  const unused = ['var/cache/apt', 'var/lib/apt/lists', 'usr/share/locale', 'usr/share/doc'];
  for (const path of unused) rmSync(join(root, path), { recursive: true, force: true });
  run(folder, [
    'tar',
    '--create',
    '--file=debian.tar',
    '--directory=root',
    '--one-file-system',
    '.',
  ]);
  return join(folder, 'debian.tar');
}

/** The package that npm's `node` takes its binary from; it has no install script. */
function fetchNode(version, folder) {
  const name = `node-linux-${process.arch}`;
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-save', '--prefix', folder];
  run(folder, ['npm', 'install', ...flags, `${name}@${version}`]);
  return join(folder, 'node_modules', name, 'bin', 'node');
}

/** Out of the mirror that apt uses here, whatever its release; needs no root. */
function fetchUml(suite, folder) {
  const mirror = run(folder, ['apt-get', 'indextargets', '--format', '$(REPO_URI)']).split('\n')[0];
  const keys = '/usr/share/keyrings/debian-archive-keyring.gpg';
  for (const path of ['lists/partial', 'cache/archives/partial', 'dpkg'])
    mkdirSync(join(folder, path), { recursive: true });
  writeFileSync(join(folder, 'dpkg', 'status'), '');
  writeFileSync(join(folder, 'sources'), `deb [signed-by=${keys}] ${mirror} ${suite} main\n`);
  const options = [
    ...[`Dir::Etc::SourceList=${folder}/sources`, 'Dir::Etc::SourceParts=-'],
    ...[`Dir::State::Lists=${folder}/lists`, `Dir::State::status=${folder}/dpkg/status`],
    ...[`Dir::Cache=${folder}/cache`, 'APT::Sandbox::User=root'],
  ].flatMap((option) => ['-o', option]);
  run(folder, ['apt-get', ...options, 'update']);
  run(folder, ['apt-get', ...options, 'download', 'user-mode-linux']);
  run(folder, ['sh', '-c', 'dpkg-deb -x user-mode-linux_*.deb x']);
  // The package's own script would do this; depmod looks below lib/modules.
  mkdirSync(join(folder, 'root', 'lib'), { recursive: true });
  const modules = join(folder, 'x', 'usr', 'lib', 'uml', 'modules');
  symlinkSync(modules, join(folder, 'root', 'lib', 'modules'));
  for (const release of readdirSync(modules)) {
    run(folder, ['depmod', '-b', join(folder, 'root'), release]);
  }
  return join(folder, 'x', 'usr');
}

/**
 * flannel's plugin where the module proxy has it, else from the last release of the reference plugins
 * that it was part of (v0.9.1); the others out of Debian's package, else by Go as well.
 */
function fetchCniPlugins(folder) {
  const into = join(folder, 'plugins');
  const env = { ...process.env, GOBIN: into };
  const install = (...modules) => run(folder, ['go', 'install', ...modules], { env });
  mkdirSync(into);
  run(folder, ['go', 'version']);
  try {
    install('github.com/flannel-io/cni-plugin@v1.7.1-flannel1');
    renameSync(join(into, 'cni-plugin'), join(into, 'flannel'));
  } catch {
    install('github.com/containernetworking/plugins/plugins/meta/flannel@v0.9.1');
  }
  try {
    run(folder, ['apt-get', 'download', 'containernetworking-plugins']);
    run(folder, ['sh', '-c', 'dpkg-deb -x containernetworking-plugins_*.deb x']);
    for (const path of REFERENCE_PLUGINS) {
      cpSync(join(folder, 'x/usr/lib/cni', basename(path)), join(into, basename(path)));
    }
  } catch {
    const source = 'github.com/containernetworking/plugins/plugins';
    install(...REFERENCE_PLUGINS.map((path) => `${source}/${path}@v1.7.1`));
  }
  return into;
}

function run(cwd, [file, ...args], options = {}) {
  const { status, stdout, stderr, error } = spawnSync(file, args, {
    cwd,
    encoding: 'utf8',
    ...options,
  });
  if (status === 0) return stdout;
  const said = error?.message ?? stderr.trim().split('\n').at(-1);
  throw new Error(`${file} ${args[0]}: ${said}`);
}

function available(name) {
  return existsSync(join(TOOLS, name)) || onPath(name);
}

function onPath(program) {
  return (process.env.PATH ?? '').split(':').some((folder) => existsSync(join(folder, program)));
}
