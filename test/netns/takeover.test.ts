/**
 * A daemon goes on where another ends: device, port, routes and connections stay, and nothing is lost.
 *
 *   container1 -- docker0 -- flannel0 -- host1 ~~~~ host2 -- flannel0 -- docker0 -- container2
 *                            ^ daemon, and the next one, and the next one
 */
import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll } from '../../src/daemon/takeover.js';
import { HandoverPlace } from '../../src/dataplane/dataplane.js';
import { statusSocketPath } from '../../src/daemon/options.js';
import { requestJson } from '../../src/daemon/status-client.js';
import {
  DaemonProcess,
  writeLeaseFile,
  type DaemonSettings,
} from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { canKernel } from '../support/can-kernel.js';
import { ENDPOINT, startEtcdFor } from '../support/etcd-lab.js';
import { NumberedStream } from '../support/numbered-stream.js';
import { COMMAND, TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

const RATE = 10_000;
const ETCD_FLAGS = [`--etcd-endpoints=${ENDPOINT}`];

/** Queues for six seconds at that rate: what is lost then was not lost for want of a CPU. */
const QUEUES = ['--tun-queue=65536', '--socket-buffer=268435456'];

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
    lab = await TestLab.setUp({ mode: 'offload', flags: QUEUES });
    const { near, far } = lab;
    let daemon = lab.nearDaemon;
    const before = await kept(daemon);
    const out = await NumberedStream.start(near, far, RATE);
    const back = await NumberedStream.start(far, near, RATE);
    for (let round = 0; round < 5; round += 1) daemon = await takeOver(daemon, { flags: QUEUES });
    const results = [await out.end(), await back.end()];
    for (const { sent, lost, late } of results) {
      expect(sent).toBeGreaterThan(RATE);
      expect({ lost, late }).toEqual({ lost: 0, late: 0 });
    }
    expect(await kept(daemon)).toBe(before);
    expect(await tunDevices(near.host)).toEqual(['flannel0']);
    await daemon.stop();
    expect(await tunDevices(near.host)).toEqual([]);
  });

  it('goes on in another mode, beside TCP that lives through it', async () => {
    lab = await TestLab.setUp({ mode: 'basic' });
    const { near, far } = lab;
    let daemon = lab.nearDaemon;
    const tcp = new IperfTarget(far).tcp(near, { seconds: 15, streams: 4 });
    for (const mode of ['offload', 'batch', 'offload'] as const) {
      daemon = await takeOver(daemon, { mode });
      const { mode: now, dataPlane } = await daemon.status();
      expect([now, dataPlane?.error, dataPlane?.restarts]).toEqual([mode, null, 0]);
    }
    expect((await tcp).gbps).toBeGreaterThan(0);
    expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
  });

  it.each([
    ['mode kernel', { mode: 'kernel' }, !canKernel],
    ['several queue pairs', { mode: 'offload', flags: ['--workers=4'] }, false],
  ] as const)('loses nothing in %s', async (_, settings, cannot) => {
    if (cannot) return;
    const flags = [...QUEUES, ...('flags' in settings ? settings.flags : [])];
    lab = await TestLab.setUp({ ...settings, flags });
    const { near, far } = lab;
    let daemon = lab.nearDaemon;
    const before = await kept(daemon);
    const out = await NumberedStream.start(near, far, RATE);
    for (let round = 0; round < 3; round += 1) {
      daemon = await takeOver(daemon, { ...settings, flags });
    }
    expect((await out.end()).lost).toBe(0);
    expect(await kept(daemon)).toBe(before);
    const { dataPlane } = await daemon.status();
    expect([dataPlane?.error, dataPlane?.restarts]).toEqual([null, 0]);
    if (settings.mode !== 'kernel') {
      const tasks = `cat /proc/${daemon.program.pid}/task/*/comm | grep -c ^fl-`;
      expect((await run(['sh', '-c', tasks])).stdout.trim()).toBe('4');
      return;
    }
    // The programs are the new daemon's, and carry.
    const [encapsulate] = dataPlane?.threads ?? [];
    expect(encapsulate?.kernelPackets).toBeGreaterThan(0);
  });

  it('loses nothing on etcd', async () => {
    lab = await TestLab.bare(2);
    const { near, far, hosts } = lab;
    const etcd = await startEtcdFor(hosts);
    try {
      const settings = { mode: 'offload' as const, storeFlags: ETCD_FLAGS, flags: QUEUES };
      let daemon = await lab.startDaemon(near, settings);
      for (const one of [daemon, await lab.startDaemon(far, settings)]) {
        await lab.attachContainer(one);
      }
      const out = await NumberedStream.start(near, far, RATE);
      for (let round = 0; round < 3; round += 1) daemon = await takeOver(daemon, settings);
      const { lost, late } = await out.end();
      expect({ lost, late }).toEqual({ lost: 0, late: 0 });
    } finally {
      await etcd.stop();
    }
  });

  it('of another version, or of another network, is refused, and the daemon before goes on', async () => {
    lab = await TestLab.setUp({ mode: 'offload', flags: QUEUES });
    const { near, far, nearDaemon } = lab;
    const stream = await NumberedStream.start(near, far, RATE);
    const socket = statusSocketPath(nearDaemon.subnetFile);
    for (const what of ['takeover', 'switch']) {
      await expect(requestJson(socket, `/${what}/2`, 2_000, { method: 'PUT' })).rejects.toThrow(
        'takeover version "2": expected 1, which this daemon knows',
      );
    }
    await writeLeaseFile(lab.hosts, { Network: '100.96.0.0/15', Backend: { Type: 'udp' } });
    const refused = successor(nearDaemon, {});
    expect((await refused.ended()).message).toContain(
      'which goes on: its tunnel is 100.96.0.0/16 100.96.1.0/24: expected 100.96.0.0/15 100.96.1.0/24',
    );
    const { lost, late } = await stream.end();
    expect({ lost, late }).toEqual({ lost: 0, late: 0 });
    expect((await nearDaemon.status()).pid).toBe(nearDaemon.program.pid);
    await nearDaemon.stop();
  });

  it('of a successor that dies before the switch changes nothing', async () => {
    lab = await TestLab.setUp({ mode: 'offload' });
    const { near, far, nearDaemon } = lab;
    // As far as a successor comes that is killed between the two: it has the descriptors, and lets go.
    const place = new HandoverPlace(`${nearDaemon.subnetFile}.take`);
    const socket = statusSocketPath(nearDaemon.subnetFile);
    const given = await requestJson(socket, '/takeover/1', 2_000, { method: 'PUT' });
    expect(given).toEqual({ tunnel: '100.96.0.0/16 100.96.1.0/24' });
    const { descriptors } = place.receive();
    place.close();
    // A queue, a socket for each pair, and the pipe.
    expect(descriptors.length % 2).toBe(1);
    closeAll(descriptors);
    expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
    const next = await takeOver(nearDaemon);
    expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
    await next.stop();
  });

  it('of nobody is a start', async () => {
    lab = await TestLab.bare(1);
    const daemon = await lab.startDaemon(lab.near, { flags: ['--takeover'] });
    expect(daemon.program.stderr).toContain('no daemon to take over from; starting as usual');
    await daemon.stop();
  });

  it('of a backend without a data plane is refused', async () => {
    lab = await TestLab.bare(1);
    await writeLeaseFile(lab.hosts, { Network: '100.96.0.0/16', Backend: { Type: 'host-gw' } });
    const daemon = await lab.startDaemon(lab.near);
    expect((await successor(daemon, {}).ended()).message).toContain(
      'the host-gw backend cannot be taken over: expected the udp backend; restart the daemon',
    );
    await daemon.stop();
  });
});
