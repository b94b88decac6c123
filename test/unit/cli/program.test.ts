import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chooseMode, formatProbe } from '../../../src/cli/probe-command.js';
import { probeKernel, TUN_ADVICE, type KernelFeature } from '../../../src/daemon/process.js';
import { main } from '../../../src/cli/program.js';
import { StatusServer } from '../../../src/daemon/server.js';
import { packageVersion } from '../../../src/daemon/version.js';

async function run(...argv: string[]) {
  let out = '';
  let err = '';
  const code = await main(argv, {
    env: {},
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

describe('help', () => {
  it.each([['--help'], ['-h'], ['help']])(
    '%s lists the commands, addresses and exit codes',
    async (flag) => {
      const { code, out, err } = await run(flag);
      expect([code, err]).toEqual([0, '']);
      for (const text of [
        'run',
        'lab',
        'trace',
        'probe',
        'status',
        'docker-opts',
        'mode',
        'install-cni',
        'extension',
        'bench',
        '100.96.1.0/24',
        'Exit codes:',
      ]) {
        expect(out).toContain(text);
      }
    },
  );

  it.each([
    ...['run', 'lab', 'trace', 'probe', 'status', 'step-aside', 'docker-opts', 'install-cni'],
    ...['bench copies', 'bench modes', 'bench report', 'mode kernel'],
    ...['up', 'post', 'add', 'remove', 'down', 'serve'].map((name) => `extension ${name}`),
  ])('of %s is complete and fits a terminal', async (name) => {
    const words = name.split(' ');
    const { code, out } = await run(...words, '--help');
    expect(code).toBe(0);
    expect(out).toContain(`Usage: flannelette ${name} [flags]`);
    expect(out).toContain('Exit codes:');
    expect(out).toMatch(/Example/);
    expect((await run('help', ...words)).out).toBe(out);
    const long = out.split('\n').filter((line) => line.length > 120);
    expect(long).toEqual([]);
  });

  it.each([
    [['-help'], ['--help']],
    [
      ['run', '-help'],
      ['run', '--help'],
    ],
    [
      ['run', '-h'],
      ['run', '--help'],
    ],
    [
      ['run', '--iface=eth0', '-help'],
      ['run', '--help'],
    ],
    [
      ['docker-opts', '-help'],
      ['docker-opts', '--help'],
    ],
    [
      ['bench', '-help'],
      ['bench', '--help'],
    ],
    [
      ['bench', 'copies', '-help'],
      ['bench', 'copies', '--help'],
    ],
  ])('%j is %j, with one dash as Go takes it', async (argv, same) => {
    const { code, out, err } = await run(...argv);
    expect([code, err]).toEqual([0, '']);
    expect(out).toBe((await run(...same)).out);
  });

  it('of bench lists the benchmarks', async () => {
    const { code, out } = await run('bench', '--help');
    expect(code).toBe(0);
    for (const name of ['copies', 'modes', 'report']) expect(out).toContain(name);
    expect((await run('help', 'bench')).out).toBe(out);
  });

  it.each([
    [['bench'], 'no benchmark: expected one of bench copies, bench modes, bench report'],
    [
      ['bench', 'copy'],
      'unknown benchmark "copy": expected one of bench copies, bench modes, bench report',
    ],
    [['bench', 'copies', '--rounds=x'], '--rounds: "x" is not valid'],
    [['bench', 'copies', '--fast'], 'unknown flag --fast'],
    [['bench', 'modes', '--rounds=1001'], '--rounds: "1001" is not valid'],
    [['bench', 'modes', '--seconds=x'], '--seconds: "x" is not valid'],
    [['bench', 'modes', '--modes='], '--modes: "" is not valid'],
    [['bench', 'report', '--copies=a.json'], '--report: (missing) is not valid'],
  ])('%j is wrong input', async (argv, message) => {
    const { code, err } = await run(...argv);
    expect(code).toBe(2);
    expect(err).toContain(message);
  });

  it('of run tells of the environment and hides nothing but internals', async () => {
    const { out } = await run('run', '--help');
    expect(out).toContain('FLANNELD_ETCD_ENDPOINTS');
    expect(out).toContain('--subnet-lease-renew-margin <minutes>');
    const { out: lab } = await run('lab', '--help');
    expect(lab).not.toContain('--isolated');
    expect(lab).toContain('--web [port]');
  });
});

describe('the version', () => {
  it.each([[['--version']], [['-version']], [['run', '--version']]])('%j', async (argv) => {
    const { code, out } = await run(...argv);
    expect([code, out]).toEqual([0, `${packageVersion()}\n`]);
    expect(out).toMatch(/^\d+\.\d+\.\d+/);
  });
});

describe('mistakes are one line and exit code 2', () => {
  it.each([
    [[], 'no command: expected one of run, lab, trace, probe, status, step-aside, docker-opts'],
    [['rum'], 'unknown command "rum" (did you mean run?)'],
    [['--iface=eth0'], '--iface is a flag of a command: flannelette run --iface=eth0'],
    [['--etcd-endpoints=x'], 'flannelette run --etcd-endpoints=x'],
    [['--bar'], 'unknown flag --bar: expected a command first'],
    [['help', 'rum'], 'rum'],
    [['run', '--etcd-endpoints=ftp://a'], '--etcd-endpoints: "ftp://a" is not valid'],
    [['run', '--foo'], 'unknown flag --foo: expected one of --etcd-endpoints'],
    [['status', '--foo'], 'unknown flag --foo: expected one of --subnet-file, --json, --help'],
    [['status', '-f'], 'unknown flag --f: expected one of --subnet-file, --json, --help'],
    [['probe', 'x'], 'unexpected argument "x"'],
    [['lab', '--mode=fast'], '--mode: "fast" is not valid'],
    [['lab', '--seconds=0'], '--seconds: "0" is not valid'],
    [['trace', '--proto=gre'], '--proto: "gre" is not valid: expected icmp or tcp or udp'],
    [['trace', '--from=100.96.3.4'], '--from: "100.96.3.4" is not valid: expected 100.96.1.2'],
    [['trace', '--from=100.96.1.2', '--to=100.96.1.2'], '--to: "100.96.1.2" is not valid'],
    [['trace', '--size=1445'], '--size: 1445 is not valid: expected 0 to 1444 bytes for icmp'],
    [['trace', '--size=big'], '--size: "big" is not valid'],
    [['lab', '--web=65536'], '--web: "65536" is not valid: expected a TCP port from 1 to 65535'],
    [['lab', '--web', 'page'], '--web: "page" is not valid'],
    [['lab', '--web', '--json'], '--json: "true" is not valid: expected no such flag beside --web'],
    [['lab', '--web', '8081', '--seconds=9'], '--seconds: "9" is not valid'],
  ])('%j', async (argv, message) => {
    const { code, out, err } = await run(...argv);
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain(message);
    expect(err).toMatch(/^[^\n]+\n$/);
  });
});

describe('an unknown flag that is nearly one', () => {
  it.each([
    [['run', '--subnetfile=x'], 'unknown flag --subnetfile (did you mean --subnet-file?)', 'run'],
    [['run', '-ifcae', 'eth0'], 'unknown flag --ifcae (did you mean --iface?)', 'run'],
    [['status', '--jsno'], 'unknown flag --jsno (did you mean --json?)', 'status'],
    [['lab', '--hlep'], 'unknown flag --hlep (did you mean --help?)', 'lab'],
  ])('%j is told by its name alone', async (argv, message, command) => {
    const { code, err } = await run(...argv);
    expect([code, err]).toEqual([2, `${message}; see flannelette ${command} --help\n`]);
  });
});

describe('probe', () => {
  const feature = (name: string, state: KernelFeature['state'], detail = 'tried') => ({
    name,
    state,
    since: '3.0',
    detail,
  });
  const DENIED = 'unshare CLONE_NEWNET: Operation not permitted';

  it('says what auto makes of what there is', () => {
    expect(chooseMode([feature('tun', 'yes'), feature('mmsg', 'yes')])).toEqual({
      mode: 'offload',
      without: [],
      untried: [],
      reason: 'auto: offload with every feature',
    });
    const old = ['tun-vnet-hdr', 'tun-tso', 'mmsg'].map((name) => feature(name, 'no', 'EINVAL'));
    expect(chooseMode([feature('tun', 'yes'), ...old])).toEqual({
      mode: 'offload',
      without: ['tun-tso', 'mmsg'],
      untried: [],
      reason: 'auto: offload without tun-tso, mmsg',
    });
    expect(chooseMode([feature('tun', 'no', 'ENODEV')])).toEqual({
      mode: undefined,
      without: [],
      untried: [],
      reason: `tun is not available: ENODEV; ${TUN_ADVICE}`,
    });
  });

  it('does not take what could not be tried for absent', () => {
    const denied = ['tun', 'tun-tso'].map((name) => feature(name, 'untried', DENIED));
    expect(chooseMode([...denied, feature('mmsg', 'no')])).toEqual({
      mode: undefined,
      without: [],
      untried: ['tun', 'tun-tso'],
      reason: `not known: tun, tun-tso could not be tried (${DENIED}); run as root, with CAP_SYS_ADMIN`,
    });
    const busy = feature('mmsg', 'untried', 'socket: Too many open files');
    expect(chooseMode([feature('tun', 'yes'), busy])).toEqual({
      mode: 'offload',
      without: [],
      untried: ['mmsg'],
      reason:
        'auto: offload with every feature; not known: mmsg could not be tried (socket: Too many open files)',
    });
  });

  it('prints what was found out, and what follows from it', () => {
    const features = [
      feature('tun', 'yes'),
      feature('mmsg', 'no', 'ENOSYS'),
      feature('udp-gso', 'untried', 'socket: EMFILE'),
    ];
    expect(formatProbe(features).split('\n').slice(0, 15)).toEqual([
      '  feature  since  here     found out by',
      '  ---------------------------------------',
      '  tun      3.0    yes      tried',
      '  mmsg     3.0    no       ENOSYS',
      '  udp-gso  3.0    untried  socket: EMFILE',
      '',
      'Mode auto: offload without mmsg; not known: udp-gso could not be tried (socket:',
      'EMFILE)',
      '',
      '  feature  here     so',
      '  ------------------------------------------------------',
      '  tun      yes      packets come to a daemon and go back',
      '  mmsg     no       one system call for each message',
      '  udp-gso  untried  a daemon finds out',
      '',
    ]);
  });

  it('says that no daemon can run without a TUN driver', () => {
    const text = formatProbe([feature('tun', 'no', 'open /dev/net/tun: No such device')]);
    expect(text.replaceAll(/\s+/g, ' ')).toContain(
      `No daemon can run here: tun is not available: open /dev/net/tun: No such device; ${TUN_ADVICE} `,
    );
  });

  it('has a meaning for every feature the kernel is asked for, within 80 columns', () => {
    const features = probeKernel();
    const text = formatProbe(features);
    for (const { name } of features) {
      expect(text.match(new RegExp(`^  ${name} `, 'gm'))).toHaveLength(2);
    }
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });
});

describe('status', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'flannelette-cli-'));
  });
  afterEach(() => rm(directory, { recursive: true }));

  it('says in one line that no daemon answers', async () => {
    const path = join(directory, 'subnet.env');
    const { code, out, err } = await run('status', '--subnet-file', path);
    expect([code, out]).toEqual([1, '']);
    expect(err).toBe(
      `no daemon answers on ${path}.sock (ENOENT): start one with flannelette run, or name its --subnet-file\n`,
    );
  });

  it('prints what the daemon says', async () => {
    const path = join(directory, 'subnet.env');
    const answer = { version: '1.2.3', pid: 7 };
    const server = new StatusServer({
      ready: () => ({ ready: true }),
      status: () => answer,
      metrics: () => Promise.resolve({ contentType: 'text/plain', text: '' }),
      changeMode: () => undefined,
      stepAside: () => undefined,
    });
    await server.listenUnix(`${path}.sock`);
    const { code, out } = await run('status', `-subnet-file=${path}`, '--json');
    await server.close();
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(answer);
  });

  it('refuses a path too long for a socket', async () => {
    const { code, err } = await run('status', `--subnet-file=/${'x'.repeat(110)}`);
    expect(code).toBe(2);
    expect(err).toContain('--subnet-file');
  });
});
