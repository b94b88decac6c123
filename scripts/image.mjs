/**
 * The image of deploy/Dockerfile without Docker and without a registry of images:
 * `node scripts/image.mjs FOLDER` leaves its root in FOLDER/root, its configuration in FOLDER/config.json.
 *
 * The Dockerfile is taken as it is, by Debian's buildah; what its FROM names, node:20-bookworm-slim, is
 * made here as that image is: Debian 12 by debootstrap, the oldest Node promised and an npm below /usr/local.
 * Needs root, buildah, debootstrap, and the packages of Debian, npm and PyPI; some minutes.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { CACHE } from './cache.mjs';

const ROOT = resolve(import.meta.dirname, '..');
/** Fetched by the set-up of the tests. */
const NODE = join(CACHE, 'tools', 'node-20.11.0');
/** The last line of npm that runs on it. */
const NPM = 'npm@10';
/** Default of the Dockerfile's NODE_IMAGE, by the name that it stands for. */
const BASE = 'docker.io/library/node:20-bookworm-slim';
const PREBUILDS = `--prebuilds=${join(ROOT, 'prebuilds')}`;
const IMAGE = 'localhost/flannelette:test';

/** Throws an error that names what failed. */
export function buildImage(folder) {
  const work = mkdtempSync(join(tmpdir(), 'flannelette-image-'));
  const store = ['--storage-driver', 'vfs', '--root', join(work, 'store')];
  const buildah = (...argv) => run(['buildah', ...store, '--runroot', join(work, 'run'), ...argv]);
  try {
    run(['node', join(ROOT, 'scripts', 'prebuild.mjs'), '--if-older', `${process.arch}-glibc`]);
    const release = join(work, 'release');
    run(['node', join(ROOT, 'scripts', 'release.mjs'), `--output=${release}`, PREBUILDS]);
    const base = buildah('from', 'scratch');
    buildah('add', base, makeBase(work), '/');
    buildah('commit', base, BASE);
    // How this machine gets at Debian's packages is its own, and stays out of the image.
    const apt = '/etc/apt/apt.conf.d:/etc/apt/apt.conf.d:ro';
    const how = ['--pull-never', '--isolation', 'chroot', '--volume', apt];
    const dockerfile = join(ROOT, 'deploy', 'Dockerfile');
    buildah('build', ...how, '--file', dockerfile, '--tag', IMAGE, release);
    const built = buildah('from', '--pull-never', IMAGE);
    mkdirSync(folder, { recursive: true });
    run(['cp', '--archive', buildah('mount', built), join(folder, 'root')]);
    const { OCIv1 } = JSON.parse(buildah('inspect', '--type', 'image', IMAGE));
    writeFileSync(join(folder, 'config.json'), JSON.stringify(OCIv1.config, undefined, 2));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function makeBase(work) {
  const root = join(work, 'base');
  run(['debootstrap', '--variant=minbase', '--include=ca-certificates', 'bookworm', root]);
  const local = join(root, 'usr', 'local');
  cpSync(NODE, join(local, 'bin', 'node'));
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-save'];
  run(['npm', 'install', ...flags, '--prefix', join(work, 'npm'), NPM]);
  const modules = join(local, 'lib', 'node_modules');
  cpSync(join(work, 'npm', 'node_modules', 'npm'), join(modules, 'npm'), { recursive: true });
  for (const name of ['npm', 'npx']) {
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(local, 'bin', name));
  }
  return root;
}

function run([file, ...args]) {
  const options = { encoding: 'utf8', maxBuffer: 1 << 26 };
  const { status, stdout, stderr, error } = spawnSync(file, args, options);
  if (status === 0) return stdout.trim();
  const said = error?.message ?? `${stdout}${stderr}`.trim().slice(-2_000);
  throw new Error(`${[file, ...args].join(' ')}: ${said}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) {
    console.error('usage: node scripts/image.mjs FOLDER');
    process.exit(2);
  }
  buildImage(resolve(folder));
}
