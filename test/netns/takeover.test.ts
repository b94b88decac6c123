/**
 * A daemon goes on where another ends: device, port, routes and connections stay, and nothing is lost.
 *
 *   container1 -- docker0 -- flannel0 -- host1 ~~~~ host2 -- flannel0 -- docker0 -- container2
 *                            ^ daemon, and the next one, and the next one
 */
import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { DaemonProcess, type DaemonSettings } from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { NumberedStream } from '../support/numbered-stream.js';
import { COMMAND, TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

const RATE = 10_000;

/** Starts a successor, and resolves with it once the daemon before has ended and it is the one that answers. */
async function takeOver(
  before: DaemonProcess,
  settings: Partial<DaemonSettings> = {},
): Promise<DaemonProcess> {
  const next = successor(before, settings);
  await waitFor('the successor', 30_000, async () => {
    if (!next.program.running) throw await next.ended();
    const status = await next.status().catch(() => undefined);
    return (status?.pid === next.program.pid && status?.ready) || undefined;
  });
  expect(await before.program.ended).toBe(0);
  return next;
}

function successor(before: DaemonProcess, settings: Partial<DaemonSettings>): DaemonProcess {
  const { flags = [], ...rest } = settings;
  const next = new DaemonProcess(before.plan, {
    command: COMMAND,
    mode: 'offload',
    flags: ['--takeover', ...flags],
    ...rest,
  });
  lab?.daemons.push(next);
  return next;
}

/** What is to be the same: device with its index, addresses, routes, subnet.env. */
async function kept({ plan, subnetFile }: DaemonProcess): Promise<string> {
  const said = [
    ['-o', '-4', 'address', 'show', 'dev', 'flannel0'],
    ['-4', 'route'],
  ].map(async (words) => (await run(inNamespace(plan.host, ['ip', ...words]))).stdout);
  return [...(await Promise.all(said)), await readFile(subnetFile, 'utf8')].join('\n');
}

describe('a takeover', () => {
  it('loses none of 10,000 numbered datagrams a second each way, time and again', async () => {
    lab = await TestLab.setUp({ mode: 'offload' });
    const { near, far } = lab;
    let daemon = lab.nearDaemon;
    const before = await kept(daemon);
    const out = await NumberedStream.start(near, far, RATE);
    const back = await NumberedStream.start(far, near, RATE);
    for (let round = 0; round < 5; round += 1) daemon = await takeOver(daemon);
    const results = [await out.end(), await back.end()];
    console.log(JSON.stringify(results));
    for (const { sent, lost, late } of results) {
      expect(sent).toBeGreaterThan(RATE);
      expect({ lost, late }).toEqual({ lost: 0, late: 0 });
    }
    expect(await kept(daemon)).toBe(before);
    expect(await tunDevices(near.host)).toEqual(['flannel0']);
    await daemon.stop();
    expect(await tunDevices(near.host)).toEqual([]);
  });
});
