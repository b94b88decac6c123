/**
 * Runs the commands of the lessons in docs/teaching and puts what they print in place of what stands
 * there: `npm run lessons`, or `npm run lessons -- 3` for the third alone.
 *
 * A command is a line of a `console` block that begins with a prompt; what follows it, to the next
 * prompt or the end of the block, is its output. `$` is a shell on this machine; `host-1#` and the
 * like are shells in a lab that is kept up meanwhile.
 *
 * What several `$` commands have before their first pipe runs once, so that lessons which look at the
 * same program quote the same run; lessons that share one are renewed together. Each lesson says by its
 * line `*Outputs: ...*` when, where and on how busy a machine.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const ROOT = resolve(import.meta.dirname, '..');
const LESSONS = join(ROOT, 'docs', 'teaching');
const PROMPT = /^(\$|host-\d#|container-\d#) (.*)$/;
const MINUTE = 60_000;

const STAMP = /^\*Outputs: .*\*$/m;

const wanted = process.argv.slice(2);
const texts = new Map(
  readdirSync(LESSONS)
    .filter((name) => /^\d.*\.md$/.test(name))
    .map((name) => [name, readFileSync(join(LESSONS, name), 'utf8')]),
);
const files = withShared(
  [...texts.keys()].filter(
    (name) => wanted.length === 0 || wanted.some((number) => name.startsWith(number)),
  ),
);
if (files.length === 0) {
  console.error(`lessons: "${wanted.join(' ')}" is not valid: expected numbers of lessons`);
  process.exit(2);
}

// The lessons call the command by its name.
const bin = mkdtempSync(join(tmpdir(), 'flannelette-lessons-'));
const main = join(ROOT, 'dist', 'src', 'cli', 'main.js');
writeFileSync(join(bin, 'flannelette'), `#!/bin/sh\nexec node "${main}" "$@"\n`, { mode: 0o755 });
/** Standard output of what ran before a pipe, by command. */
const produced = new Map();
const lab = await raiseLab();
try {
  for (const name of files) {
    console.log(`== ${name}`);
    const stamp = describeNow();
    const text = rerun(texts.get(name));
    if (!STAMP.test(text)) throw new Error(`${name} has no line *Outputs: ...*`);
    writeFileSync(join(LESSONS, name), text.replace(STAMP, stamp));
  }
} finally {
  lab.child.kill('SIGINT');
  await once(lab.child, 'exit');
  rmSync(bin, { recursive: true });
}

/** These lessons, and those that quote a run of theirs. */
function withShared(names) {
  const shared = new Set(names.flatMap(producersOf));
  return [...texts.keys()].filter(
    (name) => names.includes(name) || producersOf(name).some((producer) => shared.has(producer)),
  );
}

function producersOf(name) {
  const commands = texts.get(name).matchAll(/^\$ (.* \| .*)$/gm);
  return [...commands].map(([, command]) => splitAtPipe(command)[0]);
}

/** What produces the output, and what filters it. */
function splitAtPipe(command) {
  const at = command.indexOf(' | ');
  return at < 0 ? [command, undefined] : [command.slice(0, at), command.slice(at + 3)];
}

/** When, where and beside how much else the outputs come to be. */
function describeNow() {
  const [processor] = cpus();
  const machine = `${cpus().length} x ${processor?.model ?? 'unknown CPU'}`;
  const date = new Date().toISOString().slice(0, 10);
  return `*Outputs: ${date}, Linux ${release()}, ${machine}, load average before ${loadavg()[0].toFixed(1)}.*`;
}

/** The lesson with its outputs as they are now. */
function rerun(text) {
  return text.replace(/^```console\n(.*?)^```$/gms, (_block, lines) => {
    const outputs = lines
      .split('\n')
      .filter((line) => PROMPT.test(line))
      .map((line) => `${line}\n${outputOf(line)}`);
    return `\`\`\`console\n${outputs.join('')}\`\`\``;
  });
}

function outputOf(line) {
  const [, prompt, command] = PROMPT.exec(line);
  console.log(line);
  const [producer, filter] = splitAtPipe(command);
  const stdout =
    prompt !== '$'
      ? shell(command, lab.enter(prompt.slice(0, -1)))
      : filter === undefined
        ? shell(producer)
        : shell(filter, [], produce(producer));
  const shown = stripVTControlCharacters(stdout)
    .replace(/[ \t]+$/gm, '')
    .trimEnd();
  return shown === '' ? '' : `${shown}\n`;
}

/** Runs it once. */
function produce(command) {
  if (!produced.has(command)) produced.set(command, shell(command));
  return produced.get(command);
}

function shell(command, enter = [], input = '') {
  const [file, ...args] = [...enter, 'bash', '-o', 'pipefail', '-c', command];
  const { status, stdout, stderr } = spawnSync(file, args, {
    cwd: ROOT,
    encoding: 'utf8',
    input,
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, COLUMNS: '100' },
    timeout: 20 * MINUTE,
  });
  if (status !== 0) throw new Error(`${command}: ended with ${status}: ${stderr}`);
  return stdout;
}

async function raiseLab() {
  const child = spawn(join(bin, 'flannelette'), ['lab', '--keep', '--seconds=1'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let told = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (told += text));
  const ended = once(child, 'exit').then(() => {
    throw new Error(`the lab ended: ${told}`);
  });
  ended.catch(() => undefined);
  while (!told.includes('The leases, once inside:')) {
    await Promise.race([once(child.stderr, 'data'), ended]);
  }
  // The lab says how to enter each namespace: nsenter ... bash.
  const lines = told.split('\n').map((line) => line.trim());
  return {
    child,
    enter: (name) => {
      const line = lines.find((one) => one.endsWith(`/${name} bash`));
      if (line === undefined) throw new Error(`the lab has no ${name}`);
      return line.replace(/ bash$/, '').split(' ');
    },
  };
}
