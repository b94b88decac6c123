/** docs/packet-rules.md names tests that exist. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const TEXT = read('docs/packet-rules.md');
const [PROVEN = '', WITHOUT = ''] = TEXT.split('## Without a test');

const RULES = rowsOf(PROVEN);
const PROOFS = RULES.flatMap(([rule, cell]) =>
  proofsIn(cell).map((proof) => [rule, ...proof] as const),
);

/** Cells of the rows of all tables; without their heads. */
function rowsOf(text: string): (readonly [string, string])[] {
  return [...text.matchAll(/^\| (.+?) \| (.+) \|$/gm)].flatMap(([, first = '', second = '']) =>
    second === 'proven by' || second === 'why' ? [] : [[first, second] as const],
  );
}

/** Files, and what the test's name holds. */
function proofsIn(cell: string): (readonly [string, string])[] {
  return [...cell.matchAll(/`(test\/[^`]+)`: ([^;|]+)/g)].map(
    ([, file = '', name = '']) => [file, name.trim()] as const,
  );
}

/** Names of tests and groups in a file; C++ may write one in pieces. */
function namesIn(file: string): string[] {
  const text = read(file).replaceAll(/"\s*\n\s*"/g, '');
  const names = /(?:\b(?:it|describe)\b[^'"`]*?\(|TEST_CASE\()\s*(['"`])((?:\\.|(?!\1).)*)\1/gs;
  const each = /\]\)?(?: as const)?\)\(\s*(['"`])((?:\\.|(?!\1).)*)\1/gs;
  return [...text.matchAll(names), ...text.matchAll(each)].map(([, , name = '']) => name);
}

describe('docs/packet-rules.md', () => {
  it('has a proof in every row, or says why there is none', () => {
    expect(RULES.length).toBeGreaterThan(50);
    for (const [rule, cell] of RULES) {
      expect([rule, proofsIn(cell).length === cell.split('; ').length]).toEqual([rule, true]);
    }
    for (const [rule, why] of rowsOf(WITHOUT)) expect([rule, why !== '']).toEqual([rule, true]);
  });

  it.each(PROOFS)('%s: %s has "%s"', (_rule, file, name) => {
    expect(namesIn(file).filter((found) => found.includes(name))).not.toEqual([]);
  });
});
