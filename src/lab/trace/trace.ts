/** `flannelette trace` as the command line calls it: one packet in the lab, followed hop by hop. */
import { access, constants, stat } from 'node:fs/promises';
import { release } from 'node:os';
import { dirname } from 'node:path';
import type { DaemonMode } from '../../daemon/options.js';
import { ExitCode, inputError, messageOf, systemError } from '../../errors.js';
import { writeOutput } from '../../host/atomic-file.js';
import { Capture } from '../../testbed/capture.js';
import { waitFor } from '../../testbed/programs.js';
import { TUNNEL_PORT } from '../../testbed/daemon-process.js';
import { ownCommand, runIsolatedPart, tellParent, type Output } from '../../testbed/isolated.js';
import {
  checkIsolation,
  runIsolated,
  stopSignal,
  type IsolatedMessage,
} from '../../testbed/isolate.js';
import { inLab, whileRunning, type StandingLab } from '../scenario/lab.js';
import { VXLAN_PORT } from '../../testbed/wire/vxlan.js';
import type { LabBackend } from '../backends/backend.js';
import { writePcapng } from '../../testbed/wire/pcapng.js';
import { readDecisions } from './decisions.js';
import { follow, nameOf, requireWhole, type Followed, type Sighting } from './follow.js';
import { checkHops, joinHops, sightingsOf, type Trace } from './trace-hops.js';
import { toJson } from './trace-json.js';
import { planTrace, type TracePlan, type TraceRequest } from './plan.js';
import { sendOne, warmUp } from './send.js';
import { renderTrace } from './trace-text.js';
import { chooseCarriages } from './carriage/choose.js';
import { isTap, type Tap } from './step.js';
import { wayOf } from './way.js';

export interface TraceOptions extends TraceRequest {
  readonly backend: LabBackend;
  readonly mode: DaemonMode;
  /** Print one JSON object as the last line; all else goes to standard error. */
  readonly json: boolean;
  /** File for the packet's captures, as pcapng; `-` is standard output, which nothing else is written to. */
  readonly pcap: string | undefined;
  /** This process is the isolated one. */
  readonly isolated: boolean;
}

/** `argv` is what followed `trace` on the command line. */
export async function traceCommand(
  options: TraceOptions,
  argv: readonly string[],
): Promise<ExitCode> {
  const { backend, mode, json, pcap } = options;
  const plan = planTrace(options, backend.overhead);
  if (options.isolated) {
    const about = { ...addressesOf(plan), backend: backend.type, mode };
    const work = (output: Output): Promise<ExitCode> => scenario(plan, options, output);
    return runIsolatedPart(json, about, work, json || pcap === STDOUT);
  }
  if (pcap === STDOUT) checkStdout(json);
  else if (pcap !== undefined) await checkWritable(pcap);
  await checkIsolation();
  let file: Buffer | undefined;
  const code = await runIsolated<IsolatedMessage>(
    [...ownCommand(), 'trace', ...argv, '--isolated'],
    {
      hear: (message) => {
        if (message.type === 'file') file = Buffer.from(message.base64, 'base64');
      },
    },
  );
  if (pcap !== undefined && file !== undefined) await writeCapture(pcap, file);
  return code;
}

/** The name of standard output, as for tcpdump. */
const STDOUT = '-';

function checkStdout(json: boolean): void {
  if (json)
    throw inputError('--pcap', STDOUT, 'a file beside --json, which is for standard output');
  if (process.stdout.isTTY) {
    throw inputError('--pcap', STDOUT, 'a file or a pipe: standard output is a terminal');
  }
}

function addressesOf({ from, to, proto, size }: TracePlan): object {
  return { from: from.containerAddress, to: to.containerAddress, proto, size };
}

/** Says before anything is built that the file could not be written after. */
async function checkWritable(path: string): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  const target = there === undefined ? dirname(path) : path;
  const writable = access(target, constants.W_OK).then(
    () => true,
    () => false,
  );
  if (there?.isDirectory() !== true && (await writable)) return;
  throw inputError('--pcap', path, 'a file that can be written, in a directory that is there');
}

async function writeCapture(path: string, file: Buffer): Promise<void> {
  if (path === STDOUT) {
    await new Promise((resolve) => process.stdout.write(file, resolve));
    return;
  }
  try {
    await writeOutput(path, file);
  } catch (error) {
    throw systemError(`--pcap: ${path} cannot be written: ${messageOf(error)}`, { cause: error });
  }
}

type Choice = Pick<TraceOptions, 'backend' | 'mode'>;

async function scenario(
  plan: TracePlan,
  { backend, mode }: Choice,
  output: Output,
): Promise<ExitCode> {
  const { print, progress } = output;
  const signal = stopSignal();
  const command = ownCommand();
  const lab = { backend, modes: [mode], store: 'file', command, progress, signal } as const;
  const trace = await inLab(lab, (standing) =>
    whileRunning(standing, signal, async (stop) => {
      progress('one ping, so that every neighbour is known; then the captures');
      return traceOne(standing, plan, mode, stop);
    }),
  );
  print(`\n${renderTrace(trace)}\n`);
  const base64 = toPcapng(sightingsOf(trace.hops)).toString('base64');
  await tellParent({ type: 'file', base64 } satisfies IsolatedMessage);
  output.json(toJson(trace));
  return checkHops(trace).every(({ ok }) => ok) ? ExitCode.ok : ExitCode.failure;
}

async function traceOne(
  { near, daemons, mtu, backend }: StandingLab,
  plan: TracePlan,
  mode: DaemonMode,
  signal: AbortSignal,
): Promise<Trace> {
  await warmUp(plan, signal);
  const statuses = await Promise.all(daemons.map((daemon) => daemon.status()));
  const [first, second] = plan.from.number === near.number ? statuses : statuses.toReversed();
  if (first === undefined || second === undefined) throw new Error('two hosts, two daemons');
  const carriages = chooseCarriages(plan, first, second);
  const taps = wayOf(plan, carriages).filter(isTap);
  const sightings = requireWhole(await captureOne(plan, taps, signal));
  const decisions = await readDecisions({ plan, carriages, sightings, near: first, far: second });
  const hops = joinHops(plan, carriages, sightings, decisions);
  return { plan, backend, carriages, mtu, mode, kernel: release(), hops };
}

/** Time for the packet to be in every capture's file, in milliseconds. */
const SETTLE_MS = 5_000;

/** Sends the packet while every device on its way is captured. */
async function captureOne(
  plan: TracePlan,
  taps: readonly Tap[],
  signal: AbortSignal,
): Promise<Followed> {
  const captures = await Capture.startAll(
    taps.map(({ namespace, device }) => ({ namespace, device, filter: filterOf(plan) })),
  );
  const followed = async (): Promise<Followed> => {
    const files = await Promise.all(captures.map((capture) => capture.read()));
    return follow(
      taps.flatMap((tap, index) => {
        const file = files[index];
        return file === undefined ? [] : { tap, ...file };
      }),
      plan,
    );
  };
  try {
    await sendOne(plan, signal);
    // tcpdump drops what it has not read yet when it is ended.
    await waitFor('the captures', SETTLE_MS, async () => {
      signal.throwIfAborted();
      return (await followed()).missing.length === 0 ? true : undefined;
    }).catch(() => undefined);
    signal.throwIfAborted();
    return await followed();
  } finally {
    await Promise.all(captures.map((capture) => capture.end()));
  }
}

function filterOf({ from, to, proto }: TracePlan): string {
  const inner = `${proto} and host ${from.containerAddress} and host ${to.containerAddress}`;
  const tunnels = `( udp port ${TUNNEL_PORT} or udp port ${VXLAN_PORT} )`;
  return `( ${inner} ) or ( ${tunnels} and host ${from.address} and host ${to.address} )`;
}

/** An interface for each hop, named as in the text. */
function toPcapng(sightings: readonly Sighting[]): Buffer {
  return writePcapng(
    'flannelette trace',
    sightings.map(({ tap, linkType }) => ({ name: nameOf(tap), linkType })),
    sightings.map(({ tap, timeNs, frame }, index) => ({
      at: index,
      timeNs,
      frame,
      direction: tap.direction,
      comment: `${nameOf(tap)} ${tap.direction}`,
    })),
  );
}
