/**
 * The tunnel outlives its daemon in the service manager's descriptor store: by a restart and by kill -9
 * device, routes and port stay, and what arrives meanwhile waits. A stop leaves nothing.
 *
 *   container1 -- docker0 -- flannel0 -- host1 ~~~~ host2 -- flannel0 -- docker0 -- container2
 *                            ^ manager: daemon, and the next one
 */
import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { writeLeaseFile, type DaemonProcess } from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { rememberedPath } from '../../src/lease/remembered/remembered-file.js';
import { canKernel } from '../support/can-kernel.js';
import { ENDPOINT, startEtcdFor } from '../support/etcd-lab.js';
import { NumberedStream } from '../support/numbered-stream.js';
import { events, managed, restart } from '../support/store-manager.js';
import { COMMAND, TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

/** Three restarts in a row, on a busy machine too; test/netns/restarts.test.ts measures with 10,000. */
const RATE = 2_000;
const TUNNEL = 'flannelette 100.96.0.0/16 100.96.1.0/24';

/** Queues for half a minute at that rate: what is lost then was not lost for want of a CPU. */
const QUEUES = ['--tun-queue=65536', '--socket-buffer=268435456'];

/** Packets that a daemon at this rate has in its hands at most, a few turns of its loops. */
const IN_FLIGHT = 256;

async function device({ plan }: DaemonProcess): Promise<string> {
  const said = [
    ['-o', 'link', 'show', 'dev', 'flannel0'],
    ['-o', '-4', 'address', 'show', 'dev', 'flannel0'],
    ['-4', 'route'],
  ].map(async (words) => (await run(inNamespace(plan.host, ['ip', ...words]))).stdout);
  return (await Promise.all(said)).join('\n');
}

const messages = (daemon: DaemonProcess): string[] =>
  daemon.program.stderr.split('\n').flatMap((line) => {
    if (!line.startsWith('{')) return [];
    return [(JSON.parse(line) as { msg: string }).msg];
  });

describe('a tunnel in the descriptor store', () => {
  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'lives through %s beside 2,000 numbered datagrams a second each way, which wait',
    async (by) => {
      lab = await TestLab.pair(managed('usable', { mode: 'offload', flags: QUEUES }), {
        mode: 'offload',
        flags: QUEUES,
      });
      const { near, far, nearDaemon } = lab;
      const before = await device(nearDaemon);
      const out = await NumberedStream.start(near, far, RATE);
      const back = await NumberedStream.start(far, near, RATE);
      for (let round = 0; round < 3; round += 1) await restart(nearDaemon, by);
      const results = [await out.end(), await back.end()];
      for (const { sent, lost, late } of results) {
        expect(sent).toBeGreaterThan(RATE);
        expect(late).toBe(0);
        // Killed, a daemon takes with it what it had read and not sent.
        expect(lost).toBeLessThanOrEqual(by === 'SIGKILL' ? 3 * IN_FLIGHT : 0);
      }
      expect(await device(nearDaemon)).toBe(before);
      // Once: what is stored is not sent again.
      expect(events(nearDaemon.program.stdout, 'stored')).toEqual([
        '1 flannelette-probe',
        `2 ${TUNNEL}`,
      ]);
      await nearDaemon.stop();
      expect(await tunDevices(near.host)).toEqual([]);
    },
  );

  it('keeps TCP connections through both', async () => {
    lab = await TestLab.pair(managed('usable', { mode: 'offload' }), { mode: 'offload' });
    const { near, far, nearDaemon } = lab;
    const tcp = new IperfTarget(far).tcp(near, { seconds: 10, streams: 4 });
    await restart(nearDaemon, 'SIGTERM');
    await restart(nearDaemon, 'SIGKILL');
    expect((await tcp).gbps).toBeGreaterThan(0);
  });

  it('with several queue pairs is stored with all of them', async () => {
    const flags = ['--workers=4'];
    lab = await TestLab.pair(managed('usable', { mode: 'offload', flags }), {});
    const { near, far, nearDaemon } = lab;
    const before = await device(nearDaemon);
    await restart(nearDaemon, 'SIGKILL');
    expect(events(nearDaemon.program.stdout, 'stored')).toContain(`4 ${TUNNEL}`);
    expect(messages(nearDaemon)).toContain(
      'going on with the tunnel that the service manager kept',
    );
    expect(await device(nearDaemon)).toBe(before);
    expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
  });

  it.skipIf(!canKernel)(
    'in mode kernel goes on while there is no daemon, and ends with the stop',
    async () => {
      const settings = { mode: 'kernel' } as const;
      lab = await TestLab.pair(managed('usable', settings), settings);
      const { near, far, nearDaemon } = lab;
      expect((await ping(near, far.containerAddress, { count: 3 })).received).toBe(3);
      const { program } = nearDaemon;
      const started = events(program.stdout, 'started');
      expect(events(program.stdout, 'stored')).toContain(`2 ${TUNNEL} kernel`);
      // The manager waits, and starts nobody.
      program.kill('SIGSTOP');
      process.kill(Number(started[0]), 'SIGKILL');
      expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
      program.kill('SIGCONT');
      await waitFor('the next daemon', 30_000, () => {
        return events(program.stdout, 'ready').length === 2 || undefined;
      });
      expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
      await nearDaemon.stop();
      const { stdout } = await run(inNamespace(near.host, ['ip', '-br', 'link']));
      expect(stdout).not.toMatch(/flannel0|f[xy]0aa8/);
    },
  );

  it('goes on by the remembered leases while etcd is away', async () => {
    lab = await TestLab.bare(2);
    const { near, far, hosts } = lab;
    const etcd = await startEtcdFor(hosts);
    try {
      const settings = {
        mode: 'offload' as const,
        storeFlags: [`--etcd-endpoints=${ENDPOINT}`],
        flags: QUEUES,
      };
      const daemon = await lab.startDaemon(near, managed('usable', settings));
      for (const one of [daemon, await lab.startDaemon(far, settings)]) {
        await lab.attachContainer(one);
      }
      const path = rememberedPath(daemon.subnetFile);
      await waitFor('the remembered leases', 15_000, async () => {
        const text = await readFile(path, 'utf8').catch(() => '');
        return text.includes('"100.96.2.0-24":') || undefined;
      });
      etcd.freeze();
      const stream = await NumberedStream.start(near, far, RATE);
      await restart(daemon, 'SIGTERM');
      const { lost, late } = await stream.end();
      expect({ lost, late }).toEqual({ lost: 0, late: 0 });
      expect((await daemon.status()).store?.leasesAsOf).toEqual(expect.any(String));
    } finally {
      await etcd.kill();
    }
  });

  it('is made anew when the mode needs another device', async () => {
    lab = await TestLab.pair(managed('usable', { mode: 'offload' }), {});
    const { near, far, nearDaemon } = lab;
    await nearDaemon.changeMode('basic');
    expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
    const { program } = nearDaemon;
    expect(events(program.stdout, 'removed')).toEqual(['flannelette-probe', TUNNEL]);
    await waitFor('the descriptors', 2_000, () => {
      const stored = events(program.stdout, 'stored');
      return stored.length === 3 || undefined;
    });
    await restart(nearDaemon, 'SIGTERM');
    expect(messages(nearDaemon)).toContain(
      'the tunnel that was kept does not fit; making a new one',
    );
    expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
    expect(await tunDevices(near.host)).toEqual(['flannel0']);
  });

  it('of another network is removed, and of a device that was deleted', async () => {
    lab = await TestLab.bare(1);
    const daemon = await lab.startDaemon(lab.near, managed('usable'));
    await writeLeaseFile(lab.hosts, { Network: '100.96.0.0/15', Backend: { Type: 'udp' } });
    await restart(daemon, 'SIGKILL');
    expect(messages(daemon)).toContain('the service manager kept another tunnel; it is removed');
    expect(await tunDevices(lab.near.host)).toEqual(['flannel0']);
    const { stdout: routes } = await run(inNamespace(lab.near.host, ['ip', 'route']));
    expect(routes).toContain('100.96.0.0/15 dev flannel0');
    expect(routes).not.toContain('100.96.0.0/16');
    await run(inNamespace(lab.near.host, ['ip', 'link', 'delete', 'flannel0']));
    await waitFor('the next device', 5_000, () => {
      const stored = events(daemon.program.stdout, 'stored');
      return stored.filter((one) => one.endsWith('/15 100.96.1.0/24')).length === 2 || undefined;
    });
    await daemon.stop();
    expect(await tunDevices(lab.near.host)).toEqual([]);
  });

  it('is let go of by a daemon whose place another takes', async () => {
    lab = await TestLab.pair(managed('usable', { mode: 'offload' }), { mode: 'offload' });
    const { near, far, nearDaemon } = lab;
    const next = await lab.startDaemon(near, {
      command: COMMAND,
      mode: 'offload',
      flags: ['--takeover'],
    });
    const ended = () => events(nearDaemon.program.stdout, 'ended')[0];
    expect(await waitFor('the end', 5_000, ended)).toBe('0');
    expect(events(nearDaemon.program.stdout, 'removed')).toContain(TUNNEL);
    expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
    await nearDaemon.program.stop();
    await next.program.stop();
  });

  it.each([
    ['none', 'none'],
    ['no-return', 'no-return'],
  ] as const)('is not given to a store that is %s', async (kind, support) => {
    lab = await TestLab.bare(1);
    const daemon = await lab.startDaemon(lab.near, managed(kind));
    expect(daemon.program.stderr).toContain(`"support":"${support}"`);
    await restart(daemon, 'SIGKILL');
    expect(messages(daemon)).not.toContain(
      'going on with the tunnel that the service manager kept',
    );
    await daemon.changeMode('offload');
    expect(await tunDevices(lab.near.host)).toEqual(['flannel0']);
    await daemon.stop();
    expect(await tunDevices(lab.near.host)).toEqual([]);
  });
});
