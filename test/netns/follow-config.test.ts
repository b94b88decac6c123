/** The backend changes while a cluster runs, as the configuration in the store says, and connections stay. */
import { afterEach, describe, expect, it } from 'vitest';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { LEASE_FILE, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { replaceFile } from '../../src/host/atomic-file.js';
import { readFile } from 'node:fs/promises';
import { TestLab } from '../support/test-lab.js';
import { lostBy } from '../support/two-flannels.js';

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

/** Changes the configuration alone; the leases are the daemons'. */
async function configure(backend: object): Promise<void> {
  const document = JSON.parse(await readFile(LEASE_FILE, 'utf8')) as { config: object };
  const config = { ...document.config, Backend: backend };
  await replaceFile(LEASE_FILE, `${JSON.stringify({ ...document, config }, null, 2)}\n`);
}

async function allBy({ daemons }: TestLab, backend: string, device: RegExp): Promise<void> {
  await waitFor(`all hosts by ${backend}`, 20_000, async () => {
    const all = await Promise.all(daemons.map((daemon) => daemon.status()));
    const changed = all.every(
      (status) =>
        status.ready &&
        status.backend === backend &&
        device.test(status.device ?? '') &&
        status.routes.length === 1,
    );
    return changed ? true : undefined;
  });
}

/**
 * Of 1,000 a second each way. udp's queues lose some beside 8 TCP connections without any change, more on a busy
 * machine; a host without a route for the time between two hosts' changes loses 400.
 */
const MOST_LOST = 100;

/** Through all of the configurations, one after another. */
async function expectNoneCutOff(
  now: TestLab,
  changes: readonly (readonly [backend: object, type: string, device: RegExp])[],
): Promise<void> {
  const seconds = 6 * changes.length;
  const tcp = new IperfTarget(now.far).tcp(now.near, { seconds, streams: 8 });
  const ends = await lostBy(now, async () => {
    for (const [backend, type, device] of changes) {
      await configure(backend);
      await allBy(now, type, device);
    }
  });
  for (const { lost } of ends) expect(lost).toBeLessThanOrEqual(MOST_LOST);
  expect((await tcp).gbps).toBeGreaterThan(0);
  // What served hosts that had not changed yet is closed.
  await waitFor('one backend', 15_000, async () => {
    const { problems } = await now.nearDaemon.status();
    const { stdout } = await run(inNamespace(now.near.host, ['ip', '-o', 'link']));
    const devices = stdout.match(/flannel[.\d]+(?=:)/g) ?? [];
    return (problems.length === 0 && devices.length <= 1) || undefined;
  });
  expect((await ping(now.near, now.far.containerAddress, { count: 10 })).received).toBe(10);
}

describe('with --follow-config', () => {
  it('goes from udp to vxlan, host-gw and back under traffic', async () => {
    lab = await TestLab.setUp({ mode: 'offload', flags: ['--follow-config'] });
    await expectNoneCutOff(lab, [
      [{ Type: 'vxlan' }, 'vxlan', /^flannel\.1$/],
      [{ Type: 'host-gw' }, 'host-gw', /^$/],
      [{ Type: 'vxlan', DirectRouting: true }, 'vxlan', /^flannel\.1$/],
      [{ Type: 'udp', Port: 8285 }, 'udp', /^flannel0$/],
    ]);
  });

  it('goes from one VNI of vxlan to another under traffic', async () => {
    lab = await TestLab.bare(2, { flags: ['--follow-config'] });
    await writeLeaseFile(lab.hosts, { Network: '100.96.0.0/16', Backend: { Type: 'vxlan' } });
    for (const plan of lab.hosts) await lab.startDaemon(plan);
    for (const plan of lab.hosts) await lab.addContainer(plan, 1_450);
    await allBy(lab, 'vxlan', /^flannel\.1$/);
    await expectNoneCutOff(lab, [[{ Type: 'vxlan', VNI: 7 }, 'vxlan', /^flannel\.7$/]]);
  });

  it('stays with its backend when another cannot be had, and says why', async () => {
    lab = await TestLab.setUp({ mode: 'batch', flags: ['--follow-config'] });
    const { near, far, nearDaemon } = lab;
    await configure({ Type: 'vxlan', MTU: 9_000 });
    const problem = await waitFor('the problem', 15_000, async () =>
      (await nearDaemon.status()).problems.find(({ id }) => id === 'backend_refused'),
    );
    expect(problem.message).toContain('asks for the backend vxlan, which cannot be had');
    expect((await ping(near, far.containerAddress, { count: 10 })).received).toBe(10);
    expect((await nearDaemon.status()).backend).toBe('udp');
  });
});
