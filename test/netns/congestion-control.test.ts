/**
 * TCP is measured also where a network namespace tells less of congestion control than it does today.
 * A tmpfs in the place of /proc/sys/net/ipv4, which is another folder in each namespace, stands for
 * such a kernel.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { congestionControl, IperfTarget } from '../../src/testbed/traffic.js';
import { TestLab } from '../support/test-lab.js';

const SETTINGS = '/proc/sys/net/ipv4';

let lab: TestLab;
beforeAll(async () => {
  lab = await TestLab.setUp();
});
afterAll(async () => {
  await lab.tearDown();
});

it('is CUBIC on a kernel of today', async () => {
  expect(await congestionControl(lab.near.container)).toBe('cubic');
});

it.each([
  ['what is in use, where that is all there is (Linux 4.19)', 'reno'],
  ['unknown, where there is nothing (Linux 4.4)', undefined],
])('is %s, and TCP is measured', async (_kernel, inUse) => {
  const { near, far } = lab;
  const shell = (script: string): Promise<unknown> =>
    run(inNamespace(near.container, ['sh', '-c', script]));
  await shell(`mount -t tmpfs tmpfs ${SETTINGS}`);
  try {
    if (inUse !== undefined) await shell(`echo ${inUse} >${SETTINGS}/tcp_congestion_control`);
    expect(await congestionControl(near.container)).toBe(inUse);
    const { gbps } = await new IperfTarget(far).tcp(near, { seconds: 1 });
    expect(gbps).toBeGreaterThan(0);
  } finally {
    await shell(`umount ${SETTINGS}`);
  }
});
