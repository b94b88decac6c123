/**
 * Problems of the host or the store that hinder traffic although every part of the daemon does its
 * work: a firewall rule in front of ours, a route that leads elsewhere, a store whose every lease is
 * rejected. The part that sees one reports it here; the log, `flannelette status`, the detail of
 * /readyz and the metric `flannelette_problem` all show what is on the board.
 */
import type { Logger } from './log.js';

export interface Problem {
  /** Stable name in snake case, the label of the metric, e.g. `forward_rule_unreachable`. */
  readonly id: string;
  /** One line for an operator: what was found, and what it does to traffic. */
  readonly message: string;
  /** The shell command that mends it, when one does. */
  readonly remedy?: string;
}

export class ProblemBoard {
  readonly #log: Logger;
  readonly #bySource = new Map<string, readonly Problem[]>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * Replaces what `source` reported before. A problem that is new is logged as a warning, one that is
   * gone as information; what stays is not logged again. Cheap enough to be called at each check.
   */
  report(source: string, problems: readonly Problem[]): void {
    const before = this.#bySource.get(source) ?? [];
    this.#bySource.set(source, problems);
    for (const problem of problems) {
      if (before.some((known) => isSame(known, problem))) continue;
      const { id, message, remedy } = problem;
      this.#log.warn({ problem: id, ...(remedy === undefined ? {} : { remedy }) }, message);
    }
    for (const { id, message } of before) {
      if (problems.some((problem) => problem.id === id)) continue;
      this.#log.info({ problem: id }, `no longer: ${message}`);
    }
  }

  /** Every problem reported now, by source in the order of their first reports. */
  get all(): readonly Problem[] {
    return [...this.#bySource.values()].flat();
  }
}

function isSame(a: Problem, b: Problem): boolean {
  return a.id === b.id && a.message === b.message;
}
