/** The sequence of one store: starts, then rounds of phases, then the comparison with the store. */
import { pause } from '../../src/abort.js';
import { systemError } from '../../src/errors.js';
import { Program, waitFor } from '../../src/testbed/programs.js';
import { addContainer, removeContainer } from '../../src/testbed/topology.js';
import { median, shuffled } from '../frame/stats.js';
import { BenchDaemon } from './daemon.js';
import { FAR, NEAR, ROUTES } from './network.js';
import { percentile, PingUntilReply, pingSeries } from '../frame/ping.js';
import type { Memory } from '../../src/testbed/proc.js';
import type { BenchStore, Place } from './stores.js';
import type { WriterOrder, WriterReport } from './writer-order.js';

interface Plan {
  readonly starts: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly changesPerSecond: number;
  /** The command that is flannelette, and the writing process. */
  readonly command: readonly string[];
  readonly writer: readonly string[];
  readonly random: () => number;
  readonly progress: (text: string) => void;
  readonly signal: AbortSignal;
}

/** One start, in milliseconds from the start of the process. */
export interface Start {
  readonly readyMs: number;
  /** Until the first packet was answered through the lookup of the last subnet. */
  readonly forwardsMs: number;
  readonly memory: Memory;
}

export interface Starts {
  /** Only the two hosts have leases in the store. */
  readonly empty: readonly { readonly readyMs: number; readonly memory: Memory }[];
  readonly full: readonly Start[];
  /** As full, with the leases of the run before kept beside subnet.env; etcd only. */
  readonly remembered: readonly Start[];
}

export const PHASES = ['quiet', 'control', 'control again', 'changing'] as const;
export type PhaseName = (typeof PHASES)[number];

export interface Phase {
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly sent: number;
  readonly lost: number;
  /** CPU seconds a second, mean of the two daemons. */
  readonly cpu: number;
  /** Changes a second that the writer achieved; 0 when there was none. */
  readonly changesPerSecond: number;
  /** From the last change to the later daemon's complete table; undefined when none was followed. */
  readonly lagMs: number | undefined;
  /** The larger of the two daemons, in bytes. */
  readonly rss: number;
}

export type LeaseRound = Readonly<Record<PhaseName, Phase>>;

export interface StoreResult {
  readonly store: BenchStore['name'];
  readonly how: string;
  readonly starts: Starts;
  readonly rounds: readonly LeaseRound[];
  /** After all rounds, the larger of the two daemons. */
  readonly memory: Memory;
  /** Routes that differ from the store at the end, of both daemons. */
  readonly differences: number;
}

const PING_INTERVAL_SECONDS = 0.01;
/** Between phases: what the one before left to do is done. */
const PAUSE_MS = 1_000;
/** More than the delay after which a change is remembered on disk. */
const SETTLE_MS = 6_000;

export async function measureStore(store: BenchStore, plan: Plan): Promise<StoreResult> {
  const mtu = 1_472;
  const far = await BenchDaemon.start(FAR, plan.command, store.flags('filled'));
  let near: BenchDaemon | undefined;
  try {
    await far.ready(ROUTES);
    for (const host of [NEAR, FAR]) await addContainer(host, `${host.bridgeAddress}/24`, mtu);
    const starts = await measureStarts(store, plan);
    near = await BenchDaemon.start(NEAR, plan.command, store.flags('filled'));
    await near.ready(ROUTES);
    const daemons = [near, far] as const;
    await wholePause(SETTLE_MS, plan.signal);
    const rounds: LeaseRound[] = [];
    for (let number = 1; number <= plan.rounds; number += 1) {
      rounds.push(await measureRound(store, daemons, plan, number));
    }
    await wholePause(SETTLE_MS, plan.signal);
    const memory = await largest(daemons);
    const differences = await countDifferences(store, daemons);
    return { store: store.name, how: store.how, starts, rounds, memory, differences };
  } finally {
    await Promise.allSettled([near?.stop(), far.stop()]);
    for (const host of [NEAR, FAR]) await removeContainer(host).catch(() => undefined);
  }
}

async function measureStarts(store: BenchStore, plan: Plan): Promise<Starts> {
  const empty: { readyMs: number; memory: Memory }[] = [];
  const full: Start[] = [];
  const remembered: Start[] = [];
  for (let number = 1; number <= plan.starts; number += 1) {
    plan.signal.throwIfAborted();
    const alone = await BenchDaemon.start(NEAR, plan.command, store.flags('empty'));
    try {
      empty.push({ readyMs: await alone.ready(1), memory: await alone.memory() });
    } finally {
      await alone.stop();
    }
    full.push(await measureStart(store, plan, true));
    if (store.name === 'etcd') remembered.push(await measureStart(store, plan, false));
    plan.progress(
      `${store.name}: start ${number} of ${plan.starts}: ready after ${full.at(-1)?.readyMs ?? '?'} ms\n`,
    );
  }
  return { empty, full, remembered };
}

async function measureStart(store: BenchStore, plan: Plan, fresh: boolean): Promise<Start> {
  const pings = new PingUntilReply(NEAR, FAR.containerAddress);
  try {
    const daemon = await BenchDaemon.start(NEAR, plan.command, store.flags('filled'), fresh);
    try {
      const readyMs = await daemon.ready(ROUTES);
      const memory = await daemon.memory();
      const forwardsMs = (await pings.firstReply(10_000)) - daemon.startedAt;
      return { readyMs, forwardsMs, memory };
    } finally {
      await daemon.stop();
    }
  } finally {
    await pings.stop();
  }
}

async function measureRound(
  store: BenchStore,
  daemons: readonly [BenchDaemon, BenchDaemon],
  plan: Plan,
  number: number,
): Promise<LeaseRound> {
  plan.progress(`${store.name}: round ${number} of ${plan.rounds}:`);
  const found = new Map<PhaseName, Phase>();
  for (const name of shuffled(PHASES, plan.random)) {
    const place = name === 'quiet' ? undefined : name === 'changing' ? 'watched' : 'control';
    const phase = await measurePhase(store, daemons, plan, place);
    found.set(name, phase);
    plan.progress(` ${name} ${phase.medianMs.toFixed(3)}/${phase.p99Ms.toFixed(2)} ms;`);
  }
  plan.progress('\n');
  return Object.fromEntries(found) as Record<PhaseName, Phase>;
}

async function measurePhase(
  store: BenchStore,
  daemons: readonly [BenchDaemon, BenchDaemon],
  plan: Plan,
  place: Place | undefined,
): Promise<Phase> {
  const { seconds, signal } = plan;
  await wholePause(PAUSE_MS, signal);
  const writer = place === undefined ? undefined : await startWriter(store, plan, place);
  try {
    const since = Date.now();
    const cpuBefore = await cpuSeconds(daemons);
    const wallBefore = performance.now();
    writer?.begin();
    const pings = await pingSeries(NEAR, FAR.containerAddress, {
      count: Math.round(seconds / PING_INTERVAL_SECONDS),
      intervalSeconds: PING_INTERVAL_SECONDS,
      signal,
    });
    const cpu = (await cpuSeconds(daemons)) - cpuBefore;
    const elapsed = (performance.now() - wallBefore) / 1_000;
    const report = await writer?.report();
    let lagMs: number | undefined;
    if (report !== undefined && place === 'watched') {
      const times = await Promise.all(daemons.map((one) => one.published(ROUTES, since)));
      lagMs = Math.max(0, Math.max(...times) - report.lastChangeAt);
    }
    if (pings.roundTrips.length === 0) throw systemError('the overlay carries nothing');
    return {
      medianMs: median(pings.roundTrips),
      p99Ms: percentile(pings.roundTrips, 0.99),
      sent: pings.sent,
      lost: pings.sent - pings.roundTrips.length,
      cpu: cpu / daemons.length / elapsed,
      changesPerSecond: report === undefined ? 0 : report.changes / report.seconds,
      lagMs,
      rss: (await largest(daemons)).rss,
    };
  } finally {
    await writer?.stop();
  }
}

interface Writer {
  begin(): void;
  report(): Promise<WriterReport>;
  stop(): Promise<unknown>;
}

async function startWriter(store: BenchStore, plan: Plan, place: Place): Promise<Writer> {
  const order: WriterOrder = {
    target: store.target(place),
    pace: store.pace(plan.changesPerSecond, plan.seconds),
    seed: 1 + Math.floor(plan.random() * 2 ** 31),
  };
  const program = new Program([...plan.writer, JSON.stringify(order)]);
  const line = (what: string, deadlineMs: number, expression: RegExp): Promise<string> =>
    waitFor(`the writing process: ${what}`, deadlineMs, async () => {
      const found = expression.exec(program.stdout)?.[0];
      if (found !== undefined) return found;
      if (program.running) return undefined;
      throw systemError(`the writing process ended: ${program.stderr.trim().slice(0, 900)}`);
    });
  try {
    await line('ready', 20_000, /^ready$/m);
  } catch (error) {
    await program.stop();
    throw error;
  }
  return {
    begin: () => {
      program.kill('SIGUSR2');
    },
    report: async () => JSON.parse(await line('its report', 60_000, /^\{.*\}$/m)) as WriterReport,
    stop: () => program.stop(),
  };
}

async function countDifferences(
  store: BenchStore,
  daemons: readonly BenchDaemon[],
): Promise<number> {
  const leases = await store.leases();
  let differences = 0;
  for (const daemon of daemons) {
    const { routes } = await daemon.status();
    const holders = new Map(routes.map(({ subnet, nextHop }) => [subnet, nextHop]));
    for (const [key, holder] of leases) {
      const subnet = key.replace('-', '/');
      if (subnet === daemon.plan.subnet) continue;
      if (holders.get(subnet) !== holder) differences += 1;
      holders.delete(subnet);
    }
    differences += holders.size;
  }
  return differences;
}

async function cpuSeconds(daemons: readonly BenchDaemon[]): Promise<number> {
  const each = await Promise.all(daemons.map((daemon) => daemon.cpuSeconds()));
  return each.reduce((sum, one) => sum + one, 0);
}

async function largest(daemons: readonly BenchDaemon[]): Promise<Memory> {
  const each = await Promise.all(daemons.map((daemon) => daemon.memory()));
  return {
    rss: Math.max(...each.map(({ rss }) => rss)),
    peak: Math.max(...each.map(({ peak }) => peak)),
  };
}

/** Rejects with the signal's reason when it aborts. */
async function wholePause(ms: number, signal: AbortSignal): Promise<void> {
  await pause(ms, signal);
  signal.throwIfAborted();
}
