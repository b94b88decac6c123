/**
 * A flood from a host that holds no lease: it is refused before it is queued, every datagram of it is
 * counted, traffic goes on, and a host that is given a lease meanwhile is heard.
 *
 *   container-1 ── host-1 ── switch ──┬─ host-2 ── container-2
 *                                     └─ host-3, 10.168.0.4: 20,000 datagrams a second to host-2
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import type { FloodResult } from '../../bench/flood/flood-result.js';
import { writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { inNamespace, Program, waitFor } from '../../src/testbed/programs.js';
import { addHost, hostPlan, removeHost } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { canKernel } from '../support/can-kernel.js';
import { managed, restart } from '../support/store-manager.js';
import { counters, ROOT, TestLab } from '../support/test-lab.js';

const RATE = 20_000;
const stranger = hostPlan(3);

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

describe.each(['basic', 'offload', 'kernel'] as const)('a flood, mode %s', (mode) => {
  it('is refused early and counted, hinders nobody, and its end is seen', async ({ skip }) => {
    skip(mode === 'kernel' && !canKernel, 'needs eBPF');
    const { near, far, farDaemon } = (lab = await TestLab.setUp({ mode }));
    await addHost(stranger);
    try {
      const seconds = 6;
      const flood = startFlood(seconds);
      await waitFor('the flood to be seen', 5_000, () => hasFlood());
      const { received } = await ping(near, far.containerAddress, {
        count: 50,
        intervalSeconds: 0.02,
      });
      expect(received).toBe(50);
      expect(await flood.ended).toBe(0);
      const sent = Number(flood.stdout);
      expect(sent).toBeGreaterThan(RATE);
      const { drops, queueDrops, receivedPackets } = await counters(farDaemon, 'decapsulate');
      // A socket that was full before the filter came has the rest.
      expect((drops['unknown_source'] ?? 0) + (queueDrops ?? 0)).toBe(sent);
      expect(drops['unknown_source']).toBeGreaterThan(0.9 * sent);
      expect(receivedPackets).toBeLessThan(0.7 * sent);
      await waitFor('the end of the flood', 20_000, async () =>
        (await hasFlood()) === true ? undefined : true,
      );
      expect(farDaemon.program.stderr).toContain('no longer: a flood of datagrams');
    } finally {
      await removeHost(stranger);
    }
  });
});

describe('a flood from a host that is given a lease', () => {
  it('is heard at once, and goes on to be refused for what its packets claim', async () => {
    const { near, far, farDaemon } = (lab = await TestLab.setUp({ mode: 'offload' }));
    await addHost(stranger);
    try {
      const flood = startFlood(5);
      await waitFor('the flood to be seen', 4_000, () => hasFlood());
      expect((await counters(farDaemon, 'decapsulate')).drops['source_mismatch'] ?? 0).toBe(0);
      await writeLeaseFile([near, far, stranger]);
      await waitFor('datagrams of the new host', 4_000, async () => {
        const { drops } = await counters(farDaemon, 'decapsulate');
        return (drops['source_mismatch'] ?? 0) > 0 ? true : undefined;
      });
      await flood.ended;
    } finally {
      await removeHost(stranger);
    }
  });

  it.each(['a takeover', 'kill -9 and the descriptor store'])(
    'is heard after %s while the sockets had the filter',
    async (how) => {
      const mode = 'offload';
      const kept = how !== 'a takeover';
      lab = await TestLab.pair({ mode }, kept ? managed('usable', { mode }) : { mode });
      const { near, far, farDaemon } = lab;
      await addHost(stranger);
      try {
        const flood = startFlood(2);
        await waitFor('the flood to be seen', 4_000, () => hasFlood());
        await flood.ended;
        const next = kept ? farDaemon : await lab.startDaemon(far, { flags: ['--takeover'] });
        if (kept) await restart(farDaemon, 'SIGKILL');
        else expect(await farDaemon.program.ended).toBe(0);
        const { problems } = await waitFor('the next daemon to answer', 5_000, () =>
          next.status().catch(() => undefined),
        );
        expect(problems).toEqual([]);
        await writeLeaseFile([near, far, stranger]);
        await waitFor('datagrams of the new host', 10_000, async () => {
          await startFlood(1, 100).ended;
          const { drops } = await counters(next, 'decapsulate');
          return (drops['source_mismatch'] ?? 0) > 0 ? true : undefined;
        });
        // Those that the filter refused are of the daemon before; the next one has what waited.
        const { drops, queueDrops } = await counters(next, 'decapsulate');
        const counted = (drops['unknown_source'] ?? 0) + (queueDrops ?? 0);
        expect(counted).toBeLessThan(0.5 * Number(flood.stdout));
      } finally {
        await removeHost(stranger);
      }
    },
  );
});

it('is what npm run bench:flood measures', async () => {
  const main = join(ROOT, 'dist', 'bench', 'main.js');
  const flags = ['--rounds=1', '--seconds=1', '--modes=basic', '--rate=30000', '--json'];
  const { stdout } = await promisify(execFile)(process.execPath, [main, 'flood', ...flags], {
    timeout: 60_000,
  });
  const { rate, modes } = JSON.parse(stdout) as FloodResult;
  expect(rate).toBe(30_000);
  expect(modes.map(({ mode }) => mode)).toEqual(['basic']);
  const [round] = modes[0]?.rounds ?? [];
  if (round === undefined) throw new Error('no round');
  for (const gbps of Object.values(round.tcp)) expect(gbps).toBeGreaterThan(0);
  expect(round.sent).toBeGreaterThan(3_000);
  expect(round.refused).toBeGreaterThan(0.5 * round.sent);
  expect(round.refused).toBeLessThanOrEqual(round.sent);
});

/** host-3 claims to carry what container-1 sends. */
function startFlood(seconds: number, rate = RATE): Program {
  const { near, far } = lab ?? {};
  if (near === undefined || far === undefined) throw new Error('no lab');
  const program = join(ROOT, 'bench', 'flood', 'build', 'flood');
  const argv = [program, far.address, '8285', near.containerAddress, far.containerAddress];
  return new Program(inNamespace(stranger.host, [...argv, String(rate), String(seconds)]));
}

async function hasFlood(): Promise<true | undefined> {
  const { problems } = (await lab?.farDaemon.status()) ?? { problems: [] };
  return problems.some(({ id }) => id === 'flood') ? true : undefined;
}
