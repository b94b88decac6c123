/** One round of one subject: it is set up, measured and taken down. */
import { systemError } from '../../src/errors.js';
import { readSnmp } from '../../src/testbed/snmp.js';
import { addContainer, removeContainer } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import type { Round } from './metrics.js';
import { largestMemory } from './observe.js';
import type { Scene, Step } from './steps.js';
import type { Subject, Underlay } from './subject.js';

interface RoundOptions {
  readonly steps: readonly Step[];
  readonly seconds: number;
  readonly perf: boolean;
  readonly signal: AbortSignal;
  /** Called after each step with its metrics. */
  readonly done: (step: Step, round: Round) => void;
}

export async function measure(
  subject: Subject,
  underlay: Underlay,
  options: RoundOptions,
): Promise<Round> {
  const { near, far } = subject.hosts ?? underlay;
  const mtu = subject.mtu(underlay.mtu);
  const overlay = await subject.setUp({ ...underlay, near, far });
  try {
    for (const plan of [near, far]) await addContainer(plan, `${plan.bridgeAddress}/24`, mtu);
    try {
      return await takeSteps({ subject, overlay, near, far, mtu, ...options }, options);
    } finally {
      for (const plan of [near, far]) await removeContainer(plan);
    }
  } finally {
    await overlay.tearDown();
  }
}

async function takeSteps(scene: Scene, { steps, done }: RoundOptions): Promise<Round> {
  const { subject, overlay, near, far, signal } = scene;
  const fragmentsBefore = await fragments(scene);
  // Neighbours are resolved and caches warm before anything counts.
  const warm = await ping(near, far.containerAddress, { count: 5, intervalSeconds: 0.02, signal });
  if (warm.received === 0) throw systemError(`${subject.name} carries nothing`);
  const round: Round = {};
  for (const step of steps) {
    signal.throwIfAborted();
    if (!step.applies(subject)) continue;
    const found = await step.measure(scene);
    Object.assign(round, found);
    done(step, found);
  }
  const made = (await fragments(scene)) - fragmentsBefore;
  if (made > 0) throw systemError(`${subject.name}: ${made} fragments: its MTU is too large`);
  if (round.rtt !== undefined && round.loadedRtt !== undefined) {
    round.rttGrowth = round.loadedRtt / round.rtt;
  }
  const memory = await largestMemory(overlay);
  if (memory !== undefined) {
    round.rss = memory.rss / 1e6;
    round.rssPeak = memory.peak / 1e6;
  }
  return round;
}

/** Fragments that hosts and containers have made so far. */
async function fragments({ near, far }: Scene): Promise<number> {
  const places = [near, far].flatMap(({ host, container }) => [host, container]);
  const counters = await Promise.all(places.map(readSnmp));
  return counters.reduce((sum, snmp) => sum + snmp('Ip', 'FragCreates'), 0);
}
