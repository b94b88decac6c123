/**
 * System calls that always ask to be made again, and such that never return: the daemon makes no more
 * than some hundred calls a second, and is gone within two seconds of SIGTERM all the same.
 *
 *   host-1: refuse RULE -- flannelette run     host-2: flannelette run, 10.168.0.3
 *           (test/support/refuse.cc)
 */
import { mkdir, open, utimes } from 'node:fs/promises';
import { constants } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import {
  LEASE_FILE,
  LEASE_FILE_FLAGS,
  type DaemonProcess,
} from '../../src/testbed/daemon-process.js';
import { LAB_DIRECTORY } from '../../src/testbed/topology.js';
import { buildRefuse, refusing } from '../support/refuse.js';
import { COMMAND, TestLab } from '../support/test-lab.js';

/** Of all kinds, by all threads, in a second. A loop that spins makes tens of thousands. */
const CALLS_MAX = 750;
/** What a loaded machine adds to the two seconds. */
const TOLERANCE_MS = 500;

let lab: TestLab;
beforeAll(async () => {
  await buildRefuse();
  lab = await TestLab.bare(2, { mode: 'auto' });
  await lab.startDaemon(lab.far);
});
afterEach(async () => {
  await Promise.all(lab.daemons.slice(1).map(({ program }) => program.stop()));
});
afterAll(() => lab.tearDown());

const start = (rule: string, flags: readonly string[] = []): Promise<DaemonProcess> =>
  lab.startDaemon(lab.near, { command: refusing(rule), flags });

/** Sends SIGTERM and waits; the exit code, and milliseconds. */
async function terminate(program: Program): Promise<{ code: number; ms: number }> {
  const started = performance.now();
  program.kill('SIGTERM');
  const code = await program.ended;
  return { code, ms: performance.now() - started };
}

async function callsOf(daemon: DaemonProcess): Promise<number> {
  const threads = (await daemon.status()).dataPlane?.threads ?? [];
  return threads.reduce(
    (sum, { readCalls, writeCalls, pollCalls }) => sum + readCalls + writeCalls + pollCalls,
    0,
  );
}

describe.each([['--workers=1'], ['--workers=2', '--mode=basic']])(
  'with %s, calls that ask to be made again',
  (...flags: string[]) => {
    it.each([
      ...['packet-read=EINTR', 'packet-read=EAGAIN', 'packet-received=EINTR'],
      ...['packet-received=EAGAIN', 'packet-sent=EINTR', 'packet-sent=EAGAIN'],
      ...['packet-written=EINTR', 'packet-written=EAGAIN', 'packet-poll=EINTR'],
    ])('%s', async (rule) => {
      const daemon = await start(rule, flags);
      // A packet that waits at each end of the tunnel, unanswered.
      const pings = [
        [lab.near.host, lab.far.tunAddress],
        [lab.far.host, lab.near.tunAddress],
      ] as const;
      await Promise.all(
        pings.map(([host, address]) =>
          run(inNamespace(host, ['ping', '-c', '2', '-i', '0.2', '-W', '1', address]), {
            accept: [0, 1],
          }),
        ),
      );
      const before = await callsOf(daemon);
      const started = performance.now();
      await waitFor('two seconds', 3_000, () => performance.now() - started > 2_000 || undefined);
      const calls = (await callsOf(daemon)) - before;
      const seconds = (performance.now() - started) / 1_000;
      expect(calls / seconds).toBeLessThan(CALLS_MAX);
      const { code, ms } = await terminate(daemon.program);
      expect(code).toBe(0);
      expect(ms).toBeLessThan(2_000 + TOLERANCE_MS);
    });
  },
);

it('goes on when the answers of netlink are interrupted', async () => {
  // Those of the start are not: without a device there is nothing to run.
  const daemon = await start('netlink-answer=EINTR@100');
  for (let asked = 0; asked < 100; asked += 1) await daemon.status();
  const { code, ms } = await terminate(daemon.program);
  expect(code).toBe(0);
  expect(ms).toBeLessThan(2_000 + TOLERANCE_MS);
});

describe('SIGTERM ends within two seconds', () => {
  it('a daemon whose lease file hung from the start: a file server that is gone', async () => {
    const program = new Program(
      inNamespace(lab.near.host, [
        ...refusing('lease-file=HANG'),
        ...['run', ...LEASE_FILE_FLAGS, '--iface=eth0', `--subnet-file=${subnetFile}`],
      ]),
    );
    await waitFor('the interface', 10_000, () => program.stderr.includes('external') || undefined);
    const { code, ms } = await terminate(program);
    expect(code).toBe(0);
    expect(ms).toBeLessThan(2_000 + TOLERANCE_MS);
    expect(program.stderr).toContain('"stopped"');
  });

  it('a daemon whose lease file hangs while it runs, and which says so', async () => {
    const daemon = await start('lease-file=HANG@40');
    const hung = await waitFor('the hang', 30_000, async () => {
      await utimes(LEASE_FILE, new Date(), new Date());
      const { error } = (await daemon.status()).store ?? {};
      return error ?? undefined;
    });
    expect(hung).toContain(`${LEASE_FILE} does not answer`);
    const { code, ms } = await terminate(daemon.program);
    expect(code).toBe(0);
    expect(ms).toBeLessThan(2_000 + TOLERANCE_MS);
  });

  it('a daemon with a packet thread that hangs in the kernel', async () => {
    const daemon = await start('packet-read=HANG');
    // Something to read: the thread is in the kernel by then.
    const ping = ['ping', '-c', '1', '-W', '1', lab.far.tunAddress];
    await run(inNamespace(lab.near.host, ping), { accept: [0, 1] });
    const { code, ms } = await terminate(daemon.program);
    expect(code).toBe(1);
    expect(ms).toBeLessThan(2_000 + TOLERANCE_MS);
    expect(daemon.program.stderr).toContain('not stopped in time');
  });

  it('a daemon whose event loop is blocked, and at once at the second one', async () => {
    for (const signals of [1, 2]) {
      const daemon = await start('netlink=HANG@120');
      await waitFor('the block', 30_000, async () => {
        const blocked = await daemon.status().then(
          () => false,
          () => true,
        );
        return blocked || undefined;
      });
      const started = performance.now();
      daemon.program.kill('SIGTERM');
      if (signals === 2) {
        await waitFor('a moment', 1_000, () => performance.now() - started > 100 || undefined);
        daemon.program.kill('SIGTERM');
      }
      expect(await daemon.program.ended).toBe(1);
      const ms = performance.now() - started;
      expect(ms).toBeLessThan(signals === 2 ? 200 + TOLERANCE_MS : 2_000 + TOLERANCE_MS);
      expect(daemon.program.stderr).toContain('not stopped in time');
    }
  });

  it('a daemon whose standard error takes nothing', async () => {
    await mkdir(LAB_DIRECTORY, { recursive: true });
    const pipe = `${LAB_DIRECTORY}/stderr`;
    await run(['mkfifo', pipe]);
    const holder = await open(pipe, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      const daemon = await lab.startDaemon(lab.near, {
        command: ['sh', '-c', `exec "$@" 2>${pipe}`, 'sh', ...COMMAND],
      });
      // Full to the last byte: the next line of the log waits for ever.
      for (const bytes of [4_096, 1]) {
        for (;;) {
          const full = await holder.write(Buffer.alloc(bytes)).then(
            () => false,
            () => true,
          );
          if (full) break;
        }
      }
      const { ms } = await terminate(daemon.program);
      expect(ms).toBeLessThan(2_000 + TOLERANCE_MS);
    } finally {
      await holder.close();
    }
  });
});

const subnetFile = `${LAB_DIRECTORY}/hung/subnet.env`;
