/** The addon's life cycle: however an environment ends, its threads and its device end with it. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/lab/commands.js';
import { ROOT, TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab;
beforeAll(async () => {
  lab = await TestLab.bare(1);
});
afterAll(() => lab.lower());

const script = join(ROOT, 'test', 'support', 'engine-scenario.mjs');

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
  ['collected', 0],
  ['cycles', 0],
])('%s ends with code %i and leaves no device', async (scenario, code) => {
  const argv = [process.execPath, '--expose-gc', script, scenario];
  const result = await run(inNamespace(lab.near.host, argv), {
    timeoutMs: 20_000,
    accept: [code],
  });
  expect(result.stderr).toBe('');
  expect(await tunDevices(lab.near.host)).toEqual([]);
});
