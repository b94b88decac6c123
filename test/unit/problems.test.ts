import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { ProblemBoard, type Problem } from '../../src/problems.js';

const SHADOWED: Problem = {
  id: 'rule_shadowed',
  message: 'a rule stands before',
  remedy: 'iptables -D',
};
const REJECTED: Problem = { id: 'no_routes', message: 'every lease is rejected' };

function setUp() {
  const lines: Record<string, unknown>[] = [];
  const log = pino(
    { base: null },
    { write: (text: string) => void lines.push(JSON.parse(text) as Record<string, unknown>) },
  );
  return { board: new ProblemBoard(log), lines };
}

describe('ProblemBoard', () => {
  it('logs a problem when it is found and when it is gone, not each time it is looked for', () => {
    const { board, lines } = setUp();
    board.report('firewall', [SHADOWED]);
    board.report('firewall', [{ ...SHADOWED }]);
    board.report('firewall', []);
    board.report('firewall', []);
    expect(
      lines.map(({ level, msg, problem, remedy }) => ({ level, msg, problem, remedy })),
    ).toEqual([
      { level: 40, msg: SHADOWED.message, problem: SHADOWED.id, remedy: SHADOWED.remedy },
      { level: 30, msg: `no longer: ${SHADOWED.message}`, problem: SHADOWED.id, remedy: undefined },
    ]);
  });

  it('keeps the sources apart', () => {
    const { board } = setUp();
    board.report('firewall', [SHADOWED]);
    board.report('leases', [REJECTED]);
    board.report('firewall', []);
    expect(board.all).toEqual([REJECTED]);
  });

  it('logs a problem whose words changed, without calling it gone', () => {
    const { board, lines } = setUp();
    board.report('leases', [REJECTED]);
    board.report('leases', [{ ...REJECTED, message: 'three leases are rejected' }]);
    expect(lines.map(({ msg }) => msg)).toEqual([REJECTED.message, 'three leases are rejected']);
  });
});
