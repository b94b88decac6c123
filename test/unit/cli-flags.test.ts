import { describe, expect, it } from 'vitest';
import {
  environmentName,
  readArguments,
  rejectUnsupportedEnvironment,
  resolveFlags,
} from '../../src/cli/flags.js';
import { nearest } from '../../src/cli/nearest.js';
import { daemonOptions, runCommand, runFlags, UNSUPPORTED_FLAGS } from '../../src/cli/run.js';
import { validateDaemonOptions } from '../../src/daemon/options.js';

function options(argv: readonly string[], env: Record<string, string> = {}) {
  const parsed = daemonOptions(resolveFlags(runFlags, readArguments(argv, runCommand), env));
  validateDaemonOptions(parsed);
  return parsed;
}

describe('run flags', () => {
  it('has the defaults of flanneld', () => {
    expect(options(['--lease-file=l'])).toEqual({
      leaseFile: 'l',
      mode: 'batch',
      iface: [],
      subnetFile: '/run/flannel/subnet.env',
      healthzIp: '0.0.0.0',
      healthzPort: 0,
      ipMasq: false,
      sourceCheck: true,
      verbosity: 0,
      leaseRenewMarginMinutes: 60,
    });
  });

  it.each([
    [['--iface=eth0'], { iface: ['eth0'] }],
    [['-iface=eth0'], { iface: ['eth0'] }],
    [['-iface', 'eth0'], { iface: ['eth0'] }],
    [['--iface', 'eth0', '-iface=10.168.0.2'], { iface: ['eth0', '10.168.0.2'] }],
    [['-v', '2'], { verbosity: 2 }],
    [['-v=10'], { verbosity: 10 }],
    [['--v=1'], { verbosity: 1 }],
    [['--mode=basic'], { mode: 'basic' }],
    [['--mode=basic', '--mode=batch'], { mode: 'batch' }],
    [['--ip-masq=false'], { ipMasq: false }],
    [['--ip-masq=F'], { ipMasq: false }],
    [['--source-check=false'], { sourceCheck: false }],
    [['-source-check=0'], { sourceCheck: false }],
    [['--source-check', '--mode=basic'], { sourceCheck: true, mode: 'basic' }],
    [['--public-ip=203.0.113.7'], { publicIp: '203.0.113.7' }],
    [['--subnet-file', '/tmp/a=b.env'], { subnetFile: '/tmp/a=b.env' }],
    [['--subnet-lease-renew-margin=1439'], { leaseRenewMarginMinutes: 1439 }],
    [['--healthz-port=8080', '--healthz-ip=127.0.0.1'], { healthzPort: 8080 }],
  ])('takes %j', (argv, expected) => {
    expect(options(['--lease-file=l', ...argv])).toMatchObject(expected);
  });

  it.each([
    [['--mode=fast'], '--mode: "fast" is not valid: expected basic or batch'],
    [['--healthz-port=65536'], '--healthz-port: "65536" is not valid: expected a whole number'],
    [['--healthz-port=1e3'], '--healthz-port: "1e3" is not valid'],
    [['--healthz-port=-1'], '--healthz-port: "-1" is not valid'],
    [['--healthz-ip=here'], '--healthz-ip: "here" is not valid: expected an IP address'],
    [['--public-ip=10.0.0'], '--public-ip: "10.0.0" is not valid: expected an IPv4 address'],
    [['--subnet-lease-renew-margin=0'], 'expected a whole number from 1 to 1439'],
    [['--subnet-lease-renew-margin=1440'], '--subnet-lease-renew-margin: "1440"'],
    [['-v=high'], '-v: "high" is not valid'],
    [['--iface='], '--iface: "" is not valid'],
    [['--iface'], '--iface: (missing) is not valid: expected a value: --iface=<name|ip>'],
    [['--iface', '--mode=basic'], '--iface: (missing) is not valid'],
    [['--source-check=maybe'], '--source-check: "maybe" is not valid: expected true or false'],
    [['--ip-masq'], '--ip-masq: true is not valid: expected false: masquerading is not supported'],
    [['eth0'], 'unexpected argument "eth0": flannelette run takes flags only'],
    [['--'], 'unexpected argument "--"'],
    [['---iface=eth0'], 'unexpected argument "---iface=eth0"'],
  ])('refuses %j', (argv, message) => {
    const attempt = () => options(['--lease-file=l', ...argv]);
    expect(attempt).toThrow(message);
    expect(attempt).toThrow(expect.objectContaining({ exitCode: 2 }) as Error);
  });

  it('needs a lease file, and says that it is the only store', () => {
    expect(() => options([])).toThrow(
      '--lease-file: (missing) is not valid: expected the path of the lease file, the only store so far',
    );
  });

  it('names an unknown flag, what there is, and the nearest', () => {
    const refuse = (flag: string) => () => readArguments([flag], runCommand);
    expect(refuse('--foo=1')).toThrow(
      /^unknown flag --foo: expected one of --lease-file, --mode, --iface, .*--help; see flannelette run --help$/,
    );
    expect(refuse('-ifcae')).toThrow('unknown flag --ifcae (did you mean --iface?)');
    expect(refuse('--subnetfile=x')).toThrow('(did you mean --subnet-file?)');
  });

  it.each(UNSUPPORTED_FLAGS)('knows --%s of flanneld as not supported yet', (flag) => {
    const message = `--${flag} is a flag of flanneld that is not supported yet`;
    expect(() => readArguments([`--${flag}=x`], runCommand)).toThrow(message);
    const name = environmentName(flag);
    expect(() => {
      rejectUnsupportedEnvironment(runCommand, { [name]: 'x' });
    }).toThrow(`${name}: ${message}`);
    expect(() => {
      rejectUnsupportedEnvironment(runCommand, { [name]: '' });
    }).not.toThrow();
  });

  it('covers every flag of flanneld', () => {
    const flanneld =
      'etcd-endpoints etcd-prefix etcd-keyfile etcd-certfile etcd-cafile etcd-username etcd-password iface iface-regex iface-can-reach public-ip subnet-file subnet-lease-renew-margin ip-masq ip-masq-fully-random-disable kube-subnet-mgr kube-api-url kube-annotation-prefix kubeconfig-file net-config-path set-node-network-unavailable healthz-ip healthz-port iptables-resync iptables-forward-rules ip-blackhole-route version v';
    const ours = new Set([
      ...UNSUPPORTED_FLAGS,
      ...Object.values(runFlags).map(({ name }) => name),
    ]);
    expect(flanneld.split(' ').filter((name) => !ours.has(name))).toEqual([]);
  });
});

describe('the environment', () => {
  it('stands in for a flag, and the flag wins', () => {
    const env = {
      FLANNELD_LEASE_FILE: '/srv/l',
      FLANNELD_SUBNET_LEASE_RENEW_MARGIN: '30',
      FLANNELD_IFACE: 'eth1',
      FLANNELD_SOURCE_CHECK: 'false',
      FLANNELD_V: '1',
    };
    expect(options([], env)).toMatchObject({
      leaseFile: '/srv/l',
      leaseRenewMarginMinutes: 30,
      iface: ['eth1'],
      sourceCheck: false,
      verbosity: 1,
    });
    expect(options(['-iface=eth0', '-v=0', '--source-check'], env)).toMatchObject({
      iface: ['eth0'],
      sourceCheck: true,
      verbosity: 0,
    });
  });

  it('is not set when it is empty, as in flanneld', () => {
    expect(options(['--lease-file=l'], { FLANNELD_MODE: '' }).mode).toBe('batch');
  });

  it('is named in the error', () => {
    expect(() => options(['--lease-file=l'], { FLANNELD_HEALTHZ_PORT: 'x' })).toThrow(
      'FLANNELD_HEALTHZ_PORT (--healthz-port): "x" is not valid',
    );
  });

  it('does not ask for the version', () => {
    const given = readArguments([], runCommand);
    expect(resolveFlags(runFlags, given, { FLANNELD_VERSION: 'v0.28' }).version).toBe(false);
  });
});

describe('nearest', () => {
  it.each([
    ['ifcae', 'iface'],
    ['mod', 'mode'],
    ['moed', 'mode'],
    ['zzz', undefined],
  ])('of %s is %s', (name, expected) => {
    expect(nearest(name, ['iface', 'mode'])).toBe(expected);
  });
});
