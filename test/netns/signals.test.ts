/**
 * What signals do to the daemon's process: those that mean a stop stop it, the others nothing. Above all
 * none opens Node's debugger, which would let every local user run code in a privileged process.
 */
import { readFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { LEASE_FILE_FLAGS, subnetFileOf } from '../../src/testbed/daemon-process.js';
import { ping } from '../../src/testbed/traffic.js';
import { askDaemon, COMMAND, TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab;
beforeAll(async () => {
  lab = await TestLab.bare(2);
  await lab.startDaemon(lab.far);
});
afterEach(async () => {
  await Promise.all(lab.daemons.slice(1).map(({ program }) => program.stop()));
});
afterAll(() => lab.tearDown());

const IGNORED = [
  ...(['SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGPIPE'] as const),
  ...(['SIGALRM', 'SIGVTALRM', 'SIGIO', 'SIGPWR', 'SIGXFSZ', 'SIGWINCH'] as const),
];

/** Sockets that listen on TCP in a namespace, as /proc/net/tcp has them. */
async function listening(namespace: string): Promise<string[]> {
  const { stdout } = await run(inNamespace(namespace, ['cat', '/proc/net/tcp', '/proc/net/tcp6']));
  return stdout.split('\n').filter((line) => / 0A /.test(line));
}

const reaches = async (): Promise<boolean> => {
  const options = { count: 3, namespace: lab.near.host };
  return (await ping(lab.near, lab.far.tunAddress, options)).received === 3;
};

describe('a running daemon', () => {
  it.each(IGNORED)('goes on after %s, and nobody can debug it', async (signal) => {
    const daemon = await lab.startDaemon(lab.near);
    for (let times = 0; times < 3; times += 1) daemon.program.kill(signal);
    expect(await reaches()).toBe(true);
    expect((await daemon.status()).ready).toBe(true);
    expect(await listening(lab.near.host)).toEqual([]);
    expect(daemon.program.stderr).not.toContain('Debugger');
    await daemon.stop();
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)('ends with 0 after %s', async (signal) => {
    const daemon = await lab.startDaemon(lab.near);
    daemon.program.kill(signal);
    expect(await daemon.program.ended).toBe(0);
    expect(daemon.program.stderr).toContain('"stopped"');
    expect(await tunDevices(lab.near.host)).toEqual([]);
  });
});

describe('a daemon that starts', () => {
  const start = (): Program =>
    new Program(
      inNamespace(lab.near.host, [
        ...COMMAND,
        ...['run', ...LEASE_FILE_FLAGS, '--iface=eth0', '--iptables-forward-rules=false'],
        `--subnet-file=${subnetFileOf(lab.near)}`,
      ]),
    );
  /** A moment at which the kernel has handlers for a signal: Node is up. */
  const handles = (program: Program, signal: number): Promise<true> =>
    waitFor('Node', 10_000, async () => {
      const status = await readFile(`/proc/${program.pid}/status`, 'utf8').catch(() => '');
      const mask = BigInt(`0x${/^SigCgt:\s*(\w+)$/m.exec(status)?.[1] ?? '0'}`);
      return (mask & (1n << BigInt(signal - 1))) === 0n ? undefined : true;
    });

  it('has no debugger, however early SIGUSR1 comes', async () => {
    const program = start();
    try {
      await handles(program, 10);
      const ready = async (): Promise<true | undefined> => {
        program.kill('SIGUSR1');
        const { code } = await askDaemon(subnetFileOf(lab.near), '/readyz').catch(() => ({
          code: 0,
        }));
        return code === 200 ? true : undefined;
      };
      await waitFor('the daemon', 10_000, ready);
      expect(await listening(lab.near.host)).toEqual([]);
    } finally {
      expect(await program.stop()).toBe(0);
    }
  });

  it('ends with 0 and leaves nothing, whenever SIGTERM comes', async () => {
    let code = 143;
    for (const afterMs of [0, 20, 50, 100, 200, 300, 400, 500, 700, 3_000]) {
      const program = start();
      await handles(program, 15);
      const since = performance.now();
      await waitFor('a moment', 4_000, () => performance.now() - since >= afterMs || undefined);
      const killed = performance.now();
      program.kill('SIGTERM');
      code = await program.ended;
      // Before the first line of ours the kernel ends it; systemd takes that for a clean end, too.
      if (code === 143) expect(program.stderr).toBe('');
      else expect(code).toBe(0);
      expect(performance.now() - killed).toBeLessThan(2_500);
      expect(program.stderr).not.toContain('not stopped in time');
      expect(await tunDevices(lab.near.host)).toEqual([]);
    }
    expect(code).toBe(0);
  });
});

it('a log that nobody reads any more does not end the daemon', async () => {
  // As `flannelette run 2>&1 | head -1` would.
  const daemon = await lab.startDaemon(lab.near, {
    command: ['bash', '-c', 'exec "$@" 2> >(head -c 1 >/dev/null)', 'bash', ...COMMAND],
  });
  expect(await reaches()).toBe(true);
  // Each writes a line.
  for (let times = 0; times < 3; times += 1) {
    await run(inNamespace(lab.near.host, ['ip', 'link', 'delete', 'flannel0']));
    await waitFor('the device', 5_000, async () => {
      const [device] = await tunDevices(lab.near.host);
      return device === undefined ? undefined : true;
    });
  }
  await waitFor('the tunnel', 5_000, async () => (await reaches()) || undefined);
  await daemon.stop();
});
