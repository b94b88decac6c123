import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatEvent } from '../../src/log-text.js';

const ROOT = resolve(import.meta.dirname, '..', '..');
const CLI = join(ROOT, 'dist', 'src', 'cli', 'main.js');
const LOG = join(ROOT, 'dist', 'src', 'log.js');

const PLAIN = { time: true, colour: false };
const NOON = new Date(2026, 10, 21, 12, 0, 0, 7).getTime();
const event = (fields: object): string =>
  `${JSON.stringify({ level: 30, time: NOON, ...fields })}\n`;

/** Standard error of a program, which is a file, as a unit's may be. */
function errorsOf(
  argv: readonly string[],
  env: (stream: string) => Record<string, string>,
): string {
  const directory = mkdtempSync(join(tmpdir(), 'flannelette-log-'));
  const path = join(directory, 'stderr');
  const stderr = openSync(path, 'w');
  try {
    const { dev, ino } = fstatSync(stderr, { bigint: true });
    spawnSync(process.execPath, argv, {
      stdio: ['ignore', 'ignore', stderr],
      env: { ...process.env, ...env(`${dev}:${ino}`) },
    });
    return readFileSync(path, 'utf8');
  } finally {
    closeSync(stderr);
    rmSync(directory, { recursive: true });
  }
}

/** A script that logs one event of each level. */
const script = (format?: string): string[] => [
  '--input-type=module',
  '--eval',
  `import { createLogger } from ${JSON.stringify(LOG)};
   const log = createLogger({ verbosity: 2, format: ${JSON.stringify(format)} });
   for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) log[level]({ n: 1 }, level);`,
];

describe('the log as text', () => {
  it('is one line an event: time, level, message, fields', () => {
    expect(formatEvent(event({ subnet: '100.96.1.0/24', mtu: 1472, msg: 'written' }), PLAIN)).toBe(
      '2026-11-21 12:00:00.007 INFO  written subnet=100.96.1.0/24 mtu=1472\n',
    );
    expect(formatEvent(event({ msg: 'x' }), { time: false, colour: true })).toBe(
      '\u001b[32mINFO\u001b[0m  x\n',
    );
  });

  it.each([
    ['two words', '"two words"'],
    ['', '""'],
    ['a=b', '"a=b"'],
    ['say "no"', '"say \\"no\\""'],
    [['a', 'b'], '["a","b"]'],
    [{ stack: 'Error\n    at x' }, '{"stack":"Error\\n    at x"}'],
    [null, 'null'],
  ])('shows %j as %s', (value, shown) => {
    expect(formatEvent(event({ value, msg: 'm' }), { time: false, colour: false })).toBe(
      `INFO  m value=${shown}\n`,
    );
  });

  it('stays one line, and speaks to no terminal, whatever a message or a value is', () => {
    const hostile = 'a\nb\r\u001b[2Jc\u009bd';
    const line = formatEvent(event({ msg: hostile, value: hostile }), PLAIN);
    expect(line.slice(0, -1)).not.toMatch(/\p{Cc}/u);
    expect(line).toContain('a\\nb\\r\\u001b[2Jc');
  });
});

describe('the logger', () => {
  it('writes JSON to what is no terminal, text when told', () => {
    const json = errorsOf(script(), () => ({}));
    const levels = json
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { level: number }).level);
    expect(levels).toEqual([10, 20, 30, 40, 50, 60]);
    const text = errorsOf(script('text'), () => ({}));
    expect(text).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} TRACE trace n=1\n/);
    expect(text.trim().split('\n')).toHaveLength(6);
  });

  it('tells the journal the priority of each line, in both formats', () => {
    const journal = (stream: string) => ({ JOURNAL_STREAM: stream });
    const priorities = (text: string) =>
      text
        .trim()
        .split('\n')
        .map((line) => /^<(\d)>/.exec(line)?.[1]);
    const json = errorsOf(script(), journal);
    expect(priorities(json)).toEqual(['7', '7', '6', '4', '3', '2']);
    expect(JSON.parse(json.split('\n')[3]?.slice(3) ?? '')).toMatchObject({ level: 40, n: 1 });
    const text = errorsOf(script('text'), journal);
    expect(priorities(text)).toEqual(['7', '7', '6', '4', '3', '2']);
    expect(text.split('\n')[3]).toBe('<4>WARN  warn n=1');
  });

  it.each(['1:2', '', 'x'])('has no priorities where JOURNAL_STREAM is %j', (stream) => {
    expect(errorsOf(script(), () => ({ JOURNAL_STREAM: stream }))).toMatch(/^\{"level":10,/);
  });
});

describe('what ends a command', () => {
  const errors = (argv: readonly string[], env: Record<string, string> = {}) =>
    errorsOf([CLI, ...argv], () => env);

  it.each([
    [['run', '--log-format=json', '--mode=fast'], {}],
    [['run', '--mode=fast', '-log-format', 'json'], {}],
    [['run', '--mode=fast'], { FLANNELD_LOG_FORMAT: 'json' }],
    [['run', '--log-format=json', '--nonsense'], {}],
    [['run', '--log-format=json', '--workers=3'], {}],
  ])('%j %j is an event of the log when its format was named', (argv, env) => {
    const text = errors(argv, env);
    expect(text).toMatch(/^[^\n]+\n$/);
    const { level, msg } = JSON.parse(text) as { level: number; msg: string };
    expect(level).toBe(60);
    expect(msg).toMatch(/--mode: "fast"|--nonsense|--workers: 3/);
  });

  it('is a line of the log as text, too', () => {
    expect(errors(['run', '--log-format=text', '--mode=fast'])).toMatch(
      /^\d{4}-.* FATAL --mode: "fast" is not valid: expected auto or basic or batch or offload or kernel\n$/,
    );
  });

  it('is a plain line before there is a log, with a priority for the journal', () => {
    expect(errors(['run', '--mode=fast'])).toMatch(/^--mode: "fast" is not valid[^\n]*\n$/);
    expect(
      errorsOf([CLI, 'status', '--nonsense'], (stream) => ({ JOURNAL_STREAM: stream })),
    ).toMatch(/^<3>unknown flag --nonsense[^\n]*\n$/);
  });

  it('is an event of the log once there is one', () => {
    const text = errors(['run', '--iface=nosuch7', '--lease-file=/x', '--subnet-file=/dev/null/x']);
    for (const line of text.trim().split('\n')) {
      expect(JSON.parse(line)).toMatchObject({ level: expect.any(Number) as number });
    }
    expect(JSON.parse(text.trim().split('\n').at(-1) ?? '')).toMatchObject({ level: 60 });
  });

  it('of a mistake of the program is one line, with the stack in it', () => {
    const at = JSON.stringify(join(ROOT, 'dist', 'src', 'cli', 'process-log.js'));
    const text = errorsOf(
      [
        '--input-type=module',
        '--eval',
        `import { createLogger } from ${JSON.stringify(LOG)};
         import { logProcessEvents } from ${at};
         logProcessEvents(createLogger());
         process.emitWarning('names of addresses', 'DeprecationWarning', 'DEP0123');
         process.emitWarning('eleven listeners', 'MaxListenersExceededWarning');
         setTimeout(() => { throw new Error('oops'); }, 1);`,
      ],
      () => ({}),
    );
    const lines = text.trim().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      expect.objectContaining({ level: 40, msg: 'eleven listeners' }),
      expect.objectContaining({
        level: 60,
        msg: 'unexpected error, please report it: oops',
        stack: expect.stringContaining('Error: oops\n') as string,
      }),
    ]);
  });
});

describe('on a terminal', () => {
  it('each event is one line', () => {
    const command = [process.execPath, ...script()]
      .map((word) => `'${word.replaceAll("'", "'\\''")}'`)
      .join(' ');
    const { stdout } = spawnSync('script', ['--quiet', '--command', command, '/dev/null'], {
      encoding: 'utf8',
      env: { ...process.env, NO_COLOR: '1', SHELL: '/bin/sh', LC_ALL: 'C' },
    });
    const lines = stdout.trim().split('\r\n');
    expect(lines).toHaveLength(6);
    expect(lines[3]).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARN {2}warn n=1$/);
  });
});
