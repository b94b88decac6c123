import { describe, expect, it } from 'vitest';
import { readArguments } from '../../../src/cli/flags.js';
import { runWithLess, type StartedProcess } from '../../../src/cli/less-privileges.js';
import { runCommand } from '../../../src/cli/run-command.js';
import { runFlags } from '../../../src/cli/run-flags.js';
import type { Privileges } from '../../../src/daemon/privileges.js';
import type { FewerPrivileges, Restart } from '../../../src/daemon/process.js';

const SECRETS = [runFlags.etcdPassword];

const PRIVILEGED = { capabilities: ['NET_ADMIN', 'SYS_ADMIN'], noNewPrivileges: true };

interface Given {
  readonly env?: Record<string, string>;
  readonly keep?: Parameters<typeof runWithLess>[0]['keep'];
  readonly own?: Privileges;
  /** The kernel refuses to take it from a thread. */
  readonly refuses?: boolean;
}

/** What is taken from the threads there are, and what would be run again, if anything. */
function outcome(
  words: readonly string[],
  {
    env = {},
    keep,
    own = { capabilities: [], noNewPrivileges: true },
    refuses = false,
  }: Given = {},
): { dropped?: FewerPrivileges; restarted?: Restart } {
  const start: StartedProcess = {
    pid: 77,
    execPath: '/usr/bin/node',
    argv: ['/usr/bin/node', '/srv/main.js', 'run', ...words],
    execArgv: ['--v8-pool-size=0'],
    env: { PATH: '/bin', ...env },
  };
  const given = readArguments(words, runCommand);
  const seen: { dropped?: FewerPrivileges; restarted?: Restart } = {};
  const ways = {
    drop: (fewer: FewerPrivileges): void => {
      if (refuses) throw new Error('ETIMEDOUT');
      seen.dropped = fewer;
    },
    restart: (restart: Restart): void => {
      seen.restarted = restart;
    },
  };
  runWithLess(
    { keep, given, secrets: SECRETS, unlimitedLockedMemory: false },
    ...([start, ways, own] as const),
  );
  return seen;
}

function restartOf(words: readonly string[], given?: Given): Restart | undefined {
  return outcome(words, given).restarted;
}

describe('runWithLess', () => {
  it('does nothing when there is neither a secret nor a privilege to give up', () => {
    expect(outcome(['--iface=eth0'])).toEqual({});
  });

  it.each([
    ['with a sign', ['--etcd-password=a=b c', '--iface', 'eth0', '-v=1']],
    ['as a word', ['-etcd-password', 'a=b c', '--iface', 'eth0', '-v=1']],
    ['twice', ['--etcd-password=old', '--iface=eth0', '-v', '1', '--etcd-password=a=b c']],
  ])('moves a password given %s into the environment', (_, words) => {
    const restart = restartOf(words);
    expect(restart?.arguments).toEqual([
      ...['/usr/bin/node', '--v8-pool-size=0', '/srv/main.js', 'run', '--iface=eth0', '-v=1'],
    ]);
    expect(restart?.environment).toEqual([
      ...['PATH=/bin', 'FLANNELD_ETCD_PASSWORD=a=b c', 'FLANNELETTE_RESTARTED=77'],
    ]);
  });

  it('takes privileges from the threads there are', () => {
    expect(outcome(['--iface=eth0'], { keep: ['NET_ADMIN', 'BPF'], own: PRIVILEGED })).toEqual({
      dropped: { keep: [12, 39], unlimitedLockedMemory: false },
    });
  });

  it('runs again where a thread cannot be made to, with the same command line', () => {
    const words = ['--iface', 'eth0', '--ip-masq'];
    const restart = restartOf(words, {
      keep: ['NET_ADMIN', 'BPF'],
      own: PRIVILEGED,
      refuses: true,
    });
    expect(restart?.arguments.slice(4)).toEqual(words);
    expect(restart?.keep).toEqual([12, 39]);
  });

  it('does both at once when there is a secret as well', () => {
    const given = { keep: ['NET_ADMIN'], own: PRIVILEGED } as const;
    const { dropped, restarted } = outcome(['--etcd-password=secret'], given);
    expect(dropped).toBeUndefined();
    expect(restarted?.keep).toEqual([12]);
  });

  it.each([
    ['a capability too many', ['NET_ADMIN', 'CHOWN'], true, true],
    ['a way to gain one', ['NET_ADMIN'], false, true],
    ['what is needed', ['NET_ADMIN'], true, false],
    ['less than is needed', [], true, false],
    ['what is needed, on a kernel that does not tell the rest', ['NET_ADMIN'], null, false],
  ])('with %s', (_, capabilities, noNewPrivileges, expected) => {
    const own = { capabilities, noNewPrivileges };
    expect(outcome([], { keep: ['NET_ADMIN'], own }).dropped !== undefined).toBe(expected);
  });

  it('is not run a second time in the same process, but in another one', () => {
    const words = ['--etcd-password=secret'];
    expect(restartOf(words, { env: { FLANNELETTE_RESTARTED: '77' } })).toBeUndefined();
    expect(restartOf(words, { env: { FLANNELETTE_RESTARTED: '78' } })).toBeDefined();
  });

  it('hands on the descriptors that systemd gave this process, and no other', () => {
    const words = ['--etcd-password=secret'];
    const count = (env: Record<string, string>) => restartOf(words, { env })?.descriptors;
    expect(count({})).toBe(3);
    expect(count({ LISTEN_PID: '77', LISTEN_FDS: '2' })).toBe(5);
    expect(count({ LISTEN_PID: '76', LISTEN_FDS: '2' })).toBe(3);
    expect(count({ LISTEN_PID: '77', LISTEN_FDS: 'many' })).toBe(3);
  });
});
