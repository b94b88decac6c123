/**
 * Runs the commands of the lessons in docs/teaching and puts what they print in place of what stands
 * there: `npm run lessons`, or `npm run lessons -- 3` for the third alone.
 *
 * A command is a line of a `console` block that begins with a prompt; what follows it, to the next
 * prompt or the end of the block, is its output. `$` is a shell on this machine; `host-1#` and the
 * like are shells in a lab that is kept up meanwhile.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const ROOT = resolve(import.meta.dirname, '..');
const LESSONS = join(ROOT, 'docs', 'teaching');
const PROMPT = /^(\$|host-\d#|container-\d#) (.*)$/;
const MINUTE = 60_000;

const wanted = process.argv.slice(2);
const files = readdirSync(LESSONS)
  .filter((name) => /^\d.*\.md$/.test(name))
  .filter((name) => wanted.length === 0 || wanted.some((number) => name.startsWith(number)));
if (files.length === 0) {
  console.error(`lessons: "${wanted.join(' ')}" is not valid: expected numbers of lessons`);
  process.exit(2);
}

// The lessons call the command by its name.
const bin = mkdtempSync(join(tmpdir(), 'flannelette-lessons-'));
const main = join(ROOT, 'dist', 'src', 'cli', 'main.js');
writeFileSync(join(bin, 'flannelette'), `#!/bin/sh\nexec node "${main}" "$@"\n`, { mode: 0o755 });
const lab = await raiseLab();
try {
  for (const name of files) {
    console.log(`== ${name}`);
    const path = join(LESSONS, name);
    writeFileSync(path, rerun(readFileSync(path, 'utf8')));
  }
} finally {
  lab.child.kill('SIGINT');
  await once(lab.child, 'exit');
  rmSync(bin, { recursive: true });
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
  const enter = prompt === '$' ? [] : lab.enter(prompt.slice(0, -1));
  const [file, ...args] = [...enter, 'bash', '-o', 'pipefail', '-c', command];
  const { status, stdout, stderr } = spawnSync(file, args, {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, COLUMNS: '100' },
    timeout: 10 * MINUTE,
  });
  if (status !== 0) throw new Error(`${line}: ended with ${status}: ${stderr}`);
  const shown = stripVTControlCharacters(stdout)
    .replace(/[ \t]+$/gm, '')
    .trimEnd();
  return shown === '' ? '' : `${shown}\n`;
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
