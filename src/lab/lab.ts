/** The lab's course: build, forward, measure, check. Runs in an isolated process. */
import { release } from 'node:os';
import type { DaemonMode } from '../daemon/options.js';
import { inputError, messageOf, systemError } from '../errors.js';
import { checkCapture, startCaptures } from './capture.js';
import { waitFor } from './commands.js';
import { startDaemons, writeLeaseFile, type DaemonProcess } from './daemon-process.js';
import { countHops, since } from './hops.js';
import type { LabResult } from './report.js';
import { checkRoutes } from './routes-check.js';
import { addContainer, addHost, buildSwitch, hostPlan, type HostPlan } from './topology.js';
import { IperfTarget, ping, type PingResult } from './traffic.js';

export interface LabCourse {
  readonly mode: DaemonMode;
  /** Length of each throughput measurement. */
  readonly seconds: number;
  /** The command that is flannelette. */
  readonly command: readonly string[];
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

const UDP_PAYLOAD_BYTES = 64;
const PINGS = 20;
/** Each host has a loopback of its own, so both daemons can use the same port. */
const HEALTHZ = ['--healthz-ip=127.0.0.1', '--healthz-port=10245'];

export interface StandingLab {
  readonly near: HostPlan;
  readonly far: HostPlan;
  readonly daemons: readonly [DaemonProcess, DaemonProcess];
  readonly mtu: number;
}

/** Sets everything up: switch, hosts, daemons, and containers with what subnet.env tells. */
export async function raiseLab(course: LabCourse): Promise<StandingLab> {
  const [near, far] = [hostPlan(1), hostPlan(2)];
  course.progress('two hosts on a switch: 10.168.0.2 and 10.168.0.3');
  await buildSwitch();
  for (const plan of [near, far]) await addHost(plan);
  course.progress(`a daemon on each, mode ${course.mode}, one lease file`);
  await writeLeaseFile([near, far]);
  const [nearDaemon, farDaemon] = await startDaemons([near, far], { ...course, flags: HEALTHZ });
  if (nearDaemon === undefined || farDaemon === undefined)
    throw new Error('two hosts, two daemons');
  const daemons = [nearDaemon, farDaemon] as const;
  try {
    course.signal.throwIfAborted();
    course.progress('docker0 and a container on each: 100.96.1.2 and 100.96.2.3');
    return { near, far, daemons, mtu: await attachContainers(daemons) };
  } catch (error) {
    await Promise.allSettled(daemons.map((daemon) => daemon.program.stop()));
    throw error;
  }
}

/** Gives each host the docker0 and container its subnet.env asks for; returns the overlay's MTU. */
async function attachContainers(daemons: readonly DaemonProcess[]): Promise<number> {
  let mtu = 0;
  for (const daemon of daemons) {
    const { plan } = daemon;
    const env = await daemon.readSubnetFile();
    if (env.FLANNEL_SUBNET !== `${plan.bridgeAddress}/24`) {
      throw inputError('FLANNEL_SUBNET', env.FLANNEL_SUBNET, `${plan.bridgeAddress}/24`);
    }
    mtu = Number(env.FLANNEL_MTU);
    await addContainer(plan, env.FLANNEL_SUBNET, mtu);
  }
  return mtu;
}

/** Measures and checks; rejects at once when a daemon ends meanwhile, with what it said. */
export async function runCourse(lab: StandingLab, course: LabCourse): Promise<LabResult> {
  const signal = endedEarly(lab.daemons, course.signal);
  try {
    return await measure(lab, { ...course, signal });
  } catch (error) {
    // A daemon's end is the cause of what failed with it, and its news may be a moment behind.
    await waitFor('the end', 200, () => signal.aborted || undefined).catch(() => undefined);
    signal.throwIfAborted();
    throw error;
  }
}

async function measure(lab: StandingLab, course: LabCourse): Promise<LabResult> {
  const { near, far, daemons, mtu } = lab;
  const { progress, signal, seconds } = course;
  const load = { seconds, signal };

  progress('capture of UDP 8285 while pings of several sizes go both ways');
  const capture = await captureCheck(lab, signal);
  const routes = await checkRoutes(near);

  const before = await countHops(near, far, daemons);
  progress(`ping both ways, ${PINGS} each`);
  const [pingForward, pingBack] = await bothWays(lab, (from, to) =>
    ping(from, to.containerAddress, { count: PINGS, signal }),
  );
  const target = new IperfTarget(far);
  progress(`iperf3 UDP, ${UDP_PAYLOAD_BYTES}-byte payloads, ${seconds} s`);
  const udp = await target.udp(near, { ...load, bytes: UDP_PAYLOAD_BYTES });
  const counts = since(await countHops(near, far, daemons), before);
  progress(`iperf3 TCP, container-1 to container-2, ${seconds} s`);
  const tcpForward = await target.tcp(near, load);
  progress(`iperf3 TCP, container-2 to container-1, ${seconds} s`);
  const tcpReverse = await target.tcp(near, { ...load, reverse: true });

  return {
    ...{ mode: course.mode, kernel: release(), mtu },
    ...{ pingForward, pingBack, tcpForward, tcpReverse },
    udp: { ...udp, payloadBytes: UDP_PAYLOAD_BYTES },
    ...{ capture, routes, counts },
  };
}

/** Aborts when the lab is asked to stop and when a daemon ends, each with its reason. */
function endedEarly(daemons: readonly DaemonProcess[], stop: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const follow = (): void => {
    controller.abort(stop.reason);
  };
  if (stop.aborted) follow();
  stop.addEventListener('abort', follow, { once: true });
  for (const daemon of daemons) {
    void daemon.ended().then((reason) => {
      controller.abort(reason);
    });
  }
  return controller.signal;
}

/** Ends the daemons the way an operator would; they must end well and leave no device. */
export async function lowerLab(lab: StandingLab): Promise<void> {
  const ended = await Promise.allSettled(lab.daemons.map((daemon) => daemon.stop()));
  for (const result of ended) {
    if (result.status === 'rejected') {
      throw systemError(messageOf(result.reason), { cause: result.reason });
    }
  }
}

async function captureCheck(
  { near, far, mtu }: StandingLab,
  signal: AbortSignal,
): Promise<LabResult['capture']> {
  const captures = await startCaptures(near, far);
  // The least, a usual and the greatest payload that fits without fragments (IP 20, ICMP 8).
  const sizes = [0, 56, 1000, mtu - 28];
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
  const side = (plan: HostPlan, of: Buffer[]) => ({
    hostAddress: plan.address,
    containerAddress: plan.containerAddress,
    frames: of,
  });
  const check = checkCapture({
    wire: frames.wire,
    sides: [side(near, frames.near), side(far, frames.far)],
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
