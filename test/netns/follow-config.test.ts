/** The backend changes while a cluster runs, as the configuration in the store says, and connections stay. */
import { afterEach, describe, expect, it } from 'vitest';
import { IperfTarget, ping, PingStream } from '../../src/testbed/traffic.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { LEASE_FILE, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { replaceFile } from '../../src/host/atomic-file.js';
import { readFile } from 'node:fs/promises';
import { TestLab } from '../support/test-lab.js';

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

describe('with --follow-config', () => {
  it('goes from udp to vxlan and back under traffic', async () => {
    lab = await TestLab.setUp({ mode: 'offload', flags: ['--follow-config'] });
    const { near, far, nearDaemon } = lab;
    const pings = new PingStream(near, far.containerAddress, { intervalSeconds: 0.001 });
    const tcp = new IperfTarget(far).tcp(near, { seconds: 20, streams: 8 });
    await configure({ Type: 'vxlan' });
    await allBy(lab, 'vxlan', /^flannel\.1$/);
    await configure({ Type: 'udp', Port: 8285 });
    await allBy(lab, 'udp', /^flannel0$/);
    const { sent, received } = await pings.end();
    expect(sent).toBeGreaterThan(300);
    // Ten at each host, each way.
    expect(sent - received).toBeLessThanOrEqual(40);
    expect((await tcp).gbps).toBeGreaterThan(0);
    // What served hosts that had not changed yet is closed.
    await waitFor('one backend', 15_000, async () => {
      const { problems } = await nearDaemon.status();
      return problems.length === 0 ? true : undefined;
    });
    expect((await ping(near, far.containerAddress, { count: 10 })).received).toBe(10);
  });

  it('goes from one VNI of vxlan to another under traffic', async () => {
    lab = await TestLab.bare(2, { flags: ['--follow-config'] });
    const { near, far } = lab;
    await writeLeaseFile(lab.hosts, { Network: '100.96.0.0/16', Backend: { Type: 'vxlan' } });
    for (const plan of lab.hosts) await lab.startDaemon(plan);
    for (const plan of lab.hosts) await lab.addContainer(plan, 1_450);
    await allBy(lab, 'vxlan', /^flannel\.1$/);
    const pings = new PingStream(near, far.containerAddress, { intervalSeconds: 0.001 });
    const tcp = new IperfTarget(far).tcp(near, { seconds: 10, streams: 8 });
    await configure({ Type: 'vxlan', VNI: 7 });
    await allBy(lab, 'vxlan', /^flannel\.7$/);
    const { sent, received } = await pings.end();
    expect(sent).toBeGreaterThan(300);
    expect(sent - received).toBeLessThanOrEqual(20);
    expect((await tcp).gbps).toBeGreaterThan(0);
    await waitFor('one device', 15_000, async () => {
      const { stdout } = await run(inNamespace(near.host, ['ip', '-o', 'link']));
      return stdout.includes('flannel.1:') ? undefined : true;
    });
    expect((await ping(near, far.containerAddress, { count: 10 })).received).toBe(10);
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
