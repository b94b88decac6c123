/** Nothing is called a 95 % interval that is none: every report, with few rounds and with enough. */
import { describe, expect, it } from 'vitest';
import { METRICS, type Round } from '../../../bench/overlays/metrics.js';
import { PHASES, type LeaseRound, type StoreResult } from '../../../bench/lease/measure-store.js';
import {
  renderCopiesCsv,
  renderCopiesMarkdown,
  renderCopiesText,
} from '../../../bench/copies/copies-text.js';
import { drawReport } from '../../../bench/report/draw.js';
import { judgeLeases, summariseStore } from '../../../bench/lease/lease-summary.js';
import { renderLeaseMarkdown, renderLeaseText } from '../../../bench/lease/lease-text.js';
import { renderMicroMarkdown, renderMicroText } from '../../../bench/micro/micro-text.js';
import { medianAndBounds, SPREAD_METHOD, spreadOf } from '../../../bench/frame/spread.js';
import { summarise } from '../../../bench/overlays/overlays-summary.js';
import { renderCsv, renderMarkdown, renderText } from '../../../bench/overlays/overlays-text.js';
import { copiesResult, modesResult } from '../../support/bench-results.js';

const MACHINE = {
  date: '2026-01-02',
  commit: 'abc',
  command: 'npm run bench',
  kernel: '6.1',
  node: 'v20',
  cpu: 'CPU',
  cpus: 2,
  busyBefore: 0.3,
};

type Reports = Readonly<Record<string, string>>;

function labReports(rounds: number): Reports {
  const round: Round = Object.fromEntries(METRICS.map(({ key }) => [key, 1]));
  const subjects = ['basic', 'offload', 'vxlan', 'vxlan-again', 'host-gw'].map((name) => ({
    name,
    what: name,
    mtu: 1_472,
    kernelOnly: false,
    rounds: Array.from({ length: rounds }, () => round),
  }));
  const environment = {
    ...MACHINE,
    title: 'Benchmarks',
    underlayMtu: 1_500,
    rounds,
    seconds: 2,
    congestion: 'cubic',
    packages: '-',
    quick: false,
    repeated: [],
  };
  const result = summarise(environment, [{ underlay: 'offload', subjects }], undefined);
  return { 'bench, text': renderText(result), 'bench, Markdown': renderMarkdown(result) };
}

function leaseReports(rounds: number): Reports {
  const phase = {
    medianMs: 1,
    p99Ms: 2,
    sent: 9,
    lost: 0,
    cpu: 0.1,
    changesPerSecond: 1,
    rss: 1,
    lagMs: 1,
  };
  const round = Object.fromEntries(PHASES.map((name) => [name, phase])) as LeaseRound;
  const memory = { rss: 1, peak: 1 };
  const starts = Array.from({ length: 9 }, () => ({ readyMs: 1, forwardsMs: 2, memory }));
  const result: StoreResult = {
    store: 'etcd',
    how: 'one by one',
    memory,
    differences: 0,
    starts: { empty: starts, full: starts, remembered: [] },
    rounds: Array.from({ length: rounds }, () => round),
  };
  const summary = summariseStore(result);
  const environment = { ...MACHINE, starts: 9, rounds, seconds: 1, changesPerSecond: 1 };
  const targets = judgeLeases(summary);
  return {
    'bench:lease, text': renderLeaseText(environment, [summary], targets),
    'bench:lease, Markdown': renderLeaseMarkdown(environment, [summary], targets),
  };
}

function microReports(rounds: number): Reports {
  const values = Array.from({ length: rounds }, (_, index) => index + 1);
  const cells = [{ group: 'lookup', cell: 'two routes', unit: 'ns', values }];
  const environment = { ...MACHINE, rounds };
  return {
    'bench:micro, text': renderMicroText(environment, cells),
    'bench:micro, Markdown': renderMicroMarkdown(environment, cells),
  };
}

const made = new Map<number, Reports>();

/** Drawn once for each number of rounds. */
function allReports(rounds: number): Reports {
  const reports = made.get(rounds) ?? renderAll(rounds);
  made.set(rounds, reports);
  return reports;
}

function renderAll(rounds: number): Reports {
  const [copies, modes] = [copiesResult(rounds), modesResult(rounds)];
  return {
    ...labReports(rounds),
    ...leaseReports(rounds),
    ...microReports(rounds),
    'bench copies, text': renderCopiesText(copies),
    'bench copies, Markdown': renderCopiesMarkdown(copies),
    'bench modes, text': renderText(modes),
    'bench modes, Markdown': renderMarkdown(modes),
    'HTML of both': drawReport({ copies, modes }),
  };
}

/** Without the sentence that says what an interval is. */
function withoutMethod(text: string): string {
  const words = SPREAD_METHOD.split(' ').map((word) =>
    word.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'),
  );
  return text.replaceAll(new RegExp(words.join('\\s+'), 'g'), '');
}

/** Short, since a whole page in a failure says nothing. */
function found(text: string, what: RegExp): string[] {
  return [...withoutMethod(text).matchAll(what)].map(([words]) => words);
}

describe.each(Object.keys(allReports(3)))('%s', (name) => {
  it.each([1, 2, 3, 5])('of %i rounds claims no interval, and says what it gives', (rounds) => {
    const text = allReports(rounds)[name] ?? '';
    expect(found(text, /.{0,40}(?:95 %|interval).{0,40}/g)).toEqual([]);
    expect(found(text, /minimum to maximum/g)).not.toEqual([]);
  });

  it.each([6, 41])('of %i rounds has intervals, and says how they are made', (rounds) => {
    const text = allReports(rounds)[name] ?? '';
    expect(found(text, /95 % interval/g)).not.toEqual([]);
    expect(withoutMethod(text).length).toBeLessThan(text.length);
  });
});

it.each(
  ['bench', 'bench:lease', 'bench:micro'].flatMap((name) => [`${name}, text`, `${name}, Markdown`]),
)('%s says that others worked too when they did', (name) => {
  expect(allReports(8)[name]).toContain('CPUs busy before: 30.0 % for a second: others worked');
});

it.each([
  ['copies', (rounds: number) => renderCopiesCsv(copiesResult(rounds))],
  ['modes', (rounds: number) => renderCsv(modesResult(rounds))],
])('CSV of %s has rounds and kind of bounds in each row', (_name, csv) => {
  for (const [rounds, kind] of [
    [5, 'min-max'],
    [6, 'interval95'],
  ] as const) {
    const [head = '', ...rows] = csv(rounds).trimEnd().split('\n');
    const at = head.split(',').indexOf('bounds');
    expect(rows.map((row) => row.split(',')[at])).toEqual(rows.map(() => kind));
  }
});

describe('bounds', () => {
  const few = { median: 2, low: 1, high: 3, count: 5 };
  const many = { ...few, count: 6 };
  const plain = (value: number): string => `${value}`;

  it('of both kinds in one column are told apart', () => {
    const { title, text } = spreadOf([few, undefined, many]);
    expect(title).toBe('95 % interval, or [minimum to maximum]');
    expect([text(few, plain), text(many, plain)]).toEqual(['[1 to 3]', '1 to 3']);
  });

  it('in a sentence are named', () => {
    expect(medianAndBounds(few, plain)).toBe('2 (minimum to maximum 1 to 3)');
    expect(medianAndBounds(many, plain)).toBe('2 (95 % interval 1 to 3)');
  });
});
