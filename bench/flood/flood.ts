/**
 * `npm run bench:flood`: how much of its throughput a TCP connection keeps while somebody who holds no
 * lease floods the tunnel's port, and how much of the loss is the tunnel's.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import type { DaemonMode } from '../../src/daemon/options.js';
import { systemError } from '../../src/errors.js';
import {
  attachContainer,
  startDaemons,
  TUNNEL_PORT,
  writeLeaseFile,
  type DaemonProcess,
} from '../../src/testbed/daemon-process.js';
import { inNamespace, Program, run } from '../../src/testbed/programs.js';
import { addHost, buildSwitch, hostPlan, removeContainer } from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { integer, listOf, runnable, type Context, type Result } from '../frame/frame.js';
import { FLANNELETTE, PROJECT } from '../frame/machine.js';
import { shuffled, xorshift32 } from '../frame/stats.js';
import { SITUATIONS, type FloodResult, type FloodRound, type Situation } from './flood-result.js';
import { renderFloodMarkdown, renderFloodText } from './flood-text.js';

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly rate: number;
  readonly modes: readonly DaemonMode[];
}

const MODES = ['basic', 'batch', 'offload', 'kernel'] as const;
const DEFAULT_MODES = 'basic,offload,kernel';
/** The flood begins so long before the measurement, and ends after it. */
const AROUND_MS = 500;

const [near, far, stranger] = [hostPlan(1), hostPlan(2), hostPlan(3)];

export const flood = runnable<Options>({
  id: 'flood',
  script: { name: 'bench:flood', program: describeCommand },
  needs: () => ({ nft: 'nftables' }),
  measure,
});

function describeCommand(): Command {
  const modes = listOf('--modes', MODES);
  return new Command('npm run bench:flood --')
    .description('Measures what a flood of datagrams that are refused leaves of the throughput.')
    .option('--rounds <n>', 'rounds, 1 to 1000', integer(1, 1_000), 8)
    .option('--seconds <n>', 'length of a measurement, 1 to 60', integer(1, 60), 2)
    .option('--rate <n>', 'datagrams a second, 1000 to 1000000', integer(1_000, 1_000_000), 100_000)
    .option(
      '--modes <names>',
      `comma-separated, of: ${MODES.join(', ')}`,
      modes,
      modes(DEFAULT_MODES),
    );
}

async function measure(options: Options, { machine, print, signal }: Context): Promise<Result> {
  await buildSwitch();
  for (const plan of [near, far, stranger]) await addHost(plan);
  await writeLeaseFile([near, far]);
  const random = xorshift32(Date.now());
  const rounds = new Map<DaemonMode, FloodRound[]>(options.modes.map((mode) => [mode, []]));
  for (let number = 1; number <= options.rounds; number += 1) {
    for (const mode of shuffled(options.modes, random)) {
      signal.throwIfAborted();
      print(`round ${number} of ${options.rounds}: ${mode}\n`);
      const order = shuffled(SITUATIONS, random);
      const round = await measureRound(options, mode, order, signal);
      print(
        `    ${SITUATIONS.map((name) => `${name} ${round.tcp[name].toFixed(2)}`).join(', ')} Gbit/s\n`,
      );
      rounds.get(mode)?.push(round);
    }
  }
  const { rate, seconds } = options;
  const modes = [...rounds].map(([mode, measured]) => ({ mode, rounds: measured }));
  const result: FloodResult = { machine, rate, seconds, modes };
  return { text: renderFloodText(result), markdown: renderFloodMarkdown(result), data: result };
}

async function measureRound(
  options: Options,
  mode: DaemonMode,
  order: readonly Situation[],
  signal: AbortSignal,
): Promise<FloodRound> {
  const daemons = await startDaemons([near, far], { command: FLANNELETTE, mode });
  const [, receiver] = daemons;
  if (receiver === undefined) throw systemError('no daemons');
  try {
    for (const daemon of daemons) await attachContainer(daemon);
    const warm = await ping(near, far.containerAddress, {
      count: 5,
      intervalSeconds: 0.02,
      signal,
    });
    if (warm.received === 0) throw systemError(`mode ${mode} carries nothing`);
    const tcp = { quiet: 0, stopped: 0, refused: 0 };
    let [sent, refused] = [0, 0];
    for (const situation of order) {
      const before = await refusedBy(receiver);
      const found = await measureSituation(options, situation, signal);
      tcp[situation] = found.gbps;
      const counted = (await refusedBy(receiver)) - before;
      if (situation === 'refused') [sent, refused] = [found.sentPerSecond, counted / found.seconds];
      else if (counted > 0) throw systemError(`${situation}: ${counted} datagrams were refused`);
    }
    return { tcp, sent, refused };
  } finally {
    for (const plan of [near, far]) await removeContainer(plan);
    for (const daemon of daemons) await daemon.stop();
  }
}

interface Measured {
  readonly gbps: number;
  readonly sentPerSecond: number;
  /** Length of the flood. */
  readonly seconds: number;
}

async function measureSituation(
  { seconds, rate }: Options,
  situation: Situation,
  signal: AbortSignal,
): Promise<Measured> {
  const floodSeconds = seconds + (2 * AROUND_MS) / 1_000;
  if (situation === 'stopped') await stopFlood();
  const program = situation === 'quiet' ? undefined : startFlood(rate, floodSeconds);
  try {
    await delay(AROUND_MS, undefined, { signal });
    const { gbps } = await new IperfTarget(far).tcp(near, { seconds, signal });
    const code = (await program?.ended) ?? 0;
    if (code !== 0) throw systemError(`the flood failed: ${program?.stderr ?? ''}`);
    const sent = Number(program?.stdout ?? 0);
    return { gbps, sentPerSecond: sent / floodSeconds, seconds: floodSeconds };
  } finally {
    await program?.stop();
    if (situation === 'stopped') await inFar(['nft', 'delete', 'table', 'ip', 'flood']);
  }
}

function startFlood(rate: number, seconds: number): Program {
  const program = join(PROJECT, 'bench', 'flood', 'build', 'flood');
  const packet = [near.containerAddress, far.containerAddress];
  const argv = [program, far.address, String(TUNNEL_PORT), ...packet, String(rate)];
  return new Program(inNamespace(stranger.host, [...argv, String(seconds)]));
}

async function stopFlood(): Promise<void> {
  const rule = `ip saddr ${stranger.address} udp dport ${TUNNEL_PORT} drop`;
  const table = `table ip flood { chain first { type filter hook prerouting priority raw; ${rule}; }; }`;
  await inFar(['nft', table]);
}

async function inFar(argv: readonly string[]): Promise<void> {
  await run(inNamespace(far.host, argv));
}

/** Datagrams that the tunnel has refused because their sender holds no lease. */
async function refusedBy(daemon: DaemonProcess): Promise<number> {
  const threads = (await daemon.status()).dataPlane?.threads ?? [];
  return threads.reduce((sum, { drops }) => sum + (drops['unknown_source'] ?? 0), 0);
}
