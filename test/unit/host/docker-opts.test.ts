/**
 * The expected texts are what flannel's dist/mk-docker-opts.sh writes (v0.28), taken from the script
 * by hand and compared with its output under dash and bash.
 */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { main } from '../../../src/cli/program.js';
import { parseCidr } from '../../../src/config/ipv4.js';
import { routeElsewhere, writeDockerOpts } from '../../../src/host/docker-opts.js';

const subnetEnv = (ipMasq: boolean): string =>
  `FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=${ipMasq}\n`;

let directory: string;
let subnetFile: string;
let dockerFile: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-docker-'));
  subnetFile = join(directory, 'subnet.env');
  dockerFile = join(directory, 'docker_opts.env');
});
afterEach(() => rm(directory, { recursive: true }));

async function run(argv: readonly string[], env: Record<string, string> = {}) {
  let out = '';
  let err = '';
  const code = await main(['docker-opts', ...argv], {
    env: { FLANNELD_SUBNET_FILE: subnetFile, ...env },
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

/** What the command writes to `-d` with these flags. */
async function written(argv: readonly string[], env: Record<string, string> = {}) {
  expect(await run(['-d', dockerFile, ...argv], env)).toEqual({ code: 0, out: '', err: '' });
  return readFile(dockerFile, 'utf8');
}

describe('the output is that of mk-docker-opts.sh', () => {
  const BIP = 'DOCKER_OPT_BIP="--bip=100.96.1.1/24"\n';
  const MASQ = 'DOCKER_OPT_IPMASQ="--ip-masq=true"\n';
  const MTU = 'DOCKER_OPT_MTU="--mtu=1472"\n';
  const ALL = 'DOCKER_OPTS=" --bip=100.96.1.1/24 --ip-masq=true --mtu=1472"\n';
  const NO_MASQ = 'DOCKER_OPTS=" --bip=100.96.1.1/24 --mtu=1472"\n';
  const NETWORK = 'DOCKER_NETWORK_OPTIONS=" --bip=100.96.1.1/24 --ip-masq=true --mtu=1472"\n';

  it.each([
    [[], BIP + MASQ + MTU + ALL],
    [['-i'], BIP + MASQ + MTU],
    [['-c'], ALL],
    [['-i', '-c'], BIP + MASQ + MTU + ALL],
    [['-ci'], BIP + MASQ + MTU + ALL],
    [['-m'], BIP + MTU + NO_MASQ],
    [['-i', '-m'], BIP + MTU],
    [['-c', '-m'], NO_MASQ],
    [['-icm'], BIP + MTU + NO_MASQ],
    [['-k', 'DOCKER_NETWORK_OPTIONS'], BIP + MASQ + MTU + NETWORK],
    [['-i', '-k', 'DOCKER_NETWORK_OPTIONS'], BIP + MASQ + MTU],
    [['-ck', 'DOCKER_NETWORK_OPTIONS'], NETWORK],
    [['-kDOCKER_NETWORK_OPTIONS'], BIP + MASQ + MTU + NETWORK],
    [['-ckDOCKER_NETWORK_OPTIONS'], NETWORK],
    [['-icmkDOCKER_OPTS'], BIP + MTU + NO_MASQ],
    [['-c', '-kX', '-kDOCKER_OPTS'], ALL],
    [['--individual'], BIP + MASQ + MTU],
    [['--combined', '--omit-ip-masq'], NO_MASQ],
    [['--combined', '--combined-key=DOCKER_NETWORK_OPTIONS'], NETWORK],
  ])('with %j', async (argv, expected) => {
    await writeFile(subnetFile, subnetEnv(false));
    expect(await written(argv)).toBe(expected);
  });

  it("leaves masquerading to the daemon when that does it: --ip-masq is FLANNEL_IPMASQ's opposite", async () => {
    await writeFile(subnetFile, subnetEnv(true));
    expect(await written([])).toBe(
      'DOCKER_OPT_BIP="--bip=100.96.1.1/24"\n' +
        'DOCKER_OPT_IPMASQ="--ip-masq=false"\n' +
        'DOCKER_OPT_MTU="--mtu=1472"\n' +
        'DOCKER_OPTS=" --bip=100.96.1.1/24 --ip-masq=false --mtu=1472"\n',
    );
  });

  it('adds to variables that are set already, in name order', async () => {
    await writeFile(subnetFile, subnetEnv(false));
    const env = {
      DOCKER_OPT_ZED: '--z=1',
      DOCKER_OPT_A: '--a',
      DOCKER_OPT_MTU: '--mtu=9000',
      DOCKER_OPTS: '--debug',
    };
    expect(await written([], env)).toBe(
      'DOCKER_OPT_A="--a"\n' +
        'DOCKER_OPT_BIP="--bip=100.96.1.1/24"\n' +
        'DOCKER_OPT_IPMASQ="--ip-masq=true"\n' +
        'DOCKER_OPT_MTU="--mtu=1472"\n' +
        'DOCKER_OPT_ZED="--z=1"\n' +
        'DOCKER_OPTS="--debug  --a --bip=100.96.1.1/24 --ip-masq=true --mtu=1472 --z=1"\n',
    );
    expect(await written(['-c', '-k', 'X'], { DOCKER_OPTS: '--debug' })).toBe(
      'X=" --bip=100.96.1.1/24 --ip-masq=true --mtu=1472"\n',
    );
    // The one we are told to leave out is then somebody else's.
    expect(await written(['-cm'], { DOCKER_OPT_IPMASQ: '--ip-masq=x' })).toBe(
      'DOCKER_OPTS=" --bip=100.96.1.1/24 --ip-masq=x --mtu=1472"\n',
    );
  });

  it('reads quotes, comments and assignments of others as a shell does', async () => {
    await writeFile(
      subnetFile,
      '# by hand\nFLANNEL_SUBNET="10.5.72.1/24"\nFLANNEL_MTU=\'1450\' # bytes\nFLANNEL_IPMASQ=true\n' +
        'FLANNEL_MTU=1400\nDOCKER_OPT_DNS="--dns=10.0.0.2 --dns=10.0.0.3"\nFLANNEL_IPV6_SUBNET=::/64',
    );
    expect(await written(['-c'])).toBe(
      'DOCKER_OPTS=" --bip=10.5.72.1/24 --dns=10.0.0.2 --dns=10.0.0.3 --ip-masq=false --mtu=1400"\n',
    );
  });
});

describe('the files', () => {
  it('are where -f and -d say, the flag before FLANNELD_SUBNET_FILE', async () => {
    const other = join(directory, 'other.env');
    await writeFile(other, subnetEnv(false).replace('1472', '1400'));
    expect(await written(['-c', '-f', other])).toContain('--mtu=1400');
    expect(await written(['-c', `--subnet-file=${other}`])).toContain('--mtu=1400');
  });

  it('is replaced in one step with mode 0644; missing directories are made', async () => {
    await writeFile(subnetFile, subnetEnv(false));
    const path = join(directory, 'run', 'flannel', 'docker');
    expect((await run(['-c', '-d', path])).code).toBe(0);
    const { ino, mode } = await stat(path);
    expect(mode & 0o777).toBe(0o644);
    expect((await run(['-i', '--docker-file', path])).code).toBe(0);
    expect((await stat(path)).ino).not.toBe(ino);
    expect(await readFile(path, 'utf8')).toMatch(/^DOCKER_OPT_BIP=/);
    expect(await readdir(join(directory, 'run', 'flannel'))).toEqual(['docker']);
  });

  it('is written through a symbolic link and into a pipe, neither of which is replaced', async () => {
    const link = join(directory, 'link');
    await writeFile(dockerFile, 'old');
    await symlink(dockerFile, link);
    await writeDockerOpts(link, 'new\n');
    expect(await readFile(dockerFile, 'utf8')).toBe('new\n');
    expect((await readdir(directory)).sort()).toEqual(['docker_opts.env', 'link']);

    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const [text] = await Promise.all([readFile(pipe, 'utf8'), writeDockerOpts(pipe, 'piped\n')]);
    expect(text).toBe('piped\n');
    expect((await stat(pipe)).isFIFO()).toBe(true);
  });
});

describe('a subnet file that will not do leaves the old output and is named in one line', () => {
  const refuse = async (code: number, message: string, argv: readonly string[] = []) => {
    await writeFile(dockerFile, 'old');
    const result = await run(['-d', dockerFile, ...argv]);
    expect(result).toEqual({ code, out: '', err: expect.stringContaining(message) as string });
    expect(result.err).toMatch(/^[^\n]+\n$/);
    expect(await readFile(dockerFile, 'utf8')).toBe('old');
  };

  it('unreadable', async () => {
    await mkdir(subnetFile);
    await refuse(
      1,
      `--subnet-file: cannot read ${subnetFile} (it is a directory, not a regular file)`,
    );
  });

  it.each([
    ['FLANNEL_SUBNET=x\n', 'FLANNEL_SUBNET: "x" is not valid: expected an IPv4 subnet'],
    ['FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1e3\n', 'FLANNEL_MTU: "1e3" is not valid'],
    ['FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=0\n', 'FLANNEL_MTU: "0" is not valid'],
    [
      'FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=yes\n',
      'FLANNEL_IPMASQ: "yes" is not valid: expected true or false',
    ],
  ])('%j', async (text, message) => {
    await writeFile(subnetFile, text);
    await refuse(2, `--subnet-file ${subnetFile}: ${message}`);
  });

  it('but FLANNEL_IPMASQ is not asked for with -m', async () => {
    await writeFile(subnetFile, 'FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1472\n');
    expect(await written(['-cm'])).toBe('DOCKER_OPTS=" --bip=10.5.72.1/24 --mtu=1472"\n');
  });
});

describe('without a value the option is left out, as by the script, and that is said', () => {
  it.each([
    ['-c', '', 'DOCKER_OPTS=""\n', ['FLANNEL_SUBNET', 'FLANNEL_MTU', 'FLANNEL_IPMASQ']],
    ['-i', '', '', ['FLANNEL_SUBNET', 'FLANNEL_MTU', 'FLANNEL_IPMASQ']],
    [
      '-c',
      'FLANNEL_SUBNET=\nFLANNEL_MTU=1\nFLANNEL_IPMASQ=true',
      'DOCKER_OPTS=" --ip-masq=false --mtu=1"\n',
      ['FLANNEL_SUBNET'],
    ],
    [
      '-cm',
      'FLANNEL_SUBNET=10.5.72.1/24\n',
      'DOCKER_OPTS=" --bip=10.5.72.1/24"\n',
      ['FLANNEL_MTU'],
    ],
    [
      '-c',
      'FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=9\n',
      'DOCKER_OPTS=" --bip=10.5.72.1/24 --mtu=9"\n',
      ['FLANNEL_IPMASQ'],
    ],
  ])('%s of %j', async (flags, text, expected, missing) => {
    await writeFile(subnetFile, text);
    const { code, out, err } = await run(['-d', dockerFile, flags]);
    expect([code, out]).toEqual([0, '']);
    expect(err.trimEnd().split('\n')).toEqual(
      missing.map(
        (name) => expect.stringContaining(`${subnetFile}: ${name} is missing: --`) as string,
      ),
    );
    expect(await readFile(dockerFile, 'utf8')).toBe(expected);
  });

  it('nor is the file needed', async () => {
    const { code, err } = await run(['-d', dockerFile], { DOCKER_OPTS: '--debug' });
    expect(code).toBe(0);
    expect(err).toContain(`--subnet-file: there is no ${subnetFile}: flannelette run writes it`);
    expect(await readFile(dockerFile, 'utf8')).toBe('DOCKER_OPTS="--debug "\n');
    // The script finds them in its environment then.
    expect((await run(['-c', '-d', dockerFile], { FLANNEL_SUBNET: '10.5.72.1/24' })).code).toBe(0);
    expect(await readFile(dockerFile, 'utf8')).toBe('DOCKER_OPTS=" --bip=10.5.72.1/24"\n');
  });
});

it('line ends of Windows and `export` are no part of a value', async () => {
  const lines = [
    'export FLANNEL_SUBNET="10.5.72.1/24"',
    'FLANNEL_MTU=1450 # bytes',
    'FLANNEL_IPMASQ=false',
    '',
  ];
  await writeFile(subnetFile, lines.join('\r\n'));
  expect(await written(['-c'])).toBe(
    'DOCKER_OPTS=" --bip=10.5.72.1/24 --ip-masq=true --mtu=1450"\n',
  );
});

describe('other mistakes', () => {
  it.each([
    [['-k', 'A B'], '--combined-key: "A B" is not valid: expected a variable'],
    [['-d', ''], '--docker-file: "" is not valid'],
    [['-f'], '--subnet-file: (missing) is not valid'],
    [['-x'], 'unknown flag --x: expected one of --subnet-file'],
    [['-ix'], 'unknown flag --ix'],
    [['-fi', 'x'], 'unexpected argument "x"'],
    [['-dockr-file=x'], 'unknown flag --dockr-file (did you mean --docker-file?)'],
    [['-icx'], 'unknown flag --icx'],
    [['-c', 'x'], 'unexpected argument "x"'],
  ])('%j', async (argv, message) => {
    await writeFile(subnetFile, subnetEnv(false));
    const { code, err } = await run(argv);
    expect([code, err]).toEqual([2, expect.stringContaining(message)]);
  });

  it('an output that cannot be written', async () => {
    await writeFile(subnetFile, subnetEnv(false));
    const { code, err } = await run(['-d', directory]);
    expect(code).toBe(1);
    expect(err).toContain(`--docker-file: cannot write ${directory} (EISDIR`);
    // The kernel's own directory takes no new files, for root neither.
    expect((await run(['-d', '/proc/self/docker_opts.env'])).err).toMatch(
      /^--docker-file: cannot write \/proc\/self\/docker_opts.env \(E[^\n]+\n$/,
    );
    expect(await readdir(directory)).toEqual(['subnet.env']);
  });
});

describe('a route that takes the subnet elsewhere', () => {
  const HEAD =
    'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';
  const row = (destination: string, gateway: string, mask: string): string =>
    `eth0\t${destination}\t${gateway}\t0003\t0\t0\t0\t${mask}\t0\t0\t0   \n`;
  const subnet = parseCidr('test', '100.96.1.0/24');

  it('is one with a gateway to exactly that subnet', () => {
    const via = row('00016064', '0300A80A', '00FFFFFF');
    expect(routeElsewhere(subnet, HEAD + row('00000000', '0100A80A', '00000000') + via)).toBe(
      '10.168.0.3',
    );
  });

  it.each([
    ['no gateway: the bridge itself', row('00016064', '00000000', '00FFFFFF')],
    ['a wider one: the overlay', row('00006064', '0300A80A', '0000FFFF')],
    ['a narrower one', row('00016064', '0300A80A', '80FFFFFF')],
    ['another', row('00026064', '0300A80A', '00FFFFFF')],
    ['none', ''],
  ])('is not %s', (_what, rows) => {
    expect(routeElsewhere(subnet, HEAD + rows)).toBeUndefined();
    expect(routeElsewhere(subnet, '')).toBeUndefined();
  });
});

it('the help shows both names of a flag, the defaults and examples', async () => {
  const { out } = await run(['--help']);
  expect(out).toMatch(/-f, --subnet-file <path> .*\(default: \/run\/flannel\/subnet\.env\)/);
  expect(out).toMatch(/-d, --docker-file <path> .*\(default: \/run\/docker_opts\.env\)/);
  expect(out).toMatch(/-k, --combined-key <name> .*\(default: DOCKER_OPTS\)/);
  for (const flag of ['-i, --individual', '-c, --combined', '-m, --omit-ip-masq']) {
    expect(out).toContain(flag);
  }
  expect(out).toContain('flannelette docker-opts -c -d /dev/stdout');
});
