/** The lessons' numbers: which run they are of, and what a look of few rounds may claim. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const LESSONS = resolve(import.meta.dirname, '../../docs/teaching');
const PROMPT = /^(?:\$|host-\d#|container-\d#) /;

interface Quoted {
  readonly lesson: string;
  /** What runs before the first pipe. */
  readonly producer: string;
  readonly output: string;
}

const TEXTS = readdirSync(LESSONS)
  .filter((name) => /^\d/.test(name))
  .map((name) => [name, readFileSync(join(LESSONS, name), 'utf8')] as const);

/** Commands of a shell on this machine, with what they print. */
const QUOTED = TEXTS.flatMap(([lesson, text]) =>
  [...text.matchAll(/^```console\n(.*?)^```$/gms)].flatMap(([, block = '']) =>
    block
      .split(/^(?=(?:\$|host-\d#|container-\d#) )/m)
      .filter((part) => part.startsWith('$ '))
      .map((part): Quoted => {
        const [line = '', ...rest] = part.split('\n');
        const output = rest.filter((one) => !PROMPT.test(one)).join('\n');
        return { lesson, producer: line.slice(2).split(' | ')[0] ?? '', output };
      }),
  ),
);

function outputsOf(producer: RegExp): readonly Quoted[] {
  const found = QUOTED.filter((quoted) => producer.test(quoted.producer));
  expect(found.length).toBeGreaterThan(1);
  return found;
}

it.each([
  ['bench modes', /^flannelette bench modes/],
  ['bench copies', /^flannelette bench copies/],
])('all lessons quote one run of %s', (_name, command) => {
  const quoted = outputsOf(command);
  expect(new Set(quoted.map(({ producer }) => producer)).size).toBe(1);
  // A row of a table is the same wherever it stands.
  const rows = new Map<string, string>();
  for (const { lesson, output } of quoted) {
    for (const table of output.split(/\n\n+/)) {
      const [title = '', ...lines] = table.split('\n');
      for (const line of lines.slice(2)) {
        const key = `${title}: ${line.trim().split(/ {2,}/)[0] ?? ''}`;
        expect(rows.get(key) ?? line, `${lesson}: ${key}`).toBe(line);
        rows.set(key, line);
      }
    }
  }
});

it('lesson 2 shows the empty system call beside the prices of crossing', () => {
  const output = outputsOf(/^flannelette bench copies/)
    .filter(({ lesson }) => lesson.startsWith('2'))
    .map((quoted) => quoted.output)
    .join('\n');
  const empty = Number(/system call that does nothing \S+ +- +([\d.]+)/.exec(output)?.[1]);
  const send = Number(/3 UDP send +none +(\d+)/.exec(output)?.[1]);
  expect(empty).toBeGreaterThan(0);
  expect(send).toBeGreaterThan(3 * empty);
});

describe.each(TEXTS)('%s', (_name, text) => {
  it('says when, where and on how busy a machine its outputs were made', () => {
    expect(text.match(/^\*Outputs: .*\*$/gm)).toEqual([
      expect.stringMatching(
        /^\*Outputs: \d{4}-\d\d-\d\d, Linux \S+, \d+ x .+, load average before [\d.]+\.\*$/,
      ),
    ]);
  });
});

it('looks of few rounds claim no interval', () => {
  const looks = QUOTED.filter(({ producer }) => producer.includes('--quick'));
  expect(looks.length).toBeGreaterThan(3);
  for (const { producer, output } of looks) expect(output, producer).not.toContain('95 %');
});
