/**
 * Everything a release is, from one command: the npm package with the prebuilt binaries and all it
 * depends on inside, a Debian package for each architecture, the man page, the completion of bash, and
 * SHA256SUMS of all of them.
 *
 *   npm run release [-- --output=FOLDER --prebuilds=FOLDER]
 *
 *   --output     where to (default release/); what is there is removed
 *   --prebuilds  take the binaries of this folder as they are; by default prebuild.mjs makes those of
 *                prebuilds/ that are missing or older than their sources
 *
 * The same commit gives the same bytes: times are those of the commit, or SOURCE_DATE_EPOCH.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildDebian, DEBIAN_ARCHITECTURES, INSTALLED_FILES, settle } from './debian-package.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
/** What only a compilation uses. */
const BUILD_ONLY = ['node-addon-api'];
/** What packages bring and no program loads. */
const UNUSED = /(^|\/)(tests?|docs|benchmarks?|examples|\.github)(\/|$)|\.(map|[cm]?ts)$/;

const { output, prebuilds } = options();
const epoch = releaseTime();
const work = mkdtempSync(join(tmpdir(), 'flannelette-release-'));
try {
  await release();
} catch (error) {
  process.stderr.write(`release: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function release() {
  // The next one finds nothing of the last when this one fails.
  rmSync(output, { recursive: true, force: true });
  mkdirSync(output, { recursive: true });
  if (prebuilds === undefined) run(['node', join('scripts', 'prebuild.mjs'), '--if-older'], ROOT);
  const binaries = prebuilds ?? join(ROOT, 'prebuilds');
  const whole = packedPackage(binaries);
  settle(whole, epoch);
  run(['npm', 'pack', '--ignore-scripts', '--pack-destination', output], whole);

  const { version, description } = readJson(join(whole, 'package.json'));
  const documents = await generatedDocuments(version);
  writeFileSync(join(output, 'flannelette.8'), documents.manPage);
  writeFileSync(join(output, 'flannelette.bash-completion'), documents.completion);
  for (const arch of architectures(binaries)) {
    const name = `flannelette_${version}_${DEBIAN_ARCHITECTURES[arch]}.deb`;
    buildDebian({
      arch,
      documents,
      program: installedProgram(whole, arch),
      facts: { version, description, epoch },
      work: join(work, `debian-${arch}`),
      output: join(output, name),
    });
  }
  writeFileSync(join(output, 'SHA256SUMS'), checksums());
  for (const name of readdirSync(output)) console.log(join(relative('', output), name));
}

/** The package as npm packs it, unpacked, with those binaries and its dependencies in it. */
function packedPackage(binaries) {
  run(['npm', 'pack', '--pack-destination', work], ROOT);
  const [file] = readdirSync(work).filter((name) => name.endsWith('.tgz'));
  run(['tar', '-xf', file], work);
  const whole = join(work, 'package');
  rmSync(join(whole, 'prebuilds'), { recursive: true, force: true });
  cpSync(binaries, join(whole, 'prebuilds'), { recursive: true });
  const names = dependencies();
  for (const name of names) {
    const from = join(ROOT, 'node_modules', name);
    cpSync(from, join(whole, 'node_modules', name), { recursive: true, dereference: true });
  }
  // Then an install needs no registry. Names of all: npm takes what is named, and what that needs.
  const packed = readJson(join(whole, 'package.json'));
  const text = JSON.stringify({ ...packed, bundleDependencies: names }, undefined, 2);
  writeFileSync(join(whole, 'package.json'), `${text}\n`);
  return whole;
}

/** What the program needs on a machine of one architecture with glibc: no sources, no compiler's files. */
function installedProgram(whole, arch) {
  const target = join(work, `program-${arch}`);
  const take = (path) => {
    const from = join(whole, path);
    const filter = (file) => !UNUSED.test(relative(from, file));
    mkdirSync(dirname(join(target, path)), { recursive: true });
    cpSync(from, join(target, path), { recursive: true, filter });
  };
  // binding.gyp marks the folder that the addon is looked up in.
  for (const path of ['package.json', 'binding.gyp', 'LICENSE', 'dist/package']) take(path);
  take(`prebuilds/linux-${arch}/flannelette.glibc.node`);
  const needed = dependencies().filter((name) => !BUILD_ONLY.includes(name));
  for (const name of needed) take(`node_modules/${name}`);
  return target;
}

/** Those of the lock file that are not for development alone. All lie flat. */
function dependencies() {
  const { packages } = readJson(join(ROOT, 'package-lock.json'));
  return Object.entries(packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true)
    .map(([path]) => path.replace(/^node_modules\//, ''))
    .filter((name) => existsSync(join(ROOT, 'node_modules', name)));
}

/** Man page, completion and environment file, made by the program just built. */
async function generatedDocuments(version) {
  const cli = (name) => import(join(ROOT, 'dist', 'src', 'cli', `${name}.js`));
  const { PROGRAM } = await cli('program');
  const { runFlags } = await cli('run-flags');
  const { manPage } = await cli('man-page');
  const { bashCompletion } = await cli('bash-completion');
  const { defaultsFile } = await cli('defaults-file');
  const date = new Date(epoch * 1_000).toISOString().slice(0, 10);
  return {
    manPage: manPage(PROGRAM, { version, date, files: INSTALLED_FILES }),
    completion: bashCompletion(PROGRAM),
    defaults: defaultsFile(runFlags),
  };
}

/** Those with a binary for glibc, which is Debian's. */
function architectures(binaries) {
  const found = Object.keys(DEBIAN_ARCHITECTURES).filter((arch) =>
    existsSync(join(binaries, `linux-${arch}`, 'flannelette.glibc.node')),
  );
  if (found.length === 0) throw new Error(`${binaries}: no binary for glibc`);
  return found;
}

function checksums() {
  const lines = readdirSync(output)
    .sort()
    .map((name) => {
      const sum = createHash('sha256').update(readFileSync(join(output, name)));
      return `${sum.digest('hex')}  ${name}\n`;
    });
  return lines.join('');
}

/** Seconds since 1970; 0 outside a clone. */
function releaseTime() {
  const told = process.env.SOURCE_DATE_EPOCH;
  if (told !== undefined && /^\d+$/.test(told)) return Number(told);
  const git = ['-c', 'safe.directory=*', 'log', '-1', '--format=%ct'];
  const { status, stdout } = spawnSync('git', git, { cwd: ROOT, encoding: 'utf8' });
  return status === 0 ? Number(stdout) : 0;
}

function options() {
  try {
    const { values } = parseArgs({
      options: { output: { type: 'string' }, prebuilds: { type: 'string' } },
    });
    return {
      output: resolve(values.output ?? join(ROOT, 'release')),
      prebuilds: values.prebuilds === undefined ? undefined : resolve(values.prebuilds),
    };
  } catch (error) {
    process.stderr.write(`release: ${error.message}\n`);
    return process.exit(2);
  }
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function run([file, ...argv], cwd) {
  const result = spawnSync(file, argv, { cwd, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (result.status === 0) return;
  const said = result.error?.message ?? `${result.stdout}${result.stderr}`.slice(-4_000);
  throw new Error(`${[file, ...argv].join(' ')} failed:\n${said}`);
}
