/** Every static check; all of them run, and the run fails when one does. */
import { spawn } from 'node:child_process';
import { cpus } from 'node:os';
import { CXX, ROOT, SCRIPTS, sourceFiles } from './files.mjs';

const BIN = './node_modules/.bin';
const tidyFlags = ['--', '-std=c++20', '-Inative', '-Wall', '-Wextra'];
const tidySources = sourceFiles('native/core/*.cc', 'native/sys/*.cc', 'native/engine/*.cc');

const checks = [
  [
    'types',
    [
      [`${BIN}/tsc`, '-p', 'tsconfig.json'],
      [`${BIN}/tsc`, '-p', 'src/lab/page'],
    ],
  ],
  ['eslint', [[`${BIN}/eslint`, '--max-warnings=0', '.']]],
  ['prettier', [[`${BIN}/prettier`, '--check', '--log-level=warn', ...sourceFiles(...SCRIPTS)]]],
  ['unused', [[`${BIN}/knip`, '--no-progress']]],
  [
    'directions',
    [
      [`${BIN}/depcruise`, '--config', '.dependency-cruiser.cjs', 'src', 'bench', 'test'],
      ['node', 'scripts/check-native-directions.mjs'],
    ],
  ],
  ['clang-format', [['clang-format-14', '--dry-run', '-Werror', ...sourceFiles(...CXX)]]],
  ['clang-tidy', tidySources.map((file) => ['clang-tidy-14', '--quiet', file, ...tidyFlags])],
];

let failures = 0;
for (const [name, commands] of checks) {
  const started = Date.now();
  const results = await inParallel(commands, cpus().length);
  const bad = results.filter(({ code }) => code !== 0);
  for (const { output } of bad) console.log(output.trim());
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`${bad.length === 0 ? '✓' : '✗'} ${name} (${seconds} s)`);
  failures += bad.length === 0 ? 0 : 1;
}
process.exitCode = failures === 0 ? 0 : 1;

async function inParallel(commands, width) {
  const queue = [...commands];
  const results = [];
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      results.push(await run(next));
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
}

function run([file, ...args]) {
  return new Promise((resolve) => {
    const child = spawn(file, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const collect = (chunk) => {
      output += chunk;
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', (error) => {
      resolve({ code: 127, output: `${file}: ${error.message}` });
    });
    child.on('close', (code) => {
      resolve({ code: code ?? 1, output });
    });
  });
}
