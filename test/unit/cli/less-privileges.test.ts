import { describe, expect, it } from 'vitest';
import { readArguments } from '../../../src/cli/flags.js';
import { runWithLess, type StartedProcess } from '../../../src/cli/less-privileges.js';
import { runCommand } from '../../../src/cli/run-command.js';
import { runFlags } from '../../../src/cli/run-flags.js';
import type { Privileges } from '../../../src/daemon/privileges.js';
import type { Restart } from '../../../src/daemon/process.js';

const SECRETS = [runFlags.etcdPassword];

/** What would be run again, if anything. */
function restartOf(
  words: readonly string[],
  env: Record<string, string> = {},
  keep: Parameters<typeof runWithLess>[0]['keep'] = undefined,
  own: Privileges | undefined = { capabilities: [], noNewPrivileges: true },
): Restart | undefined {
  const start: StartedProcess = {
    pid: 77,
    execPath: '/usr/bin/node',
    argv: ['/usr/bin/node', '/srv/main.js', 'run', ...words],
    execArgv: ['--v8-pool-size=0'],
    env: { PATH: '/bin', ...env },
  };
  const given = readArguments(words, runCommand);
  let restarted: Restart | undefined;
  const options = { keep, given, secrets: SECRETS, unlimitedLockedMemory: false };
  runWithLess(options, start, (restart) => (restarted = restart), own);
  return restarted;
}

describe('runWithLess', () => {
  it('does nothing when there is neither a secret nor a privilege to give up', () => {
    expect(restartOf(['--iface=eth0'])).toBeUndefined();
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

  it('keeps the command line when it has no secret', () => {
    const words = ['--iface', 'eth0', '--ip-masq'];
    const own = { capabilities: ['NET_ADMIN', 'SYS_ADMIN'], noNewPrivileges: true };
    const restart = restartOf(words, {}, ['NET_ADMIN', 'BPF'], own);
    expect(restart?.arguments.slice(4)).toEqual(words);
    expect(restart?.keep).toEqual([12, 39]);
  });

  it.each([
    ['a capability too many', ['NET_ADMIN', 'CHOWN'], true, true],
    ['a way to gain one', ['NET_ADMIN'], false, true],
    ['what is needed', ['NET_ADMIN'], true, false],
    ['less than is needed', [], true, false],
    ['what is needed, on a kernel that does not tell the rest', ['NET_ADMIN'], null, false],
  ])('with %s', (_, capabilities, noNewPrivileges, expected) => {
    const restart = restartOf([], {}, ['NET_ADMIN'], { capabilities, noNewPrivileges });
    expect(restart !== undefined).toBe(expected);
  });

  it('is not run a second time in the same process, but in another one', () => {
    const words = ['--etcd-password=secret'];
    expect(restartOf(words, { FLANNELETTE_RESTARTED: '77' })).toBeUndefined();
    expect(restartOf(words, { FLANNELETTE_RESTARTED: '78' })).toBeDefined();
  });

  it('hands on the descriptors that systemd gave this process, and no other', () => {
    const words = ['--etcd-password=secret'];
    const count = (env: Record<string, string>) => restartOf(words, env)?.descriptors;
    expect(count({})).toBe(3);
    expect(count({ LISTEN_PID: '77', LISTEN_FDS: '2' })).toBe(5);
    expect(count({ LISTEN_PID: '76', LISTEN_FDS: '2' })).toBe(3);
    expect(count({ LISTEN_PID: '77', LISTEN_FDS: 'many' })).toBe(3);
  });
});
