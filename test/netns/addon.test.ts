/**
 * The addon's life cycle: however an environment ends, its threads and its device end with it; and
 * whatever it is called with, the process goes on.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ROOT, TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab;
beforeAll(async () => {
  lab = await TestLab.bare(1);
});
afterAll(() => lab.tearDown());

const script = (name: string) => join(ROOT, 'test', 'support', name);

/** Runs a scenario in a process of its own, which says nothing and leaves no device. */
async function expectQuiet(file: string, scenario: readonly string[], code: number): Promise<void> {
  const argv = [process.execPath, '--expose-gc', script(file), ...scenario];
  const result = await run(inNamespace(lab.near.host, argv), {
    timeoutMs: 55_000,
    accept: [code],
  });
  expect(result.stderr).toBe('');
  expect(await tunDevices(lab.near.host)).toEqual([]);
}

it.each([
  ['natural-end', 0],
  ['process-exit', 7],
  ['worker-terminate', 0],
  ['two-workers', 0],
  ['exit-with-workers', 7],
  ['close-twice', 0],
  ['start-twice', 0],
  ['port-taken', 0],
  ['queue-pairs', 0],
  ['mode-changes', 0],
  ['mode-without-device', 0],
  ['collected', 0],
  ['cycles', 0],
])('%s ends with code %i and leaves no device', (scenario, code) =>
  expectQuiet('engine-scenario.mjs', [scenario], code),
);

it.each([
  'junk-to-the-constructor',
  'throwing-getters',
  'junk-to-the-methods',
  'setters-on-prototypes',
  'out-of-stack',
  'out-of-memory',
  'no-memory-for-packets',
  'interrupted-by-node-vm',
  'exit-in-a-getter',
  'terminate-in-a-getter',
])('%s: an exception or a value, never an abort', (scenario) =>
  expectQuiet('addon-abuse.mjs', [scenario], 0),
);

// 1,080 terminated workers in all, and 120 that end themselves.
describe.each([
  ...['counters', 'features', 'queueSizes', 'changeRoutes', 'wrongRoutes', 'lookup'],
  ...['restoreDevice', 'changeMode', 'everything', 'openAndClose', 'refused', 'getters'],
  ...['interfaces', 'notify', 'probe'],
])('workers that end in the midst of %s in a row', (call) => {
  it('by worker.terminate, 72 times', () =>
    expectQuiet('addon-abuse.mjs', [`terminate:${call}`, '72'], 0));
  it('by process.exit, 8 times', () => expectQuiet('addon-abuse.mjs', [`exit:${call}`, '8'], 0));
});
