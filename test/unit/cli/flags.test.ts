import { describe, expect, it } from 'vitest';
import { normalizeEtcdOptions } from '../../../src/lease/etcd/etcd-options.js';
import {
  booleanFlag,
  optionalPortFlag,
  readArguments,
  resolveFlags,
} from '../../../src/cli/flags.js';
import { nearest } from '../../../src/nearest.js';
import { daemonOptions, runCommand } from '../../../src/cli/run-command.js';
import { runFlags } from '../../../src/cli/run-flags.js';
import { flagsWithoutEffect } from '../../../src/cli/without-effect.js';
import {
  resolveDaemonOptions,
  validateDaemonOptions,
  type DaemonSettings,
} from '../../../src/daemon/options.js';
import { DEFAULT_RESOURCES, defaultWorkers } from '../../../src/dataplane/dataplane.js';

function options(argv: readonly string[], env: Record<string, string> = {}) {
  const given = daemonOptions(resolveFlags(runFlags, readArguments(argv, runCommand), env));
  const settings = resolveDaemonOptions(given);
  validateDaemonOptions(settings);
  return settings;
}

/** What is said of etcd. */
function etcdOptions(argv: readonly string[]): Omit<DaemonSettings['store'], 'kind'> | undefined {
  const { kind, ...etcd } = options(argv).store;
  return kind === 'etcd' ? etcd : undefined;
}

describe('run flags', () => {
  it('has the defaults of flanneld', () => {
    expect(options(['--lease-file=l'])).toEqual({
      store: { kind: 'file', path: 'l' },
      mode: 'auto',
      disable: [],
      resources: {
        workers: DEFAULT_RESOURCES.workers,
        cpus: [],
        sourcePorts: 1,
        socketBufferBytes: 4_194_304,
        tunQueuePackets: 1000,
        ringBytes: 1_048_576,
        pathMtuSeconds: 600,
      },
      iface: [],
      ifaceRegex: [],
      subnetFile: '/run/flannel/subnet.env',
      healthzIp: '0.0.0.0',
      healthzPort: 0,
      followConfig: false,
      keepForwarding: false,
      takeover: false,
      waitForPort: false,
      ipMasq: false,
      ipMasqFullyRandom: true,
      forwardRules: true,
      firewallResyncSeconds: 5,
      sourceCheck: true,
      verbosity: 0,
      leaseRenewMarginMinutes: 60,
    });
  });

  it.each([
    [1, 1],
    [3, 1],
    [4, 2],
    [64, 2],
  ])('has on %i CPUs %i workers unless told', (cpus, workers) => {
    expect(defaultWorkers(cpus)).toBe(workers);
  });

  it('takes etcd at its old and its new port unless told otherwise, as flanneld does', () => {
    expect(options([])).toMatchObject({
      store: {
        kind: 'etcd',
        endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
        prefix: '/coreos.com/network',
      },
    });
    expect(options(['--lease-file=l']).store).toEqual({ kind: 'file', path: 'l' });
  });

  it('takes every etcd flag', () => {
    const flags = ['--etcd-endpoints=https://10.168.0.1:2379, https://10.168.0.9:2379'];
    flags.push('--etcd-prefix=/my/net', '--etcd-cafile=ca', '--etcd-certfile=c');
    flags.push('--etcd-keyfile=k', '--etcd-username=u', '--etcd-password=p');
    expect(etcdOptions(flags)).toEqual({
      endpoints: ['https://10.168.0.1:2379', 'https://10.168.0.9:2379'],
      prefix: '/my/net',
      caFile: 'ca',
      certFile: 'c',
      keyFile: 'k',
      username: 'u',
      password: 'p',
    });
  });

  it('takes empty values of flanneld’s text flags for none', () => {
    const empty = ['--etcd-cafile=', '--public-ip=', '--iface-can-reach=', '--etcd-endpoints='];
    const parsed = options(['--lease-file=l', ...empty]);
    expect(parsed).not.toHaveProperty('publicIp');
    expect(parsed).not.toHaveProperty('ifaceCanReach');
  });

  it.each([
    [
      ['--etcd-endpoints=http://a/v2,'],
      { endpoints: ['http://a:80'], prefix: '/coreos.com/network' },
    ],
    [['--etcd-endpoints=http://a,https://b'], { endpoints: ['http://a:80', 'https://b:443'] }],
    [['--etcd-prefix=//a//b/'], { prefix: '/a/b' }],
    [['--etcd-cafile=ca'], { endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'] }],
    [['--etcd-endpoints=https://a', '--etcd-certfile=c'], { endpoints: ['https://a:443'] }],
    [['--etcd-endpoints=https://a', '--etcd-keyfile=c'], { endpoints: ['https://a:443'] }],
    [['--etcd-username=u'], { prefix: '/coreos.com/network' }],
    [['--etcd-password=p'], { prefix: '/coreos.com/network' }],
  ])('takes %j as flanneld does, what has no effect left out', (argv, expected) => {
    const { store } = options(argv);
    if (store.kind !== 'etcd') throw new Error('no etcd');
    const normal = normalizeEtcdOptions(store);
    expect(normal).toMatchObject(expected);
    for (const gone of ['caFile', 'certFile', 'keyFile', 'username', 'password']) {
      expect(normal).not.toHaveProperty(gone);
    }
  });

  it.each([
    [['--etcd-endpoints=ftp://a'], '--etcd-endpoints: "ftp://a" is not valid'],
    [['--etcd-endpoints=,'], '--etcd-endpoints: "," is not valid'],
    [['--etcd-endpoints=http://u:secret@a:x'], '--etcd-endpoints: "http://***@a:x" is not valid'],
    [['--lease-file=l', '--etcd-endpoints=http://a'], 'expected one store'],
    [['--lease-file=l', '--iface-regex=('], '--iface-regex: "(" is not valid'],
    [['--lease-file=l', '--iface-can-reach=here'], '--iface-can-reach: "here" is not valid'],
    [['--lease-file=l', '--iptables-resync=0'], '--iptables-resync: "0" is not valid'],
    [
      ['--kube-subnet-mgr'],
      'KUBERNETES_SERVICE_HOST: (missing) is not valid: expected the variables',
    ],
    [['--kube-subnet-mgr', '--kube-api-url=k'], '--kube-api-url: "k" is not valid'],
    [['--kube-subnet-mgr', '--kubeconfig-file=f'], 'NODE_NAME: (missing) is not valid'],
    [['--kube-subnet-mgr', '--lease-file=l'], '--lease-file: "l" is not valid: expected one store'],
    [['--ip-blackhole-route=1'], '--ip-blackhole-route: true is not valid: expected false'],
  ])('refuses %j by name', (argv, message) => {
    expect(() => options(argv)).toThrow(message);
  });

  it('makes a store in Kubernetes of flags and the environment of a pod', () => {
    const env = {
      NODE_NAME: 'node-1',
      POD_NAME: '',
      KUBERNETES_SERVICE_HOST: '10.96.0.1',
      KUBERNETES_SERVICE_PORT: '443',
    };
    const store = (argv: readonly string[]) => {
      const values = resolveFlags(runFlags, readArguments(argv, runCommand), env);
      return resolveDaemonOptions(daemonOptions(values, env)).store;
    };
    expect(store(['--kube-subnet-mgr'])).toEqual({
      kind: 'kube',
      annotationPrefix: 'flannel.alpha.coreos.com',
      netConfigPath: '/etc/kube-flannel/net-conf.json',
      setNodeNetworkUnavailable: true,
      serviceAccountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
      nodeName: 'node-1',
      serviceHost: '10.96.0.1',
      servicePort: '443',
    });
    const flags = ['--kube-api-url=https://k:6443', '--kubeconfig-file=f', '--net-config-path=/n'];
    flags.push('--kube-annotation-prefix=a.b', '--set-node-network-unavailable=false');
    expect(store(['--kube-subnet-mgr', ...flags])).toMatchObject({
      apiUrl: 'https://k:6443',
      kubeconfigFile: 'f',
      netConfigPath: '/n',
      annotationPrefix: 'a.b',
      setNodeNetworkUnavailable: false,
    });
  });

  it('takes the rest of flanneld’s flags with their harmless values', () => {
    const flags = ['--kube-subnet-mgr=false', '--kube-api-url=http://a', '--kubeconfig-file=f'];
    flags.push('--kube-annotation-prefix=flannel.alpha.coreos.com', '--net-config-path=/etc/n');
    flags.push('--set-node-network-unavailable', '--ip-blackhole-route=false');
    expect(options(['--lease-file=l', ...flags])).toMatchObject({
      store: { kind: 'file', path: 'l' },
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
    [['--mode=offload'], { mode: 'offload' }],
    [['--disable=udp-gso'], { disable: ['udp-gso'] }],
    [
      ['--disable=tun-tso, tun-uso', '-disable', 'mmsg'],
      { disable: ['tun-tso', 'tun-uso', 'mmsg'] },
    ],
    [['--workers=1'], { resources: { workers: 1 } }],
    [['--workers=32', '--disable=multiqueue'], { resources: { workers: 32 } }],
    [['--source-ports=64'], { resources: { sourcePorts: 64 } }],
    [['--socket-buffer=0'], { resources: { socketBufferBytes: 0 } }],
    [
      ['--tun-queue=500', '--ring-bytes=524288'],
      { resources: { tunQueuePackets: 500, ringBytes: 524_288 } },
    ],
    [['--cpus=0'], { resources: { cpus: [0] } }],
    [['--cpus=0, 0', '--cpus=0'], { resources: { cpus: [0, 0, 0] } }],
    [['--ip-masq'], { ipMasq: true }],
    [['--ip-masq-fully-random-disable'], { ipMasqFullyRandom: false }],
    [['--iptables-forward-rules=false'], { forwardRules: false }],
    [['--iptables-resync=30'], { firewallResyncSeconds: 30 }],
    [['--iface-regex=eth[0-9]', '--iface-regex=^10\\.'], { ifaceRegex: ['eth[0-9]', '^10\\.'] }],
    [['--iface-can-reach=10.168.0.3'], { ifaceCanReach: '10.168.0.3' }],
    [['--ip-masq=false'], { ipMasq: false }],
    [['--ip-masq=F'], { ipMasq: false }],
    [['--source-check=false'], { sourceCheck: false }],
    [['-source-check=0'], { sourceCheck: false }],
    [['--source-check', '--mode=basic'], { sourceCheck: true, mode: 'basic' }],
    [['--public-ip=203.0.113.7'], { publicIp: '203.0.113.7' }],
    [['--subnet-file', '/tmp/a=b.env'], { subnetFile: '/tmp/a=b.env' }],
    [['--subnet-lease-renew-margin=1439'], { leaseRenewMarginMinutes: 1439 }],
    [['--healthz-port=8080', '--healthz-ip=127.0.0.1'], { healthzPort: 8080 }],
    [['--healthz-ip=localhost'], { healthzIp: 'localhost', healthzOpen: true }],
    [['--healthz-ip=0.0.0.0'], { healthzIp: '0.0.0.0', healthzOpen: true }],
    [['--healthz-ip='], { healthzIp: '', healthzOpen: true }],
    [['--healthz-ip=fd00::1'], { healthzIp: 'fd00::1' }],
    [['--healthz-ip=node-1.example'], { healthzIp: 'node-1.example' }],
    [['--iface=', '--iface=eth0'], { iface: ['eth0'] }],
    [['--iface=', '--iface-regex='], { iface: [], ifaceRegex: [] }],
    [['--subnet-file='], { subnetFile: '/run/flannel/subnet.env' }],
    [['-v=-1'], { verbosity: -1 }],
    // As Go's strconv.ParseInt.
    ...(
      [
        ['0x1f', 31],
        ['0X1F', 31],
        ['0b11', 3],
        ['0o17', 15],
        ['017', 15],
        ['1_000', 1000],
        ['0x_1f', 31],
        ['+5', 5],
      ] as const
    ).map(([text, minutes]): [string[], object] => [
      [`--subnet-lease-renew-margin=${text}`],
      { leaseRenewMarginMinutes: minutes },
    ]),
  ])('takes %j', (argv, expected) => {
    expect(options(['--lease-file=l', ...argv])).toMatchObject(expected);
  });

  it.each([
    [['--mode=fast'], '--mode: "fast" is not valid: expected auto or basic or batch or offload'],
    [
      ['--disable=tso'],
      '--disable: "tso" is not valid: expected mmsg, tun-tso, tun-uso, udp-gso, udp-gro, multiqueue',
    ],
    [['--disable='], '--disable: "" is not valid'],
    [['--cpus=a'], '--cpus: "a" is not valid: expected numbers of CPUs, e.g. 0,1'],
    [['--cpus=0,'], '--cpus: "" is not valid: expected numbers of CPUs'],
    [['--cpus=0,9999'], '--cpus: 9999 is not valid: expected CPUs this process may run on: '],
    [
      ['--source-ports=0'],
      '--source-ports: "0" is not valid: expected a whole number from 1 to 64',
    ],
    [
      ['--socket-buffer=4M'],
      '--socket-buffer: "4M" is not valid: expected a whole number from 0 to 1073741824',
    ],
    [['--tun-queue=0'], '--tun-queue: "0" is not valid: expected a whole number from 1 to 65536'],
    [
      ['--path-mtu-age=0'],
      '--path-mtu-age: "0" is not valid: expected a whole number from 1 to 86400',
    ],
    [
      ['--ring-bytes=65536'],
      '--ring-bytes: "65536" is not valid: expected a whole number from 524288 to 67108864',
    ],
    [['--workers=0'], '--workers: "0" is not valid: expected a whole number from 1 to 32'],
    [['--workers=33'], '--workers: "33" is not valid: expected a whole number from 1 to 32'],
    [['--workers=3'], '--workers: 3 is not valid: expected 1 or an even number up to 32'],
    [['--healthz-port=65536'], '--healthz-port: "65536" is not valid: expected a whole number'],
    [['--healthz-port=1e3'], '--healthz-port: "1e3" is not valid'],
    [['--healthz-port=-1'], '--healthz-port: "-1" is not valid'],
    [['--healthz-ip=10.0.0.256'], '--healthz-ip: "10.0.0.256" is not valid: expected an IP'],
    [['--healthz-ip=a b'], '--healthz-ip: "a b" is not valid: expected an IP address or a name'],
    [['--healthz-ip=-a'], '--healthz-ip: "-a" is not valid'],
    [['--public-ip=10.0.0'], '--public-ip: "10.0.0" is not valid: expected an IPv4 address'],
    [['--subnet-lease-renew-margin=0'], 'expected a whole number from 1 to 1439'],
    [['--subnet-lease-renew-margin=1440'], '--subnet-lease-renew-margin: "1440"'],
    [['-v=high'], '-v: "high" is not valid'],
    [['--subnet-lease-renew-margin=08'], '--subnet-lease-renew-margin: "08" is not valid'],
    [['--subnet-lease-renew-margin=1__0'], '"1__0" is not valid'],
    [['--subnet-lease-renew-margin=_1'], '"_1" is not valid'],
    [['--subnet-lease-renew-margin=0b2'], '"0b2" is not valid'],
    [['--subnet-lease-renew-margin=0x'], '"0x" is not valid'],
    [['--subnet-lease-renew-margin='], '"" is not valid'],
    [['--cpus='], '--cpus: "" is not valid'],
    [['--iface'], '--iface: (missing) is not valid: expected a value: --iface=<name|ip>'],
    [['--iface', '--mode=basic'], '--iface: (missing) is not valid'],
    [['--source-check=maybe'], '--source-check: "maybe" is not valid: expected true or false'],
    [['eth0'], 'unexpected argument "eth0": flannelette run takes flags only'],
    [['--'], 'unexpected argument "--"'],
    [['---iface=eth0'], 'unexpected argument "---iface=eth0"'],
  ])('refuses %j', (argv, message) => {
    const attempt = () => options(['--lease-file=l', ...argv]);
    expect(attempt).toThrow(message);
    expect(attempt).toThrow(expect.objectContaining({ exitCode: 2 }) as Error);
  });

  it('names an unknown flag, what there is, and the nearest', () => {
    const refuse = (flag: string) => () => readArguments([flag], runCommand);
    expect(refuse('--foo=1')).toThrow(
      /^unknown flag --foo: expected one of --etcd-endpoints, .*--lease-file, --mode, .*--help; see flannelette run --help$/,
    );
    expect(refuse('-ifcae')).toThrow('unknown flag --ifcae (did you mean --iface?)');
    expect(refuse('--subnetfile=x')).toThrow('(did you mean --subnet-file?)');
  });

  it('covers every flag of flanneld', () => {
    const flanneld =
      'etcd-endpoints etcd-prefix etcd-keyfile etcd-certfile etcd-cafile etcd-username etcd-password iface iface-regex iface-can-reach public-ip subnet-file subnet-lease-renew-margin ip-masq ip-masq-fully-random-disable kube-subnet-mgr kube-api-url kube-annotation-prefix kubeconfig-file net-config-path set-node-network-unavailable healthz-ip healthz-port iptables-resync iptables-forward-rules ip-blackhole-route version v public-ipv6 vmodule log_backtrace_at';
    const ours = new Set(Object.values(runFlags).map(({ name }) => name));
    expect(flanneld.split(' ').filter((name) => !ours.has(name))).toEqual([]);
  });
});

describe('flags without effect', () => {
  const warned = (argv: readonly string[], env: Record<string, string> = {}) =>
    flagsWithoutEffect(runFlags, readArguments(argv, runCommand), env);

  it('are named with the reason', () => {
    const argv = ['-public-ipv6=fd00::1', '--vmodule', 'a=2', '-log_backtrace_at=main.go:5'];
    expect(
      warned(argv, { FLANNELD_KUBE_API_URL: 'https://k', FLANNELD_NET_CONFIG_PATH: '' }),
    ).toEqual([
      'FLANNELD_KUBE_API_URL has no effect: the store is not --kube-subnet-mgr',
      '--public-ipv6 has no effect: flannelette carries IPv4 only',
      "--vmodule has no effect: it is of flanneld's own log",
      "--log_backtrace_at has no effect: it is of flanneld's own log",
    ]);
  });

  it('are those of etcd beside a lease file', () => {
    expect(warned(['--lease-file=l', '--etcd-username=u'], { FLANNELD_ETCD_PREFIX: '/a' })).toEqual(
      [
        'FLANNELD_ETCD_PREFIX has no effect: the store is --lease-file',
        '--etcd-username has no effect: the store is --lease-file',
      ],
    );
  });

  it('are those of etcd with Kubernetes, whose own have one', () => {
    const argv = ['--kube-subnet-mgr', '--etcd-username=u', '--kube-api-url=https://k'];
    expect(warned(argv)).toEqual(['--etcd-username has no effect: the store is --kube-subnet-mgr']);
  });

  it('are none of the others, and none that are empty', () => {
    const argv = ['--etcd-username=u', '--iface=eth0', '--vmodule=', '--kube-subnet-mgr=false'];
    expect(warned(argv, { FLANNELD_IFACE: 'eth1' })).toEqual([]);
  });
});

describe('the environment', () => {
  it('stands in for a flag, and the flag wins', () => {
    const env = {
      FLANNELD_LEASE_FILE: '/srv/l',
      FLANNELD_SUBNET_LEASE_RENEW_MARGIN: '30',
      FLANNELD_IFACE: 'eth1',
      FLANNELD_SOURCE_CHECK: 'false',
      FLANNELD_DISABLE: 'udp-gro,mmsg',
      FLANNELD_V: '1',
    };
    expect(options([], env)).toMatchObject({
      store: { kind: 'file', path: '/srv/l' },
      leaseRenewMarginMinutes: 30,
      iface: ['eth1'],
      disable: ['udp-gro', 'mmsg'],
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
    expect(options(['--lease-file=l'], { FLANNELD_MODE: '' }).mode).toBe('auto');
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

describe('a flag whose value need not be given', () => {
  const flags = { web: optionalPortFlag('web', 'a page', 8080), keep: booleanFlag('keep', 'stay') };
  const read = (...argv: string[]) =>
    resolveFlags(flags, readArguments(argv, { name: 'lab', flags }), {}).web;

  it.each([
    [[], undefined],
    [['--web'], 8080],
    [['--web', '--keep'], 8080],
    [['--web', '9000', '--keep'], 9000],
    [['-web=0'], 0],
  ])('%j', (argv, port) => {
    expect(read(...argv)).toBe(port);
  });

  it.each(['', '65536', '80a', '1e3'])('refuses %j', (value) => {
    expect(() => read(`--web=${value}`)).toThrow(/^--web: ".*" is not valid: expected a TCP port/);
  });
});

describe('nearest', () => {
  it.each([
    ['ifcae', 'iface'],
    ['mod', 'mode'],
    ['moed', 'mode'],
    ['zzz', undefined],
    // Nothing in common, however short.
    ['x', undefined],
  ])('of %s is %s', (name, expected) => {
    expect(nearest(name, ['iface', 'mode', 'v'])).toBe(expected);
  });
});
