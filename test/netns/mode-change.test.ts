/** A running daemon goes on in another mode: device, port, counters and connections stay. */
import { afterEach, describe, expect, it } from 'vitest';
import { DAEMON_MODES, type DaemonMode } from '../../src/daemon/options.js';
import { writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { COMMAND, counters, TestLab } from '../support/test-lab.js';
import { canKernel } from '../support/can-kernel.js';
import { lostBy } from '../support/two-flannels.js';

/** Every mode from every other, as far as this kernel goes. */
const WAY: readonly DaemonMode[] = [
  ...(['batch', 'offload', 'basic', 'offload', 'batch'] as const),
  ...(canKernel ? (['kernel', 'basic', 'kernel', 'offload'] as const) : []),
];

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

async function mode(subnetFile: string, host: string, to: string): Promise<string> {
  const argv = [...COMMAND, 'mode', to, `--subnet-file=${subnetFile}`];
  return (await run(inNamespace(host, argv))).stdout;
}

async function links(host: string): Promise<string> {
  return (await run(inNamespace(host, ['ip', '-o', '-4', 'route']))).stdout;
}

describe('a change of mode', () => {
  it('keeps device, routes, connections and all but a few of 1,000 datagrams a second', async () => {
    lab = await TestLab.setUp({ mode: 'basic' });
    const { near, far, nearDaemon, farDaemon } = lab;
    const before = await links(near.host);
    const tcp = new IperfTarget(far).tcp(near, { seconds: WAY.length + 2, streams: 8 });
    let sent = 0;
    const ends = await lostBy(lab, async () => {
      for (const next of WAY) {
        for (const daemon of [nearDaemon, farDaemon]) {
          expect(await mode(daemon.subnetFile, daemon.plan.host, next)).toBe(
            `the mode is ${next}\n`,
          );
          const { mode: now, dataPlane } = await daemon.status();
          expect([now, dataPlane?.error, dataPlane?.restarts]).toEqual([next, null, 0]);
        }
        const total = (await counters(nearDaemon, 'encapsulate')).sentPackets;
        expect(total).toBeGreaterThanOrEqual(sent);
        sent = total;
      }
    });
    expect((await tcp).gbps).toBeGreaterThan(0);
    // Two daemons, each with so many changes, at most ten lost by each, and as many by full queues: 8 TCP connections
    // ask for more than mode basic carries.
    for (const { lost, longestSilenceMs } of ends) {
      expect(lost).toBeLessThanOrEqual(2 * 10 * 2 * WAY.length);
      expect(longestSilenceMs).toBeLessThan(500);
    }
    expect(await links(near.host)).toBe(before);
    expect((await ping(near, far.containerAddress, { count: 20 })).received).toBe(20);
    expect(sent).toBeGreaterThan(1_000);
  });

  it('is refused where there is no such mode, and by a backend that has none', async () => {
    lab = await TestLab.bare(1);
    const config = { Network: '100.96.0.0/16', Backend: { Type: 'host-gw' } };
    await writeLeaseFile(lab.hosts, config);
    const daemon = await lab.startDaemon(lab.near);
    const { subnetFile, plan } = daemon;
    await expect(mode(subnetFile, plan.host, 'fast')).rejects.toThrow(
      `unknown mode "fast": expected one of ${DAEMON_MODES.map((name) => `mode ${name}`).join(', ')}`,
    );
    await expect(mode(subnetFile, plan.host, 'batch')).rejects.toThrow(
      'the host-gw backend has no modes: expected the udp backend',
    );
    await daemon.stop();
  });
});
