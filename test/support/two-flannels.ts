/** Two flannels on one host, of which one follows the other: what stands in for flanneld, and what it costs. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { LAB_DIRECTORY, type HostPlan } from '../../src/testbed/topology.js';
import { NumberedStream, type StreamResult } from './numbered-stream.js';
import { say } from './say.js';
import { COMMAND, type TestLab } from './test-lab.js';

/** Datagrams a second, each way. */
const RATE = 1_000;
/** A start beside other tests takes more; docs/operations.md has what was measured. */
const LONGEST_SILENCE_MS = 1_000;

/** A daemon in mode basic on the lease file, to flanneld's wire, port and store what flanneld is. */
export function startStandIn(plan: HostPlan): DaemonProcess {
  const subnetFile = join(LAB_DIRECTORY, plan.host, 'other.env');
  return new DaemonProcess(plan, { command: COMMAND, mode: 'basic', subnetFile });
}

/** Changes from one to the other under load in both directions, and says what that loses. */
export async function expectLittleLost(lab: TestLab, change: () => Promise<void>): Promise<void> {
  for (const { longestSilenceMs } of await lostBy(lab, change)) {
    expect(longestSilenceMs).toBeLessThan(LONGEST_SILENCE_MS);
  }
}

/** What a change loses of numbered datagrams, each way; said as well. */
export async function lostBy(
  { near, far }: TestLab,
  change: () => Promise<void>,
): Promise<readonly StreamResult[]> {
  const streams = [
    await NumberedStream.start(near, far, RATE),
    await NumberedStream.start(far, near, RATE),
  ];
  await Promise.all(streams.map(async (stream) => stream.flows()));
  await change();
  // What is lost once it is done would be too much as well.
  await delay(2_000);
  const ends = await Promise.all(streams.map(async (stream) => stream.end()));
  for (const { sent, lost, longestSilenceMs } of ends) {
    say(`${lost} of ${sent} lost, at most ${longestSilenceMs.toFixed(0)} ms without one`);
    expect(sent).toBeGreaterThan(RATE);
  }
  return ends;
}
