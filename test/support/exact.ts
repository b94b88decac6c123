/** Transfers that must be exact: nothing lost, doubled, reordered or changed on the way. */
import { join } from 'node:path';
import { expect } from 'vitest';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { ROOT } from './test-lab.js';

const TCP = [process.execPath, join(ROOT, 'test', 'support', 'tcp-transfer.mjs')];
const DATAGRAMS = ['python3', join(ROOT, 'test', 'support', 'numbered-datagrams.py')];
const MIB = 1024 * 1024;

/** No transfer is as slow as this, whatever the machine does besides. */
const SLOWEST_MIB_PER_SECOND = 4;

/** Milliseconds a transfer of so many bytes may take. */
export function timeFor(bytes: number): number {
  return 20_000 + (bytes / MIB / SLOWEST_MIB_PER_SECOND) * 1_000;
}

/** Sends bytes through the tunnel by TCP; both ends must have seen the same (SHA-256). */
export async function transfer(from: HostPlan, to: HostPlan, bytes: number): Promise<void> {
  const { sent, received } = await exchange(from, to, TCP, [String(bytes)], timeFor(bytes));
  expect(sent).toMatch(/^[0-9a-f]{64}\n$/);
  expect(received).toBe(`listening\n${sent}`);
}

/** Transfers by TCP both ways at once. */
export async function transferBothWays(one: HostPlan, two: HostPlan, bytes: number): Promise<void> {
  await Promise.all([transfer(one, two, bytes), transfer(two, one, bytes)]);
}

/** Numbered datagrams of `size` bytes each, a multiple of 8; every other 16 are sent as a train. */
export async function sendNumbered(
  from: HostPlan,
  to: HostPlan,
  count: number,
  size: number,
): Promise<void> {
  const { received } = await exchange(from, to, DATAGRAMS, [`${count}`, `${size}`], 30_000);
  expect(received).toBe(`listening\n${count} in order\n`);
}

/** Numbered datagrams both ways at once. */
export async function sendNumberedBothWays(
  one: HostPlan,
  two: HostPlan,
  count: number,
  size: number,
): Promise<void> {
  await Promise.all([sendNumbered(one, two, count, size), sendNumbered(two, one, count, size)]);
}

async function exchange(
  from: HostPlan,
  to: HostPlan,
  command: readonly string[],
  more: readonly string[],
  timeoutMs: number,
): Promise<{ sent: string; received: string }> {
  // One port for each sender, so that both ways can go at once.
  const target = [to.containerAddress, String(7000 + from.number)];
  const server = new Program(inNamespace(to.container, [...command, 'serve', ...target]));
  try {
    await waitFor('the receiver', 30_000, () => server.stdout.includes('listening') || undefined);
    const send = inNamespace(from.container, [...command, 'send', ...target, ...more]);
    const { stdout } = await run(send, { timeoutMs }).catch((error: unknown) => {
      throw new Error(`sender: ${String(error)}; receiver: ${server.stderr}`);
    });
    expect(await server.ended, server.stderr).toBe(0);
    return { sent: stdout, received: server.stdout };
  } finally {
    await server.stop();
  }
}
