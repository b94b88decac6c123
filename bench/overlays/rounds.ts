/** Interleaved rounds on one underlay: each takes every subject once, in random order. */
import { messageOf } from '../../src/errors.js';
import { writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { addHost, hostPlan, removeHost } from '../../src/testbed/topology.js';
import { congestionControl } from '../../src/testbed/traffic.js';
import type { UnderlayName } from './overlays-result.js';
import type { SubjectRounds } from './overlays-summary.js';
import { fixed } from '../frame/table.js';
import { measure } from './measure.js';
import { METRICS, type Round } from './metrics.js';
import { shuffled, xorshift32 } from '../frame/stats.js';
import type { Step } from './steps.js';
import type { Subject, Underlay } from './subject.js';

interface RoundsOptions {
  readonly underlay: UnderlayName;
  /** MTU of the hosts' eth0 in bytes. */
  readonly mtu: number;
  readonly subjects: readonly Subject[];
  readonly steps: readonly Step[];
  readonly rounds: number;
  /** Length of a throughput measurement. */
  readonly seconds: number;
  /** perf counts the system calls of the ends. */
  readonly perf: boolean;
  readonly print: (text: string) => void;
  readonly signal: AbortSignal;
}

interface MeasuredRounds {
  readonly subjects: readonly SubjectRounds[];
  /** What had to be measured again, with the reason. */
  readonly repeated: readonly string[];
  /** Name of TCP's congestion control. */
  readonly congestion: string;
}

/** The switch stands; the hosts are made, and removed in the end. */
export async function measureRounds(options: RoundsOptions): Promise<MeasuredRounds> {
  const { underlay: name, subjects, mtu, print, signal } = options;
  const [near, far] = [hostPlan(1), hostPlan(2)];
  for (const plan of [near, far]) await addHost(plan, { mtu, offload: name === 'offload' });
  const congestion = (await congestionControl(near.host)) ?? "the kernel's default";
  await writeLeaseFile([near, far]);
  const random = xorshift32(Date.now());
  const repeated: string[] = [];
  const rounds = new Map<Subject, Round[]>(subjects.map((subject) => [subject, []]));
  for (let number = 1; number <= options.rounds; number += 1) {
    for (const [index, subject] of shuffled(subjects, random).entries()) {
      signal.throwIfAborted();
      const place = `${name}, round ${number} of ${options.rounds}: ${subject.name}`;
      print(`${place} (${index + 1} of ${subjects.length})\n`);
      const round = await measureTwice(options, subject, { near, far, mtu }, (why) =>
        repeated.push(`${place}: ${why}`),
      );
      rounds.get(subject)?.push(round);
    }
  }
  for (const plan of [near, far]) await removeHost(plan);
  const described = [...rounds].map(([subject, measured]) => ({
    name: subject.name,
    what: subject.what,
    mtu: subject.mtu(mtu),
    kernelOnly: subject.kernelOnly === true,
    rounds: measured,
  }));
  return { subjects: described, repeated, congestion };
}

/** Reports a failure and measures again, once: one lost connection must not cost a whole run. */
async function measureTwice(
  { steps, seconds, perf, print, signal }: RoundsOptions,
  subject: Subject,
  underlay: Underlay,
  failed: (why: string) => void,
): Promise<Round> {
  const done = (step: Step, found: Round): void => {
    print(`    ${describeStep(step, found)}\n`);
  };
  const once = { steps, seconds, perf, signal, done };
  try {
    return await measure(subject, underlay, once);
  } catch (error) {
    signal.throwIfAborted();
    failed(messageOf(error));
    print(`    failed, measured again: ${messageOf(error)}\n`);
    return measure(subject, underlay, once);
  }
}

function describeStep({ key }: Step, found: Round): string {
  const metric = METRICS.find((candidate) => candidate.key === key);
  if (metric === undefined) return '';
  return `${metric.title}: ${fixed(found[key] ?? NaN, metric.digits)} ${metric.unit}`;
}
