/**
 * Every test, stage by stage, and one closing line: `N passed, N failed, N skipped`.
 *
 *   node scripts/test.mjs [--stage NAME ...]
 *
 * The stages `exact`, `restarts`, `prebuilt` and `image` run only when they are named: they take long. What needs a program
 * that Go builds is left out by name on a machine without Go. Any other stage that runs no test has failed.
 * With CI=true a skipped test fails the run.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { isolationCommand, isolationEnvironment } from '../dist/src/testbed/isolate.js';
import { tryOldKernels } from './old-kernels.mjs';
import { run } from './run.mjs';
import { CNI_PLUGINS, KUBE_APISERVER, missingWithoutGo } from './test-tools.mjs';

const ROOT = resolve(import.meta.dirname, '..');
const NATIVE = join(ROOT, 'test', 'native');
/** Of each target; FLANNELETTE_FUZZ_SECONDS asks for others. */
const FUZZ_SECONDS = Number(process.env.FLANNELETTE_FUZZ_SECONDS ?? 5);
const MINUTE = 60_000;
const show = (chunk) => process.stdout.write(chunk);

const STAGES = {
  native: () => doctest('plain'),
  'native-asan': () => doctest('asan'),
  'native-tsan': () => doctest('tsan'),
  fuzz,
  unit: () => vitest('unit'),
  package: () => vitest('package'),
  etcd: () => vitest('etcd'),
  kube,
  cni,
  netns,
  'old-kernel': async () => (await tryOldKernels()).counts,
  exact: () => isolated('netns', 'exact', { env: { FLANNELETTE_EXACT_MIB: '1024' }, minutes: 120 }),
  restarts: () =>
    isolated('netns', 'restarts', { env: { FLANNELETTE_RESTARTS: '20' }, minutes: 60 }),
  prebuilt: () => vitest('prebuilt', { minutes: 120 }),
  image,
};
const ON_DEMAND = ['exact', 'restarts', 'prebuilt', 'image'];

const CI = process.env.CI === 'true';
const total = { passed: 0, failed: 0, skipped: 0 };
for (const name of chosenStages()) {
  const started = Date.now();
  console.log(`\n== ${name}`);
  const counts = await STAGES[name]();
  if (counts === undefined) continue;
  if (counts.passed + counts.failed + counts.skipped === 0) {
    console.log(`stage ${name} ran no test`);
    counts.failed += 1;
  }
  add(total, counts);
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`== ${name}: ${line(counts)} in ${seconds} s`);
}
if (CI && total.skipped > 0) console.log('\nCI=true: a skipped test fails the run');
process.exitCode = total.failed > 0 || (CI && total.skipped > 0) ? 1 : 0;
console.log(`\n${line(total)}`);

function line({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

function chosenStages() {
  const wanted = process.argv.slice(2).filter((argument) => argument !== '--stage');
  const unknown = wanted.find((name) => !(name in STAGES));
  const usual = Object.keys(STAGES).filter((name) => !ON_DEMAND.includes(name));
  if (unknown === undefined) return wanted.length === 0 ? usual : wanted;
  console.error(`--stage: "${unknown}" is not valid: expected ${Object.keys(STAGES).join(', ')}`);
  process.exit(2);
}

async function doctest(variant) {
  const built = await run(make(variant), { timeoutMs: 10 * MINUTE });
  if (built.code !== 0) return failed(`cannot build the ${variant} tests`, built);
  // ThreadSanitizer's shadow memory needs the address layout of old: no randomisation.
  const prefix = variant === 'tsan' ? ['setarch', '--addr-no-randomize'] : [];
  const result = await run([...prefix, join(NATIVE, 'build', variant, 'tests')], {
    timeoutMs: 5 * MINUTE,
    told: show,
    env: { ...process.env, TSAN_OPTIONS: 'halt_on_error=1', ASAN_OPTIONS: 'detect_leaks=1' },
  });
  const summary = /test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped/.exec(
    result.output,
  );
  if (summary === null) return failed('the tests ended without a summary', result);
  const counts = { passed: +summary[1], failed: +summary[2], skipped: +summary[3] };
  if (result.code !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

async function fuzz() {
  const built = await run(make('fuzz'), { timeoutMs: 10 * MINUTE });
  if (built.code !== 0) return failed('cannot build the fuzz targets', built);
  return inTurns(namesIn('fuzz', '.cc'), async (target) => {
    const artifacts = mkdtempSync(join(tmpdir(), 'flannelette-fuzz-'));
    // What is found goes to the first corpus; the one in the repository is read only.
    const found = join(artifacts, 'corpus');
    mkdirSync(found);
    const corpora = [found, join(ROOT, 'test', 'fuzz', 'corpus', target)].filter(existsSync);
    const argv = [join(NATIVE, 'build', 'fuzz', target), '-seed=1', '-verbosity=0'];
    argv.push(`-max_total_time=${FUZZ_SECONDS}`, '-print_final_stats=1', '-max_len=2048');
    const result = await run([...argv, `-artifact_prefix=${artifacts}/`, ...corpora], {
      timeoutMs: (FUZZ_SECONDS + 60) * 1_000,
    });
    const runs = Number(/number_of_executed_units:\s*(\d+)/.exec(result.output)?.[1] ?? 0);
    const ok = result.code === 0 && runs > 0;
    if (!ok) console.log(result.output.slice(-4_000), `\ninput kept in ${artifacts}`);
    else rmSync(artifacts, { recursive: true });
    console.log(`${ok ? '✓' : '✗'} ${target}: ${runs} inputs`);
    return { passed: Number(ok), failed: Number(!ok), skipped: 0 };
  });
}

/** Of the two API servers the one in the process is always there. */
function kube() {
  if (missingWithoutGo(KUBE_APISERVER)) {
    console.log('== kube: kube-apiserver is skipped: there is no Go to build it');
  }
  return vitest('kube');
}

function cni() {
  if (!missingWithoutGo(CNI_PLUGINS)) return isolated('cni', 'cni');
  console.log("== cni is skipped: there is no Go to build flannel's plugin");
  return undefined;
}

/**
 * Each file runs in namespaces of its own: nothing a test does can reach the host or another file,
 * and two run at once, because they wait more than they work.
 */
function netns() {
  return inTurns(namesIn('netns', '.test.ts'), (name) => isolated('netns', name));
}

/** Builds the image, for which packages are fetched, and runs it where there is no way out. */
async function image() {
  const folder = mkdtempSync(join(tmpdir(), 'flannelette-image-'));
  try {
    const argv = [process.execPath, join(ROOT, 'scripts', 'image.mjs'), folder];
    const built = await run(argv, { timeoutMs: 20 * MINUTE });
    if (built.code !== 0) return failed('cannot build the image', built);
    return await isolated('image', 'image', { env: { FLANNELETTE_IMAGE: folder } });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function isolated(project, name, options) {
  const file = `test/${project}/${name}.test.ts`;
  return vitest(project, { file, prefix: isolationCommand([]), ...options });
}

/** Runs vitest on a project; of one file alone the output is kept until it ends. */
async function vitest(project, { file, prefix = [], env = {}, minutes = 12 } = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'flannelette-test-'));
  const report = join(directory, 'report.json');
  writeFileSync(report, '{}');
  const argv = [process.execPath, join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'), 'run'];
  argv.push('--project', project, '--reporter=default', '--reporter=json');
  argv.push(`--outputFile.json=${report}`, ...(file === undefined ? [] : [file]));
  const result = await run([...prefix, ...argv], {
    timeoutMs: minutes * MINUTE,
    told: file === undefined ? show : undefined,
    env: { ...isolationEnvironment(), ...env, NO_COLOR: '1' },
  });
  if (file !== undefined) console.log(result.output.trim());
  const found = JSON.parse(readFileSync(report, 'utf8'));
  rmSync(directory, { recursive: true });
  const counts = {
    passed: found.numPassedTests ?? 0,
    failed: found.numFailedTests ?? 0,
    skipped: (found.numPendingTests ?? 0) + (found.numTodoTests ?? 0),
  };
  // A file that cannot be loaded or runs no test, or an error outside a test.
  if (result.code !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

/** Does the work on each item, two at a time; the sum of their counts. */
async function inTurns(items, work) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  const waiting = [...items];
  const worker = async () => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      add(sum, await work(item));
    }
  };
  await Promise.all([worker(), worker()]);
  return sum;
}

function add(sum, counts) {
  for (const key of Object.keys(sum)) sum[key] += counts[key];
}

/** The files of a directory of tests that end so, without that ending. */
function namesIn(directory, ending) {
  return readdirSync(join(ROOT, 'test', directory))
    .filter((file) => file.endsWith(ending))
    .map((file) => file.slice(0, -ending.length));
}

function make(target) {
  return ['make', '-C', NATIVE, `-j${cpus().length}`, '--no-print-directory', target];
}

function failed(why, { output }) {
  console.log(`${output.slice(-8_000)}\n${why}`);
  return { passed: 0, failed: 1, skipped: 0 };
}
