/** flannel0 set down and up by hand, as an operator or a network manager may: forwarding returns. */
import { afterEach, expect, it } from 'vitest';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { checkRoutes } from '../../src/lab/scenario/routes-check.js';
import { ping } from '../../src/testbed/traffic.js';
import { TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

const RECOVERY_MS = 5_000;

it.each([
  ['idle', 0],
  ['under traffic', 1],
] as const)('forwarding is back within 5 s of flannel0 down and up, %s', async (_what, streams) => {
  lab = await TestLab.setUp();
  const { near, far } = lab;
  // From the far side, so that datagrams arrive while the device is down and cannot be written.
  const load = Array.from(
    { length: streams },
    () =>
      new Program(
        inNamespace(far.container, ['ping', '-q', '-n', '-i', '0.01', near.containerAddress]),
      ),
  );
  try {
    await run(inNamespace(near.host, ['ip', 'link', 'set', 'flannel0', 'down']));
    await run(inNamespace(near.host, ['ip', 'link', 'set', 'flannel0', 'up']), {
      // The daemon may have replaced the device between the two.
      accept: [0, 1],
    });
    await waitFor('the tunnel', RECOVERY_MS, async () => {
      const { received } = await ping(near, far.containerAddress, { count: 1 });
      return received === 1 ? true : undefined;
    });
    expect(await tunDevices(near.host)).toHaveLength(1);
    expect(await checkRoutes(near)).toMatchObject({ ok: true, problems: [] });
  } finally {
    await Promise.all(load.map((program) => program.stop()));
  }
});
