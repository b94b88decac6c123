/** The two tables of counters, the addon's and ours, and what follows from ours. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { COUNTERS, systemCalls } from '../../../src/dataplane/counters.js';
import { addCounters, retire } from '../../../src/dataplane/totals.js';
import { counters } from '../../support/fake-dataplane.js';

const ROOT = resolve(import.meta.dirname, '../../..');

it("have the same names as the addon's", () => {
  const header = readFileSync(join(ROOT, 'native', 'core', 'counters.h'), 'utf8');
  const names = Array.from(header.matchAll(/counter\(\w+, "(\w+)"\)/g), ([, name]) => name);
  expect(names.sort()).toEqual(Object.keys(COUNTERS).sort());
});

it('combine each value as the table says', () => {
  const numbers = Object.keys(COUNTERS).map((name, at) => [name, at + 1]);
  const more = Object.fromEntries(numbers) as Record<keyof typeof COUNTERS, number>;
  const one = counters('encapsulate', 0, { ...more, drops: { short: 1 }, batchSizes: [1, 2] });
  const [sum] = addCounters([one], [one]);
  for (const [name, { combined }] of Object.entries(COUNTERS)) {
    const value = more[name as keyof typeof COUNTERS];
    const expected = combined === 'greatest' ? value : 2 * value;
    expect([name, sum?.[name as keyof typeof COUNTERS]]).toEqual([name, expected]);
  }
  expect(sum).toMatchObject({ drops: { short: 2 }, batchSizes: [2, 4], queueDrops: 0 });
  expect(retire([one])).toEqual([{ ...one, ringBytes: 0, ringCapacityBytes: 0 }]);
  expect(systemCalls(one)).toBe(more.readCalls + more.writeCalls + more.pollCalls);
});
