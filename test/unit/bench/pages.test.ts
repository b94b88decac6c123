/** The published results: none claims an interval that its rounds do not give. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findBlock } from '../../../bench/frame/block.js';
import { INTERVAL_VALUES } from '../../../bench/frame/stats.js';

const DOCS = resolve(import.meta.dirname, '../../../docs');
const PAGES = readdirSync(DOCS).filter((name) => /^benchmarks.*\.md$/.test(name));

it('are the six of the benchmarks', () => {
  expect(PAGES).toHaveLength(6);
});

const textOf = (name: string): string => readFileSync(join(DOCS, name), 'utf8');

it('README has the short result of docs/benchmarks.md, and an empty one while that has none', () => {
  const readme = readFileSync(resolve(DOCS, '../README.md'), 'utf8');
  expect(findBlock(readme)).toBe(findBlock(textOf('benchmarks.md')) ?? '');
});

describe.each(PAGES)('%s', (name) => {
  const text = textOf(name);
  const rounds = Number(/^- Rounds: (\d+),/m.exec(text)?.[1]);

  it('says how many rounds it is of', () => {
    expect(rounds).toBeGreaterThan(0);
  });

  it('has 95 % intervals only of enough rounds', () => {
    const columns = [...text.matchAll(/^\|.*(95 % interval(?! is)|minimum to maximum)/gm)];
    expect(columns.length).toBeGreaterThan(0);
    if (rounds >= INTERVAL_VALUES) return;
    expect(columns.filter(([line]) => line.includes('95 %'))).toEqual([]);
  });

  it('names the bounds behind a number', () => {
    expect(text.match(/^- (?:NOT )?met: .*\d \([\d.]+ to [\d.]+\)/gm) ?? []).toEqual([]);
  });

  it('opens with its short result, where it has one, and ends with targets', () => {
    const block = findBlock(text);
    if (block !== undefined) {
      expect(block).toMatch(/^\| ratio to kernel VXLAN \|.*\n\| --- .*\n\| `basic`.*\n\| `/);
      expect(text.slice(0, text.indexOf(block))).not.toMatch(/^(?!#|<!--).+/m);
    }
    const targets = text.indexOf('\n## Targets');
    if (block !== undefined && targets >= 0) expect(text.lastIndexOf('\n## ')).toBe(targets);
  });
});
