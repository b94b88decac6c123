/** What is made of the commands' records for packages: man page, completion of bash, environment file. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { bashCompletion } from '../../../src/cli/bash-completion.js';
import { defaultsFile } from '../../../src/cli/defaults-file.js';
import { flagText, resolveFlags } from '../../../src/cli/flags.js';
import { shownFlags } from '../../../src/cli/help.js';
import { manPage } from '../../../src/cli/man-page.js';
import { PROGRAM } from '../../../src/cli/program.js';
import { runFlags } from '../../../src/cli/run-flags.js';
import { DAEMON_MODES } from '../../../src/daemon/options.js';

describe('the man page', () => {
  const page = manPage(PROGRAM, {
    version: '1.2.3',
    date: '2026-01-02',
    files: [['/etc/default/flannelette', "the unit's variables"]],
  });
  const plain = page.replaceAll('\\-', '-').replaceAll('\\(aq', "'");

  it('has every command with its flags, examples and exit codes', () => {
    for (const { name, flags, footer } of PROGRAM.commands) {
      const section = plain.split(`\n.SS ${name}\n`)[1]?.split('\n.S')[0] ?? '';
      for (const flag of shownFlags(flags)) expect(section).toContain(flagText(flag.name));
      for (const line of footer.trim().split('\n')) expect(section).toContain(line.trim());
    }
    for (const { name, commands } of PROGRAM.groups) {
      const section = plain.split(`\n.SS ${name}\n`)[1]?.split('\n.S')[0] ?? '';
      for (const command of commands) expect(section).toContain(`.B ${command.name}`);
    }
  });

  it('hides what the help hides', () => {
    expect(plain).not.toContain('--isolated');
  });

  it('carries version, day and files', () => {
    expect(page.split('\n')[0]).toBe(
      '.TH FLANNELETTE 8 "2026-01-02" "flannelette 1.2.3" "System Administration"',
    );
    expect(plain).toContain(".B /etc/default/flannelette\nthe unit's variables");
  });

  it('has no line that groff takes for a request of another name', () => {
    const requests = page.split('\n').filter((line) => /^[.']/.test(line));
    const names = new Set(requests.map((line) => line.split(' ')[0]));
    const used = ['.TH', '.SH', '.SS', '.B', '.I', '.RI', '.PP', '.TP', '.RS', '.RE', '.nf', '.fi'];
    expect([...names].filter((name) => !used.includes(name ?? ''))).toEqual([]);
  });
});

describe('the completion of bash', () => {
  const script = bashCompletion(PROGRAM);

  /** What bash offers behind these words, the last of them being typed. */
  function offers(...words: string[]): string[] {
    const list = words.map((word) => `'${word}'`).join(' ');
    const ask = `${script}\nCOMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _flannelette 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`;
    // --norc: with a socket as its standard input bash takes itself for rshd's and reads bashrc.
    const argv = ['--norc', '-uc', ask];
    const { stdout, stderr } = spawnSync('bash', argv, { encoding: 'utf8' });
    expect(stderr).toBe('');
    return stdout.split('\n').filter((line) => line !== '');
  }

  it('offers every command', () => {
    const names = [...PROGRAM.commands, ...PROGRAM.groups].map(({ name }) => name);
    expect(offers('flannelette', '')).toEqual([...names, 'help', '--help', '--version']);
    expect(offers('flannelette', 'help', '')).toEqual(names);
    expect(offers('flannelette', 'sta')).toEqual(['status']);
    expect(offers('flannelette', 'bench', '')).toEqual(['copies', 'modes', 'report']);
  });

  it('offers the flags of a command and not those that are hidden', () => {
    for (const { name, flags } of PROGRAM.commands) {
      const forms = shownFlags(flags).map((flag) => flagText(flag.name));
      expect(offers('flannelette', name, '')).toEqual([...forms, '--help']);
    }
    expect(offers('flannelette', 'bench', 'modes', '--qu')).toEqual(['--quick']);
    expect(offers('flannelette', 'run', '--etcd-c')).toEqual(['--etcd-cafile', '--etcd-certfile']);
  });

  it.each([
    [['run', '--mode', ''], [...DAEMON_MODES]],
    [
      ['run', '-mode', 'b'],
      ['basic', 'batch'],
    ],
    [['run', '--mode', '=', 'o'], ['offload']],
    [['run', '--mode', '='], [...DAEMON_MODES]],
    [['run', '--ip-masq', '=', 'f'], ['false']],
    [['run', '--ip-masq', '--ip-masq-f'], ['--ip-masq-fully-random-disable']],
    [['run', '--public-ip', ''], []],
    [
      ['run', '--log-format', ''],
      ['text', 'json'],
    ],
    [
      ['run', '--etcd-cafile', '/etc/passw'],
      ['/etc/passwd', '/etc/passwd-'],
    ],
    [['lab', '--web', '--js'], ['--json']],
  ])('after %j offers %j', (words, expected) => {
    const offered: string[] = offers('flannelette', ...words);
    expect(offered.filter((word) => expected.includes(word))).toEqual(offered);
    if (expected.length > 0) expect(offered).toContain(expected[0]);
  });
});

describe('the environment file', () => {
  const text = defaultsFile(runFlags);
  const variables = text.split('\n').filter((line) => /^#FLANNELD_/.test(line));

  it('sets nothing', () => {
    expect(text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))).toEqual([]);
  });

  it('has a variable for every flag that does something', () => {
    const names = variables.map((line) => line.slice(1).split('=')[0]);
    for (const name of ['FLANNELD_ETCD_ENDPOINTS', 'FLANNELD_MODE', 'FLANNELD_LOG_FORMAT']) {
      expect(names).toContain(name);
    }
    expect(names).not.toContain('FLANNELD_VERSION');
    expect(names).not.toContain('FLANNELD_VMODULE');
    expect(new Set(names).size).toBe(names.length);
  });

  it('changes nothing when every variable in it is set', () => {
    const env = Object.fromEntries(
      variables.map((line) => line.slice(1).split('=') as [string, string]),
    );
    expect(Object.values(env).filter((value) => value !== '').length).toBeGreaterThan(10);
    expect(resolveFlags(runFlags, new Map(), env)).toEqual(resolveFlags(runFlags, new Map(), {}));
  });
});
