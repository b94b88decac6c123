import { expect, it } from 'vitest';
import type { FloodResult, FloodRound } from '../../../bench/flood/flood-result.js';
import { renderFloodMarkdown, renderFloodText } from '../../../bench/flood/flood-text.js';

const round = (quiet: number): FloodRound => ({
  tcp: { quiet, stopped: 0.8 * quiet, refused: 0.76 * quiet },
  sent: 100_000,
  refused: 99_990,
});

const result: FloodResult = {
  machine: {
    date: '2026-11-28',
    commit: 'abc',
    command: 'npm run bench:flood',
    kernel: '6.18.44',
    cpu: 'CPU',
    cpus: 2,
    node: 'v20.20.2',
    busyBefore: 0.01,
  },
  rate: 100_000,
  seconds: 2,
  modes: [
    { mode: 'basic', rounds: [1, 2, 3, 4, 5, 6].map(round) },
    { mode: 'kernel', rounds: [9, 10, 11, 12, 13, 14].map(round) },
  ],
};

it('has shares by round, and says which of the two targets a mode misses', () => {
  const text = renderFloodText(result);
  expect(text).toMatch(
    /basic +0\.80 +0\.80 to 0\.80 +0\.76 +0\.76 to 0\.76 +0\.95 +0\.95 to 0\.95/,
  );
  expect(text).toMatch(/kernel +11\.50 +9\.20 +8\.74 +100,000 +99,990/);
  expect(text).toContain(
    'NOT met: basic: 0.9 of TCP under 100,000 refused datagrams/s: 0.76\nmet: basic: 0.9 of what the machine has left: 0.95\n',
  );
});

it('is the same as Markdown', () => {
  const markdown = renderFloodMarkdown(result);
  expect(markdown).toMatch(/^# What a flood of refused datagrams leaves of the throughput\n/);
  expect(markdown).toContain(
    '| basic | 0.80 | 0.80 to 0.80 | 0.76 | 0.76 to 0.76 | 0.95 | 0.95 to 0.95 |',
  );
  expect(markdown).toContain('- NOT met: kernel: 0.9 of TCP');
});
