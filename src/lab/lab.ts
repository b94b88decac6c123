/** The lab's course: build, forward, measure, check. Runs in an isolated process. */
import { release } from 'node:os';
import type { DaemonMode } from '../daemon/options.js';
import { inputError, systemError } from '../errors.js';
import { checkCapture, startCaptures } from './capture.js';
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
  const [nearDaemon, farDaemon] = await startDaemons([near, far], course);
  if (nearDaemon === undefined || farDaemon === undefined)
    throw new Error('two hosts, two daemons');
  course.signal.throwIfAborted();
  course.progress('docker0 and a container on each: 100.96.1.2 and 100.96.2.3');
  let mtu = 0;
  for (const daemon of [nearDaemon, farDaemon]) {
    const { plan } = daemon;
    const env = await daemon.readSubnetFile();
    if (env.FLANNEL_SUBNET !== `${plan.bridgeAddress}/24`) {
      throw inputError('FLANNEL_SUBNET', env.FLANNEL_SUBNET, `${plan.bridgeAddress}/24`);
    }
    mtu = Number(env.FLANNEL_MTU);
    await addContainer(plan, env.FLANNEL_SUBNET, mtu);
  }
  return { near, far, daemons: [nearDaemon, farDaemon], mtu };
}

export async function runCourse(lab: StandingLab, course: LabCourse): Promise<LabResult> {
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

/** Ends the daemons the way an operator would; they must end well and leave no device. */
export async function lowerLab(lab: StandingLab): Promise<void> {
  const ended = await Promise.allSettled(lab.daemons.map((daemon) => daemon.stop()));
  for (const result of ended) {
    if (result.status === 'rejected') {
      throw systemError('a daemon did not end well', { cause: result.reason });
    }
  }
}

async function captureCheck(
  { near, far, mtu }: StandingLab,
  signal: AbortSignal,
): Promise<LabResult['capture']> {
  const captures = await startCaptures(near, far);
  // The least, a usual and the greatest payload that fits without fragments (IP 20, ICMP 8).
  for (const size of [0, 56, 1000, mtu - 28]) {
    const options = { count: 3, intervalSeconds: 0.02, size, dontFragment: true, signal };
    await Promise.all([
      ping(near, far.containerAddress, options),
      ping(far, near.containerAddress, options),
    ]);
  }
  const frames = await captures.stop();
  const side = (plan: HostPlan, of: Buffer[]) => ({
    hostAddress: plan.address,
    containerAddress: plan.containerAddress,
    frames: of,
  });
  return checkCapture({
    wire: frames.wire,
    sides: [side(near, frames.near), side(far, frames.far)],
  });
}

async function bothWays(
  { near, far }: StandingLab,
  send: (from: HostPlan, to: HostPlan) => Promise<PingResult>,
): Promise<[PingResult, PingResult]> {
  return Promise.all([send(near, far), send(far, near)]);
}
