/** From rounds to statements: estimates, paired ratios to VXLAN, and the first targets. */
import type { Machine } from '../command.js';
import { METRICS, type Metric, type Round } from '../lab/measure.js';
import { estimate, pairedRatio, type Estimate } from '../lab/stats.js';
import { BASELINE } from '../lab/subjects.js';

export interface Environment extends Machine {
  readonly underlayMtu: number;
  readonly underlayOffload: boolean;
  readonly rounds: number;
  readonly seconds: number;
}

export interface SubjectRounds {
  readonly name: string;
  readonly what: string;
  readonly mtu: number;
  readonly rounds: readonly Round[];
}

export interface Row {
  readonly subject: string;
  readonly value: Estimate;
  /** To the baseline, paired by round; absent without a baseline. */
  readonly ratio: Estimate | undefined;
}

export interface MetricTable {
  readonly metric: Metric;
  readonly rows: readonly Row[];
}

export function summarise(subjects: readonly SubjectRounds[]): MetricTable[] {
  const baseline = subjects.find(({ name }) => name === BASELINE);
  return METRICS.map((metric) => {
    const of = (subject: SubjectRounds): number[] =>
      subject.rounds.map((round) => round[metric.key]);
    return {
      metric,
      rows: subjects.map((subject) => ({
        subject: subject.name,
        value: estimate(of(subject)),
        ratio: baseline === undefined ? undefined : pairedRatio(of(subject), of(baseline)),
      })),
    };
  });
}

export interface Target {
  readonly text: string;
  readonly ratio: Estimate;
  readonly met: boolean;
}

const TARGETS = [
  { subject: 'batch', key: 'tcpGbps', text: 'TCP in batch >= 0.10 x VXLAN', least: 0.1 },
  {
    subject: 'batch',
    key: 'udpPps',
    text: '64-byte UDP in batch >= 0.5 x VXLAN received packets',
    least: 0.5,
  },
] as const;

/** Met when the median of the paired ratios is; targets whose subjects did not run are left out. */
export function judge(tables: readonly MetricTable[]): Target[] {
  return TARGETS.flatMap(({ subject, key, text, least }) => {
    const table = tables.find(({ metric }) => metric.key === key);
    const ratio = table?.rows.find((row) => row.subject === subject)?.ratio;
    return ratio === undefined ? [] : [{ text, ratio, met: ratio.median >= least }];
  });
}
