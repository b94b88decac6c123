/**
 * Tries the program under other kernels, user-mode Linux with this machine's files
 * (test/support/old-kernel/run.sh), one boot for each check:
 *
 *   npm test -- --stage old-kernel     what takes little time
 *   npm run kernels                    everything; prints the table of docs/kernels.md
 *   npm run kernels -- --write docs/kernels.md
 *   npm run kernels -- --write docs/kernels.md --only TEXT    rows whose name has that text; others stay
 *
 * The kernels are those that set-up keeps in the cache (scripts/test-tools.mjs) and those that
 * FLANNELETTE_KERNELS names: paths of user-mode Linux binaries, separated by colons.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { isolationCommand, isolationEnvironment } from '../dist/src/testbed/isolate.js';
import { run } from './run.mjs';
import { UML_KERNEL_WITH_FOU, UML_KERNELS } from './test-tools.mjs';

const ROOT = resolve(import.meta.dirname, '..');
const RUNNER = join(ROOT, 'test', 'support', 'old-kernel', 'run.sh');
const CLI = [process.execPath, join(ROOT, 'dist', 'src', 'cli', 'main.js')];
const NATIVE_TESTS = join(ROOT, 'test', 'native', 'build', 'plain', 'tests');
const MINUTE = 60_000;
const env = { ...isolationEnvironment(), NO_COLOR: '1' };

/**
 * Name of the row, what to run (the text of the cell, and whether it is as it must be), and the feature
 * without which there is nothing to run.
 */
const LAB_KERNEL = ['lab, `--mode=kernel`', (on) => lab(on, 'kernel')];
const TRACE_KERNEL = ['trace, `--mode=kernel`', (on) => checked(on, 'trace', '--mode=kernel')];
const QUICK = [
  ['native tests', nativeTests],
  ['lab, `--mode=auto`', (on) => lab(on, 'auto')],
  LAB_KERNEL,
  ['lab, `--mode=basic`', (on) => lab(on, 'basic')],
  [
    'restart, MTU change, device deleted beside docker0; ICMP with `rp_filter` 0, 1, 2',
    (on) => netns(on, 'beside-docker0'),
  ],
];
const EBPF_ROW = 'mode kernel by eBPF, with faults and hostile neighbours';
/** The lab passes as well where the daemon carries everything. */
const EBPF_QUICK = [EBPF_ROW, (on) => netns(on, 'kernel-path', 'kernel alone'), 'kernel-path'];
const LONG = [
  ['lab, `--mode=batch`', (on) => lab(on, 'batch')],
  TRACE_KERNEL,
  [EBPF_ROW, (on) => netns(on, 'kernel-path'), 'kernel-path'],
  [
    'Services by kube-proxy in mode ipvs',
    (on) => netns(withIpvs(on), 'services', 'kube-proxy by ipvs'),
    'ip_vs',
  ],
];

/** Under the kernel that is built for it: the whole file, or what says most in little time. */
const FOU_ROW = 'mode kernel by FOU, with every other mode, faults and hostile neighbours';
const FOU_MOST =
  'has the kernel alone|lets nobody in|mode offload|device deleted|rules flushed|leaves nothing';
const FOU = [[FOU_ROW, (on) => netns(on, 'fou'), 'fou']];
const FOU_QUICK = [LAB_KERNEL, TRACE_KERNEL, [FOU_ROW, (on) => netns(on, 'fou', FOU_MOST), 'fou']];

/**
 * Checks under every kernel at hand, two kernels at a time, each of which has one CPU.
 * `told` gets a line for each check. The counts are those of the checks; a kernel that set-up could not
 * get is a skipped one.
 */
export async function tryOldKernels({ all = false, only = '', told = console.log } = {}) {
  const named = (rows) => rows.filter(([name]) => name.includes(only));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  // Nothing can be written there: what the checks build is built here.
  const make = ['make', '-s', '-C', join(ROOT, 'test', 'native'), 'plain', 'build/refuse'];
  const built = await run(make, { timeoutMs: 10 * MINUTE, env });
  if (built.code !== 0)
    throw new Error(`cannot build the native tests: ${built.output.slice(-4_000)}`);
  const columns = [await column({ name: `${release()} (this machine)`, checks: [], told, counts })];
  const waiting = kernels(all);
  const found = new Map(waiting.map(({ name }) => [name, undefined]));
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const {
        name,
        path,
        limitMs = (all ? 15 : 6) * MINUTE,
        rows = all ? ROWS : [...QUICK, EBPF_QUICK],
      } = next;
      if (path === undefined) {
        told(`- ${name}: not in the cache, skipped`);
        counts.skipped += 1;
      } else {
        found.set(
          name,
          await column({ name, kernel: path, checks: named(rows), limitMs, told, counts }),
        );
      }
    }
  };
  await Promise.all([worker(), worker()]);
  columns.push(...[...found.values()].filter((one) => one !== undefined));
  return { counts, columns };
}

const ROWS = [...QUICK, ...LONG, ...FOU];

function kernels(all) {
  const named = (process.env.FLANNELETTE_KERNELS ?? '').split(':').filter((path) => path !== '');
  const kept = [
    ...UML_KERNELS,
    { ...UML_KERNEL_WITH_FOU, rows: all ? ROWS : FOU_QUICK, limitMs: 15 * MINUTE },
  ];
  return [
    ...kept.map((one) => ({ ...one, path: existsSync(one.path) ? one.path : undefined })),
    ...named.map((path) => ({ name: path, path })),
  ];
}

/** What one kernel has and does; `kernel` undefined for the one that runs here. */
async function column({ name, kernel, checks, limitMs = MINUTE, told, counts }) {
  const prefix = kernel === undefined ? [] : [RUNNER, kernel];
  // SIGTERM: the runner clears up.
  const on = (argv) => run([...prefix, ...argv], { timeoutMs: limitMs, signal: 'SIGTERM', env });
  const count = (row, { ok, text, output = '' }) => {
    counts[ok ? 'passed' : 'failed'] += 1;
    told(`${ok ? '✓' : '✗'} ${name}: ${row}: ${text}`);
    if (!ok) told(output.slice(-4_000));
  };
  const probed = await probe(on);
  if (kernel !== undefined) count('probe', probed);
  const cells = new Map();
  for (const [row, check, needs] of probed.ok ? checks : []) {
    if (needs !== undefined && !has(needs, probed.features, kernel)) {
      cells.set(row, `no \`${needs}\` in it`);
      continue;
    }
    let result = await check(on);
    if (!result.ok) {
      // Limits in seconds are made for more than one slow CPU.
      told(`- ${name}: ${row}: ${result.text}; tried again`);
      result = await check(on);
    }
    count(row, result);
    cells.set(row, result.ok ? result.text : `**fails**: ${result.text}`);
  }
  return { title: probed.release ?? name, features: probed.features ?? [], cells };
}

/** ip_vs is a module of the kernels of Debian. */
function has(needed, features, kernel) {
  if (needed === 'ip_vs') return existsSync(join(dirname(kernel), '..', 'lib', 'uml', 'modules'));
  return features.some(({ name, state }) => name === needed && state === 'yes');
}

async function probe(on) {
  const found = await on(['sh', '-c', 'uname -r; exec "$@"', 'sh', ...CLI, 'probe', '--json']);
  const [release, json = ''] = found.stdout.trim().split('\n');
  if (found.code !== 0 || !json.startsWith('{')) return { ok: false, text: 'no answer', ...found };
  const { features, reason } = JSON.parse(json);
  return { ok: true, text: reason, release, features };
}

async function nativeTests(on) {
  const { stdout, ...found } = await on([NATIVE_TESTS]);
  const [, cases, passed] = /test cases:\s*(\d+) \|\s*(\d+) passed/.exec(stdout) ?? [];
  const ok = found.code === 0 && cases !== undefined && passed === cases;
  return { ok, text: cases === undefined ? 'no summary' : `${passed} of ${cases}`, ...found };
}

/**
 * One CPU runs three daemons, two containers' programs and the kernel's own work: how long a third
 * host takes, most of it Node's start, is no matter here. That it is reached is.
 */
function late({ detail }) {
  return /^after [\d.]+ s/.test(detail);
}

const lab = (on, mode) => checked(on, 'lab', '--seconds=1', `--mode=${mode}`);

/** A command whose last line has checks. */
async function checked(on, ...command) {
  const { stdout, ...found } = await on([...CLI, ...command, '--json']);
  const last = stdout.trim().split('\n').at(-1) ?? '';
  if (!last.startsWith('{')) return { ok: false, text: 'no result', ...found };
  const { checks, error } = JSON.parse(last);
  if (checks === undefined) return { ok: false, text: error ?? 'no checks', ...found };
  const failed = checks.filter((check) => !check.ok && !late(check));
  const text = failed.map(({ name, detail }) => `${name} (${detail})`).join('; ');
  return { ok: failed.length === 0, text: text || 'works', ...found };
}

/** What kube-proxy's rules need and isolated tests cannot load. */
const IPVS_MODULES = [
  ...['iptable_nat', 'iptable_filter', 'xt_comment', 'xt_mark', 'xt_addrtype', 'xt_conntrack'],
  ...['xt_MASQUERADE', 'xt_nat', 'xt_statistic', 'xt_set', 'ip_vs_rr', 'dummy'],
  ...['ip_set_hash_ipport', 'ip_set_hash_ipportip', 'ip_set_bitmap_port'],
];

/** user-mode Linux has ip_vs, but no nftables for IPv4: iptables is the one of old. */
function withIpvs(on) {
  const links = ['iptables', 'iptables-restore', 'iptables-save'].map(
    (name) => `ln -s /usr/sbin/xtables-legacy-multi /tmp/legacy/${name}`,
  );
  // As test/support/old-kernel/init has it.
  const modules = `/run/modules/modprobe -a ${IPVS_MODULES.join(' ')}`;
  const steps = [modules, 'mkdir /tmp/legacy', ...links, 'PATH=/tmp/legacy:$PATH exec "$@"'];
  return (argv) => on(['sh', '-c', steps.join('; '), 'sh', ...argv]);
}

/** A file of test/netns, or the tests of it that are named so, under that kernel. */
async function netns(on, name, only) {
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  const flags = [
    'run',
    '--project',
    'netns',
    '--configLoader=runner',
    '--reporter=json',
    `test/netns/${name}.test.ts`,
    ...(only === undefined ? [] : [`--testNamePattern=${only}`]),
  ];
  const argv = [...isolationCommand([]), process.execPath, vitest, ...flags];
  const { stdout, ...found } = await on(argv);
  const json = stdout.split('\n').find((line) => line.startsWith('{"num'));
  if (json === undefined) return { ok: false, text: 'no report', ...found };
  const report = JSON.parse(json);
  const { numPassedTests: passed, numFailedTests: failed, numTotalTests: total } = report;
  const titles = report.testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status === 'failed')
    .map(({ fullName, failureMessages: [why = ''] }) => `${fullName}: ${why.split('\n')[0]}`);
  const ok = found.code === 0 && failed === 0 && passed > 0;
  return { ok, text: ok ? 'works' : titles.join('; ') || `${passed} of ${total}`, ...found };
}

/** The table of docs/kernels.md: a row for each feature and check, a column for each kernel. */
function renderTable(columns, cellBefore) {
  const features = columns[0].features.map(({ name, since }) => [
    `feature \`${name}\` (Linux ${since})`,
    ({ features }) => features.find((feature) => feature.name === name)?.state ?? 'not known',
  ]);
  const checks = ROWS.map(([name]) => [name, ({ cells }) => cells.get(name)]);
  return [
    ['kernel', ...columns.map(({ title }) => title)],
    ['---', ...columns.map(() => '---')],
    ...[...features, ...checks].map(([name, cell]) => [
      name,
      ...columns.map((column, at) => cell(column) ?? cellBefore(name, at) ?? unknown(column, name)),
    ]),
  ]
    .map((cells) => `| ${cells.join(' | ')} |\n`)
    .join('');
}

/** Of what was not run: on this machine the tests' own stages do, under some kernels it has no use. */
function unknown({ cells }, name) {
  if (cells.size === 0 && name !== FOU_ROW) return 'see the tests';
  return 'not run';
}

const BEGIN = '<!-- table: npm run kernels -- --write docs/kernels.md -->\n';
const END = '<!-- end of the table -->\n';

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values } = parseArgs({
    options: { write: { type: 'string' }, only: { type: 'string' } },
  });
  const { write: page, only } = values;
  const text = page === undefined ? `${BEGIN}${END}` : readFileSync(page, 'utf8');
  const [before, rest = ''] = text.split(BEGIN);
  const [table, after] = rest.split(END);
  if (after === undefined) throw new Error(`${page} has no table to replace`);
  const rows = table.split('\n').map((line) => line.split('|').map((cell) => cell.trim()));
  const cellBefore = (name, column) =>
    only === undefined ? undefined : rows.find((cells) => cells[1] === name)?.[column + 2];
  const { counts, columns } = await tryOldKernels({ all: true, only });
  const made = renderTable(columns, cellBefore);
  console.log(`\n${made}`);
  if (page !== undefined) writeFileSync(page, `${before}${BEGIN}\n${made}\n${END}${after}`);
  process.exitCode = counts.failed > 0 ? 1 : 0;
}
