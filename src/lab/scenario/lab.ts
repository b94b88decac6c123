/** The lab's scenario: build, forward, measure, check. Runs in an isolated process. */
import { release } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { DaemonMode } from '../../daemon/options.js';
import type { LabBackend } from '../backends/backend.js';
import { asFound } from '../backends/fou.js';
import { messageOf, systemError } from '../../errors.js';
import { checkCapture, startCaptures } from '../../testbed/capture.js';
import { waitFor } from '../../testbed/programs.js';
import {
  attachContainer,
  endedEarly,
  startDaemons,
  type DaemonProcess,
  type DaemonSettings,
} from '../../testbed/daemon-process.js';
import { countPackets, readHops, since, together } from './hops.js';
import type { LabResult } from './report.js';
import { checkRoutes } from './routes-check.js';
import { openStore, type LabStore, type StoreKind } from './lab-store.js';
import { runThirdHost, THIRD_HOST } from './third-host.js';
import { addHost, buildSwitch, hostPlan, type HostPlan } from '../../testbed/topology.js';
import { IperfTarget, ping, type PingResult } from '../../testbed/traffic.js';

/** IPv4 header without options and ICMP header. */
const IP_ICMP_BYTES = 28;

export interface LabPlan {
  readonly backend: LabBackend;
  /** Of host 1, host 2 and so on, and again from the first; at least one. */
  readonly modes: readonly DaemonMode[];
  readonly store: StoreKind;
  /** The command that is flannelette. */
  readonly command: readonly string[];
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface LabScenario extends LabPlan {
  /** Length of each throughput measurement. */
  readonly seconds: number;
}

const UDP_PAYLOAD_BYTES = 64;
const PINGS = 20;
/** Each host has a loopback of its own, so all daemons can use the same port. */
const HEALTHZ = ['--healthz-ip=127.0.0.1', '--healthz-port=10245'];

export interface StandingLab {
  readonly near: HostPlan;
  readonly far: HostPlan;
  /** The daemons of the first two hosts; they run all the time. */
  readonly daemons: readonly [DaemonProcess, DaemonProcess];
  /** Every daemon that is meant to run now, the third host's included. */
  readonly running: Set<DaemonProcess>;
  /** As it was asked for. */
  readonly backend: LabBackend;
  /** As it stands on the first two hosts. */
  readonly asFound: readonly [LabBackend, LabBackend];
  readonly settings: (plan: HostPlan) => DaemonSettings;
  readonly store: LabStore;
  readonly mtu: number;
}

/** Sets the lab up, works in it, and ends the daemons as an operator would. */
export async function inLab<T>(plan: LabPlan, work: (lab: StandingLab) => Promise<T>): Promise<T> {
  const lab = await setUpLab(plan);
  let result: T;
  try {
    result = await work(lab);
  } catch (error) {
    // What failed first is the news; how the daemons end now is not.
    await lowerLab(lab).catch(() => undefined);
    throw error;
  }
  await lowerLab(lab);
  return result;
}

/** Sets everything up: switch, store, two hosts, daemons, and containers as subnet.env tells. */
async function setUpLab(scenario: LabPlan): Promise<StandingLab> {
  const [near, far] = [hostPlan(1), hostPlan(2)];
  scenario.progress('two hosts on a switch: 10.168.0.2 and 10.168.0.3');
  await buildSwitch();
  for (const plan of [near, far]) await addHost(plan);
  if (scenario.store === 'etcd') scenario.progress('a real etcd at the switch: 10.168.0.1:2379');
  const { backend } = scenario;
  const store = await openStore(scenario.store, backend);
  const running = new Set<DaemonProcess>();
  try {
    const where = store.kind === 'etcd' ? 'etcd' : 'one lease file';
    scenario.progress(`a daemon on each host, ${describeBackend(scenario)}, ${where}`);
    for (const plan of [near, far]) await store.add(plan);
    const { command } = scenario;
    const common = { command, storeFlags: store.daemonFlags, flags: HEALTHZ };
    const settings = (plan: HostPlan): DaemonSettings => ({
      ...common,
      mode: modeOf(scenario, plan),
    });
    const daemons = await startDaemons([near, far], settings);
    for (const daemon of daemons) running.add(daemon);
    const [nearDaemon, farDaemon] = daemons;
    if (nearDaemon === undefined || farDaemon === undefined)
      throw new Error('two hosts, two daemons');
    scenario.signal.throwIfAborted();
    await awaitRoutes(daemons, backend, scenario.signal);
    scenario.progress('docker0 and a container on each: 100.96.1.2 and 100.96.2.3');
    const mtu = await attachContainer(nearDaemon);
    await attachContainer(farDaemon);
    return {
      ...{ near, far, running, backend, settings, store, mtu },
      daemons: [nearDaemon, farDaemon],
      asFound: [await asFound(backend, nearDaemon), await asFound(backend, farDaemon)],
    };
  } catch (error) {
    // Daemons without their store only wait: its end is the cause.
    const cause = await Promise.race([store.ended(), delay(0)]);
    await Promise.allSettled([...running].map((daemon) => daemon.program.stop()));
    await store.close();
    throw cause ?? error;
  }
}

/** The mode of a host's daemon. */
export function modeOf({ modes }: Pick<LabPlan, 'modes'>, { number }: HostPlan): DaemonMode {
  const mode = modes[(number - 1) % modes.length];
  if (mode === undefined) throw new Error('a lab has at least one mode');
  return mode;
}

/** `backend udp, mode auto`. */
export function describeBackend({ backend, modes }: Pick<LabPlan, 'backend' | 'modes'>): string {
  const direct = backend.directRouting ? ' with DirectRouting' : '';
  const mode = backend.hasModes ? `, mode ${modes.join(', ')}` : '';
  return `backend ${backend.type}${direct}${mode}`;
}

/** How long hosts may take to learn of each other, in milliseconds. */
const LEARN_MS = 10_000;

/** Until each daemon has a route to the other: a VXLAN host is one only when its MAC address is known. */
async function awaitRoutes(
  daemons: readonly DaemonProcess[],
  { directRouting, type }: LabBackend,
  signal: AbortSignal,
): Promise<void> {
  const way = directRouting || type === 'host-gw' ? 'direct' : 'tunnel';
  for (const daemon of daemons) {
    await waitFor(`the routes of ${daemon.plan.host}`, LEARN_MS, async () => {
      signal.throwIfAborted();
      const { routes } = await daemon.status();
      const found = daemons.every(
        ({ plan }) =>
          plan === daemon.plan ||
          routes.some((route) => route.subnet === plan.subnet && route.way === way),
      );
      return found ? true : undefined;
    });
  }
}

/** Works while all daemons run; rejects at once when one or etcd ends meanwhile, with what it said. */
export async function whileRunning<T>(
  lab: StandingLab,
  stop: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const signal = endedEarly([...lab.daemons, lab.store], stop);
  try {
    return await work(signal);
  } catch (error) {
    // A daemon's end is the cause of what failed with it, and its news may be a moment behind.
    await waitFor('the end', 200, () => signal.aborted || undefined).catch(() => undefined);
    signal.throwIfAborted();
    throw error;
  }
}

/** Measures and checks. */
export async function runScenario(lab: StandingLab, scenario: LabScenario): Promise<LabResult> {
  return whileRunning(lab, scenario.signal, (signal) => measure(lab, { ...scenario, signal }));
}

async function measure(lab: StandingLab, scenario: LabScenario): Promise<LabResult> {
  const { near, far, daemons, store, mtu } = lab;
  const [backend] = lab.asFound;
  const { progress, signal, seconds } = scenario;
  const load = { seconds, signal };

  progress(`capture of ${backend.format.noun}s while pings of several sizes go both ways`);
  const capture = await captureCheck(lab, signal);
  const routes = await checkRoutes(near, [far], backend);

  const read = () => readHops(near, far, daemons, lab.asFound);
  const before = await read();
  progress(`ping both ways, ${PINGS} each`);
  const [pingForward, pingBack] = await bothWays(lab, (from, to) =>
    ping(from, to.containerAddress, { count: PINGS, signal }),
  );
  const pinged = await read();
  const target = new IperfTarget(far);
  progress(`iperf3 UDP, ${UDP_PAYLOAD_BYTES}-byte payloads, ${seconds} s`);
  const udp = await target.udp(near, { ...load, bytes: UDP_PAYLOAD_BYTES });
  const loaded = await read();
  const ofUdp = countPackets(since(loaded, pinged), UDP_PAYLOAD_BYTES);
  const counts = together(countPackets(since(pinged, before)), ofUdp);
  progress(`iperf3 TCP, container-1 to container-2, ${seconds} s`);
  const tcpForward = await target.tcp(near, load);
  progress(`iperf3 TCP, container-2 to container-1, ${seconds} s`);
  const tcpReverse = await target.tcp(near, { ...load, reverse: true });
  const thirdHost = await runThirdHost({ ...lab, progress, signal });
  const etcd = await store.check([near, far, THIRD_HOST]);

  return {
    backend,
    modes: [near, far, THIRD_HOST].map((plan) => modeOf(scenario, plan)),
    kernel: release(),
    mtu,
    store: { kind: store.kind, location: store.location },
    ...(etcd === undefined ? {} : { etcd }),
    thirdHost,
    pingForward,
    pingBack,
    tcpForward,
    tcpReverse,
    udp: { ...udp, payloadBytes: UDP_PAYLOAD_BYTES, drops: ofUdp.drops },
    capture,
    routes,
    counts,
  };
}

/** Ends the daemons the way an operator would; they must end well and leave no device. */
async function lowerLab({ running, store }: StandingLab): Promise<void> {
  const ended = await Promise.allSettled([...running].map((daemon) => daemon.stop()));
  await store.close();
  for (const result of ended) {
    if (result.status === 'rejected') {
      throw systemError(messageOf(result.reason), { cause: result.reason });
    }
  }
}

async function captureCheck(
  { near, far, mtu, backend, asFound: [nearBackend, farBackend] }: StandingLab,
  signal: AbortSignal,
): Promise<LabResult['capture']> {
  const { format } = backend;
  const captures = await startCaptures(near, far, format);
  // The least, a usual and the greatest payload that fits without fragments.
  const sizes = [0, 56, 1000, mtu - IP_ICMP_BYTES];
  const count = 3;
  // Both ways, each an echo and its reply.
  const expected = sizes.length * count * 2 * 2;
  let frames: Awaited<ReturnType<typeof captures.stop>>;
  let answered = 0;
  try {
    for (const size of sizes) {
      const options = { count, intervalSeconds: 0.02, size, dontFragment: true, signal };
      const pings = await bothWays({ near, far }, (from, to) =>
        ping(from, to.containerAddress, options),
      );
      for (const { received } of pings) answered += received;
    }
    await captures.settle(expected);
  } finally {
    frames = await captures.stop();
  }
  const side = (plan: HostPlan, { ttlTaken }: LabBackend, of: Buffer[]) => ({
    hostAddress: plan.address,
    containerAddress: plan.containerAddress,
    ttlTaken,
    frames: of,
  });
  const check = checkCapture({
    wire: frames.wire,
    format,
    sides: [side(near, nearBackend, frames.near), side(far, farBackend, frames.far)],
    expected,
  });
  if (answered * 2 === expected) return check;
  const lost = `${answered} of ${expected / 2} pings of ${sizes.join(', ')} bytes came back`;
  return { ...check, ok: false, problems: [lost, ...check.problems] };
}

async function bothWays(
  { near, far }: Pick<StandingLab, 'near' | 'far'>,
  send: (from: HostPlan, to: HostPlan) => Promise<PingResult>,
): Promise<[PingResult, PingResult]> {
  return Promise.all([send(near, far), send(far, near)]);
}
