/**
 * A third host that joins, leaves and comes back, while pings run between the first two.
 *
 *   join:   daemon started -> subnet.env -> docker0 and container-3 -> everybody reaches everybody
 *   leave:  daemon stopped, lease removed -> no host has a route to it, and containers 1 and 2 see what
 *           the backend has for a host that is gone: "Destination Net Unreachable", or nothing
 *   return: daemon started again -> the same subnet, everybody reaches everybody
 *
 * Each is timed from its first action to the last container that sees the result.
 */
import { setTimeout as delay } from 'node:timers/promises';
import {
  attachContainer,
  endedEarly,
  startDaemons,
  type DaemonProcess,
  type DaemonSettings,
} from '../../testbed/daemon-process.js';
import type { LabBackend } from '../backends/backend.js';
import { inNamespace, run } from '../../testbed/programs.js';
import type { LabStore } from './lab-store.js';
import { addHost, hostPlan, type HostPlan } from '../../testbed/topology.js';
import { PingStream, probe, type ProbeOutcome } from '../../testbed/traffic.js';

/** Each change must be seen within this. */
export const CHANGE_LIMIT_SECONDS = 5;
/** How long the lab waits before it gives up; what comes too late is still measured. */
export const GIVE_UP_SECONDS = 10;

export interface Change {
  /** Undefined when it was given up. */
  readonly seconds: number | undefined;
  /** Who had not seen it when it was given up, and what they saw instead. */
  readonly pending: readonly string[];
}

export interface ThirdHostResult {
  /** Between the first two hosts all the while. */
  readonly meanwhile: { readonly sent: number; readonly received: number };
  readonly joined: Change;
  readonly left: Change;
  readonly returned: Change;
}

export interface Stage {
  readonly near: HostPlan;
  readonly far: HostPlan;
  readonly store: LabStore;
  /** The backend as it stands on them. */
  readonly asFound: readonly [LabBackend, LabBackend];
  readonly settings: (plan: HostPlan) => DaemonSettings;
  /** Every daemon that is meant to run now; kept up to date here. */
  readonly running: Set<DaemonProcess>;
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

export const THIRD_HOST = hostPlan(3);

export async function runThirdHost(stage: Stage): Promise<ThirdHostResult> {
  const { near, far, progress, signal } = stage;
  await addHost(THIRD_HOST);
  const stream = new PingStream(near, far.containerAddress, { signal });
  try {
    progress('a third host, 10.168.0.4, joins while container-1 pings container-2');
    const { daemon, change: joined } = await join(stage);
    progress('the third host leaves: daemon stopped, lease removed');
    const left = await leave(stage, daemon);
    progress('the third host comes back');
    const returned = await comeBack(stage);
    return { meanwhile: await stream.end(), joined, left, returned };
  } finally {
    await stream.end().catch(() => undefined);
  }
}

/** Sets the third host's daemon and container up; its namespace must be there. */
export async function join(stage: Stage): Promise<{ daemon: DaemonProcess; change: Change }> {
  const started = performance.now();
  const daemon = await startThird(stage);
  await attachContainer(daemon);
  const signal = endedEarly([daemon], stage.signal);
  return { daemon, change: await awaitChange(started, everyWay(stage), isAnswered, signal) };
}

/** Stops the third host's daemon and removes its lease. */
export async function leave(stage: Stage, daemon: DaemonProcess): Promise<Change> {
  const started = performance.now();
  stage.running.delete(daemon);
  await daemon.stop();
  await stage.store.remove(THIRD_HOST);
  return awaitChange(started, waysThere(stage), isGone(stage), stage.signal);
}

async function comeBack(stage: Stage): Promise<Change> {
  const started = performance.now();
  const daemon = await startThird(stage);
  const signal = endedEarly([daemon], stage.signal);
  return awaitChange(started, everyWay(stage), isAnswered, signal);
}

async function startThird({ store, settings, running }: Stage): Promise<DaemonProcess> {
  await store.add(THIRD_HOST);
  const [daemon] = await startDaemons([THIRD_HOST], settings);
  if (daemon === undefined) throw new Error('one host, one daemon');
  running.add(daemon);
  return daemon;
}

interface Way {
  readonly from: HostPlan;
  readonly to: HostPlan;
}

function waysThere({ near, far }: Stage): Way[] {
  return [near, far].map((from) => ({ from, to: THIRD_HOST }));
}

function everyWay(stage: Stage): Way[] {
  const there = waysThere(stage);
  return [...there, ...there.map(({ from, to }) => ({ from: to, to: from }))];
}

/** What a way saw that is not wanted; undefined when it saw what is. */
type Look = (way: Way, signal: AbortSignal) => Promise<string | undefined>;

function saw(wanted: ProbeOutcome): Look {
  return async ({ from, to }, signal) => {
    const outcome = await probe(from, to.containerAddress, signal);
    return outcome === wanted ? undefined : outcome;
  };
}

const isAnswered = saw('answered');

/** Silence alone proves nothing: the host has taken its device with it. */
function isGone({ near, asFound: [nearBackend, farBackend] }: Stage): Look {
  return async (way, signal) => {
    const { stdout } = await run(
      inNamespace(way.from.host, ['ip', 'route', 'show', way.to.subnet]),
    );
    if (stdout.trim() !== '') return `a route, ${stdout.trim()}`;
    const { afterLeave } = way.from === near ? nearBackend : farBackend;
    return saw(afterLeave)(way, signal);
  };
}

/** Asks until each way has once seen what is wanted. */
async function awaitChange(
  started: number,
  ways: readonly Way[],
  look: Look,
  signal: AbortSignal,
): Promise<Change> {
  let pending = ways.map((way) => ({ ...way, saw: undefined as string | undefined }));
  for (;;) {
    const seen = pending.map(async (way) => ({ ...way, saw: await look(way, signal) }));
    pending = (await Promise.all(seen)).filter((way) => way.saw !== undefined);
    const seconds = (performance.now() - started) / 1_000;
    if (pending.length === 0) return { seconds, pending: [] };
    if (seconds > GIVE_UP_SECONDS) {
      const say = ({ from, to, saw }: (typeof pending)[number]): string =>
        `${from.container} to ${to.container}: ${String(saw)}`;
      return { seconds: undefined, pending: pending.map(say) };
    }
    await delay(20);
  }
}
