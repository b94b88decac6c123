/** `flannelette run`: the daemon in the foreground, with flanneld's flags. */
import { LIMITS } from '../dataplane/limits.js';
import {
  DAEMON_DEFAULTS,
  DAEMON_MODES,
  FEATURE_NAMES,
  HEALTHZ_DEFAULT_IP,
  MAX_RENEW_MARGIN_MINUTES,
  MAX_RESYNC_SECONDS,
  checkFeatures,
  resolveDaemonOptions,
  validateDaemonOptions,
  type DaemonOptions,
  type StoreOptions,
  type FeatureName,
} from '../daemon/options.js';
import { DescriptorStore } from '../daemon/descriptor-store.js';
import { neededCapabilities, ownPrivileges } from '../daemon/privileges.js';
import { ServiceManager } from '../daemon/sd-notify.js';
import { packageVersion } from '../daemon/version.js';
import { ExitCode, FlannelletteError, inputError, messageOf } from '../errors.js';
import { ETCD_DEFAULTS } from '../lease/etcd/etcd-options.js';
import { KUBE_DEFAULTS } from '../lease/kube/kube-options.js';
import { createLogger, LOG_FORMATS, type LogFormat, type Logger } from '../log.js';
import type { Command } from './command.js';
import {
  booleanFlag,
  choiceFlag,
  environmentName,
  integerFlag,
  listFlag,
  resolveFlags,
  textFlag,
  type Flag,
  type FlagValues,
  type GivenFlags,
} from './flags.js';
import type { CliIo } from './io.js';
import { runWithLess } from './less-privileges.js';
import { loadModules } from './load-modules.js';
import { logProcessEvents, logUnexpected } from './process-log.js';
import { unknownVariables } from './unknown-variables.js';
import { flagsWithoutEffect } from './without-effect.js';

/** An empty value is what flanneld's own default is: the flag counts as not given. */
const unsetText = (name: string, help: string, placeholder: string) =>
  textFlag(name, help, { placeholder, emptyIsUnset: true });

/** A flag of flanneld for what flannelette does not do: only its harmless value is taken. */
const refused = (name: string, why: string): Flag<boolean> => ({
  ...booleanFlag(name, `refused, only false is taken: ${why}`),
  parse: (field, values) => {
    const on = booleanFlag(name, why).parse(field, values);
    if (on) throw inputError(field, true, `false: ${why}`);
    return on;
  },
});

/** A flag of flanneld that does nothing here. */
const ignored = (name: string, why: string, placeholder = 'text'): Flag<string | undefined> => ({
  ...textFlag(name, `ignored: ${why}`, { placeholder, emptyIsUnset: true }),
  ignored: why,
});

const KLOG_ONLY = "it is of flanneld's own log";

const splitAtCommas = (values: readonly string[]): string[] =>
  values.flatMap((value) => value.split(',').map((name) => name.trim()));

function parseCpus(field: string, values: readonly string[]): number[] {
  return splitAtCommas(values).map((text) => {
    if (!/^\d{1,4}$/.test(text)) throw inputError(field, text, 'numbers of CPUs, e.g. 0,1');
    return Number(text);
  });
}

/** Every flag of flanneld v0.28 for IPv4, but glog's own, and ours: lease-file, mode and what follows it. */
export const runFlags = {
  etcdEndpoints: unsetText(
    'etcd-endpoints',
    `etcd members, http or https, separated by commas (default ${ETCD_DEFAULTS.endpoints.join(',')})`,
    'urls',
  ),
  etcdPrefix: textFlag('etcd-prefix', 'where the network is in etcd', {
    placeholder: 'key',
    fallback: ETCD_DEFAULTS.prefix,
    // Keys without a prefix: config and subnets/...
    emptyIsValue: true,
  }),
  etcdCaFile: unsetText('etcd-cafile', 'CA that signed the certificate of etcd', 'pem'),
  etcdCertFile: unsetText('etcd-certfile', 'certificate to show to etcd', 'pem'),
  etcdKeyFile: unsetText('etcd-keyfile', 'key of that certificate', 'pem'),
  etcdUsername: unsetText('etcd-username', 'user of etcd', 'name'),
  etcdPassword: unsetText(
    'etcd-password',
    'its password; FLANNELD_ETCD_PASSWORD keeps it out of the process list',
    'text',
  ),
  leaseFile: textFlag(
    'lease-file',
    'lease file shared by the daemons of this machine, instead of etcd',
    { placeholder: 'path' },
  ),
  mode: choiceFlag(
    'mode',
    'how packets cross the kernel: one a system call, many, as trains, or not at all (kernel); auto is offload',
    DAEMON_MODES,
    DAEMON_DEFAULTS.mode,
  ),
  disable: {
    ...listFlag(
      'disable',
      `kernel features to do without, separated by commas: ${FEATURE_NAMES.join(', ')}`,
      { placeholder: 'features' },
    ),
    fallback: [],
    parse: (field, values) => checkFeatures(field, splitAtCommas(values)),
  } satisfies Flag<readonly FeatureName[]>,
  workers: {
    ...integerFlag(
      'workers',
      'packet threads: 1 for both directions, 2 for one each, an even number for more queues of the TUN and sockets on the port',
      { min: 1, max: LIMITS.workersMax, fallback: DAEMON_DEFAULTS.resources.workers },
      { placeholder: 'threads' },
    ),
    shownDefault: '1 below 4 CPUs, else 2',
  },
  cpus: {
    ...listFlag(
      'cpus',
      'CPUs the packet threads keep to, in turn, separated by commas; without it the kernel moves them as it likes',
      { placeholder: 'numbers' },
    ),
    fallback: [],
    parse: parseCpus,
  } satisfies Flag<readonly number[]>,
  sourcePorts: integerFlag(
    'source-ports',
    'UDP ports to send from: the configured one, and others so that network cards and equal-cost paths can spread flows',
    { min: 1, max: LIMITS.sourcePortsMax, fallback: DAEMON_DEFAULTS.resources.sourcePorts },
    { placeholder: 'ports' },
  ),
  socketBuffer: integerFlag(
    'socket-buffer',
    "bytes of each buffer of the UDP sockets, past rmem_max and wmem_max where permitted; 0 is the kernel's default",
    {
      min: 0,
      max: LIMITS.socketBufferBytesMax,
      fallback: DAEMON_DEFAULTS.resources.socketBufferBytes,
    },
    { placeholder: 'bytes' },
  ),
  tunQueue: integerFlag(
    'tun-queue',
    'packets the kernel holds for each reader of flannel0 (txqueuelen)',
    { min: 1, max: LIMITS.tunQueuePacketsMax, fallback: DAEMON_DEFAULTS.resources.tunQueuePackets },
    { placeholder: 'packets' },
  ),
  ringBytes: integerFlag(
    'ring-bytes',
    'ring between flannel0 and socket, where packets wait for a socket that takes nothing',
    {
      min: LIMITS.ringBytesMin,
      max: LIMITS.ringBytesMax,
      fallback: DAEMON_DEFAULTS.resources.ringBytes,
    },
    { placeholder: 'bytes' },
  ),
  pathMtuAge: integerFlag(
    'path-mtu-age',
    'how long a path that takes no full-size datagrams is believed to be one before longer ones are tried',
    {
      min: 1,
      max: LIMITS.pathMtuSecondsMax,
      fallback: DAEMON_DEFAULTS.resources.pathMtuSeconds,
    },
    { placeholder: 'seconds' },
  ),
  iface: listFlag(
    'iface',
    'interface (name or address) to reach other hosts by; may be repeated, the first that fits is taken; without it the one of the default route',
    { placeholder: 'name|ip', emptyIsUnset: true },
  ),
  ifaceRegex: listFlag(
    'iface-regex',
    'the same by regular expression for the address or name; may be repeated, tried after --iface',
    { placeholder: 'regex', emptyIsUnset: true },
  ),
  ifaceCanReach: unsetText(
    'iface-can-reach',
    'the same by an address: take the interface the kernel reaches it from',
    'ip',
  ),
  publicIp: unsetText(
    'public-ip',
    'address other hosts reach this one by, when NAT is between',
    'ip',
  ),
  subnetFile: textFlag(
    'subnet-file',
    'where the subnet and MTU are written for Docker or CNI; PATH.sock is the status socket',
    { placeholder: 'path', fallback: DAEMON_DEFAULTS.subnetFile, emptyIsUnset: true },
  ),
  takeover: booleanFlag(
    'takeover',
    'go on where the daemon with the same --subnet-file ends that runs now, with its device and port and without a gap; start as usual when there is none',
  ),
  followConfig: booleanFlag(
    'follow-config',
    'change the backend when the network configuration does, with both until every host has changed',
  ),
  keepForwarding: booleanFlag(
    'keep-forwarding',
    'at the end leave device and routes to the kernel, for the next start to go on with; of the backends vxlan and host-gw, and of --mode=kernel by FOU',
  ),
  renewMargin: integerFlag(
    'subnet-lease-renew-margin',
    'minutes before its expiry that the lease is renewed',
    { min: 1, max: MAX_RENEW_MARGIN_MINUTES, fallback: DAEMON_DEFAULTS.leaseRenewMarginMinutes },
    { placeholder: 'minutes' },
  ),
  ipMasq: booleanFlag('ip-masq', 'masquerade what containers send to places outside the overlay'),
  ipMasqFullyRandomDisable: booleanFlag(
    'ip-masq-fully-random-disable',
    'masquerade without --random-fully',
  ),
  forwardRules: booleanFlag(
    'iptables-forward-rules',
    "accept the overlay's packets in the FORWARD chain",
    DAEMON_DEFAULTS.forwardRules,
  ),
  resync: integerFlag(
    'iptables-resync',
    'seconds between checks of the firewall rules',
    { min: 1, max: MAX_RESYNC_SECONDS, fallback: DAEMON_DEFAULTS.firewallResyncSeconds },
    { placeholder: 'seconds' },
  ),
  healthzIp: {
    ...textFlag(
      'healthz-ip',
      'address of the health server; without it /metrics and /status answer this host alone, with it everyone who reaches the address',
      { placeholder: 'ip', emptyIsValue: true },
    ),
    shownDefault: HEALTHZ_DEFAULT_IP,
  },
  healthzTokenFile: textFlag(
    'healthz-token-file',
    'file with a token: others than this host get /metrics and /status by "Authorization: Bearer TOKEN" alone',
    { placeholder: 'path' },
  ),
  healthzPort: integerFlag(
    'healthz-port',
    'TCP port of /healthz, /readyz, /metrics and /status; 0 is off',
    { min: 0, max: 65_535, fallback: DAEMON_DEFAULTS.healthzPort },
    { placeholder: 'port' },
  ),
  sourceCheck: booleanFlag(
    'source-check',
    "accept a datagram only from the holder of its inner source's lease; --source-check=false accepts any",
    DAEMON_DEFAULTS.sourceCheck,
  ),
  dropPrivileges: booleanFlag(
    'drop-privileges',
    'give up all capabilities but CAP_NET_ADMIN and CAP_NET_RAW (and CAP_BPF in mode kernel) before anything is opened; false keeps what the daemon was started with',
    true,
  ),
  verbosity: integerFlag(
    'v',
    'log level: 0 info, 1 debug, 2 and more trace',
    { min: -(2 ** 31), max: 2 ** 31 - 1, fallback: DAEMON_DEFAULTS.verbosity },
    { placeholder: 'level' },
  ),
  blackholeRoute: refused(
    'ip-blackhole-route',
    'flannelette answers for addresses without a lease with net-unreachable instead',
  ),
  kubeSubnetManager: booleanFlag(
    'kube-subnet-mgr',
    "leases are annotations of Kubernetes' nodes, the subnet is the podCIDR; instead of etcd. NODE_NAME, or POD_NAME and POD_NAMESPACE, say which node this is",
  ),
  kubeApiUrl: unsetText(
    'kube-api-url',
    'API server of Kubernetes, instead of the one that the pod or the kubeconfig names',
    'url',
  ),
  kubeAnnotationPrefix: textFlag('kube-annotation-prefix', "begin of the annotations' names", {
    placeholder: 'domain',
    fallback: KUBE_DEFAULTS.annotationPrefix,
    emptyIsUnset: true,
  }),
  kubeconfigFile: unsetText(
    'kubeconfig-file',
    "kubeconfig for the API server, instead of the pod's service account",
    'path',
  ),
  netConfigPath: textFlag(
    'net-config-path',
    'the network configuration with --kube-subnet-mgr, a file of the ConfigMap',
    { placeholder: 'path', fallback: KUBE_DEFAULTS.netConfigPath, emptyIsUnset: true },
  ),
  setNodeNetworkUnavailable: booleanFlag(
    'set-node-network-unavailable',
    "set the node's condition NetworkUnavailable to False once traffic can flow",
    KUBE_DEFAULTS.setNodeNetworkUnavailable,
  ),
  publicIpv6: ignored('public-ipv6', 'flannelette carries IPv4 only', 'ip'),
  vmodule: ignored('vmodule', KLOG_ONLY),
  logBacktraceAt: ignored('log_backtrace_at', KLOG_ONLY),
  logFormat: {
    ...choiceFlag('log-format', 'one line an event, as text or as JSON', LOG_FORMATS, 'json'),
    fallback: undefined,
    shownDefault: 'text on a terminal, else json',
  } satisfies Flag<LogFormat | undefined>,
  version: booleanFlag('version', 'print the version and exit', false, { argumentOnly: true }),
};

export const runCommand: Command = {
  name: 'run',
  summary: 'run the daemon of one host in the foreground',
  description:
    "Takes a subnet for this host from etcd, Kubernetes or a lease file, creates the TUN device flannel0,\nroutes the overlay network into it and carries the packets in UDP datagrams to the other hosts' daemons.\nFlags are flanneld's: one dash or two, --flag=value or --flag value.",
  flags: runFlags,
  footer: `
Environment:
  Every flag is also read from FLANNELD_NAME (--etcd-endpoints: FLANNELD_ETCD_ENDPOINTS); the flag
  wins. Under systemd (Type=notify) READY=1 is sent once traffic can flow.

Examples (node 1, 10.168.0.2, of the two nodes in the documents):
  etcdctl put /coreos.com/network/config '{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}'
  flannelette run --etcd-endpoints=http://10.168.0.1:2379 --iface=eth0 --ip-masq
  cat /run/flannel/subnet.env       # FLANNEL_SUBNET=100.96.1.1/24, for dockerd --bip and --mtu

  In a pod of a DaemonSet, with NODE_NAME (deploy/kube-flannelette.yml):
  flannelette run --kube-subnet-mgr --ip-masq

  Without etcd, for daemons of one machine:
  echo '{"version":1,"config":{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}},"leases":{}}' > /srv/leases.json
  flannelette run --lease-file=/srv/leases.json --iface=eth0

Exit codes:
  0  stopped by SIGINT, SIGTERM or SIGQUIT
  1  the machine refused: no privilege, no device, port taken, store refuses; or the subnet was lost
     and there is no other
  2  the input is wrong: flag or value; or the network configuration asks for what is not here
`,
  run: async (given, io) => {
    const values = resolveFlags(runFlags, given, io.env);
    if (values.version) {
      io.out(`${packageVersion()}\n`);
      return ExitCode.ok;
    }
    const options = daemonOptions(values, io.env);
    validateDaemonOptions(resolveDaemonOptions(options));
    const log = createLogger({ verbosity: values.verbosity, format: values.logFormat });
    if (io.signals !== undefined) giveUpPrivileges(values, given, log);
    for (const text of flagsWithoutEffect(runFlags, given, io.env)) log.warn(text);
    const releaseProcess = logProcessEvents(log);
    for (const { name, near } of unknownVariables(runFlags, io.env)) {
      const hint = near === undefined ? '' : `; did you mean ${near}?`;
      log.warn({ variable: name }, `the variable ${name} names no flag and has no effect${hint}`);
    }
    // The programs that the daemon starts have no use for it.
    if (io.signals !== undefined) delete process.env[environmentName(runFlags.etcdPassword.name)];
    const serviceManager = ServiceManager.fromEnvironment(io.env, log);
    const descriptorStore = DescriptorStore.fromEnvironment(io.env, log);
    // Not before: the other commands start without what a daemon loads. And all of it here, where
    // nothing is held: on a busy machine loading takes longer than a stop may.
    const { Daemon } = await import('../daemon/daemon.js');
    if (options.store.kind === 'etcd') await import('../lease/etcd/etcd-store.js');
    if (options.store.kind === 'kube') await import('../lease/kube/kube-store.js');
    const stop = new AbortController();
    io.signals?.stopBy(stop, log);
    let code: ExitCode = ExitCode.failure;
    try {
      await new Daemon(options, log, { serviceManager, descriptorStore }).run(stop.signal);
      code = ExitCode.ok;
    } catch (error) {
      code = endedBy(error, log);
    } finally {
      releaseProcess();
      io.signals?.end(code);
    }
    return code;
  },
  fail: (error, argv, io) => {
    const format = formatAskedFor(argv, io.env);
    if (format === undefined) throw error;
    return endedBy(error, createLogger({ format }));
  },
};

/** In a process that is the daemon's alone. Does not return when there is something to give up. */
function giveUpPrivileges(
  { mode, disable, dropPrivileges }: FlagValues<typeof runFlags>,
  given: GivenFlags,
  log: Logger,
): void {
  const { etcdPassword } = runFlags;
  if (given.has(etcdPassword.name)) {
    log.warn(
      `--${etcdPassword.name} on a command line can be read by every user until the daemon has hidden it: set ${environmentName(etcdPassword.name)} instead`,
    );
  }
  if (mode === 'kernel' && !disable.includes('fou')) loadModules(['fou', 'ipip']);
  try {
    runWithLess({
      keep: dropPrivileges ? neededCapabilities(mode) : undefined,
      given,
      secrets: [etcdPassword],
      unlimitedLockedMemory: mode === 'kernel',
    });
  } catch (error) {
    log.warn({ error: messageOf(error) }, 'cannot give up privileges; going on with them');
  }
  log.info(ownPrivileges() ?? {}, 'privileges');
}

/** The daemon's last line, in the format of those before it. */
function endedBy(error: unknown, log: Logger): ExitCode {
  if (!(error instanceof FlannelletteError)) {
    logUnexpected(log, error);
    return ExitCode.failure;
  }
  log.fatal(error.code === undefined ? {} : { code: error.code }, messageOf(error));
  return error.exitCode;
}

/** The log's format if it was named; for a command line that is wrong somewhere else. */
function formatAskedFor(argv: readonly string[], env: CliIo['env']): LogFormat | undefined {
  const [, flag] = /.*--?log-format[= ](\w+)/.exec(argv.join(' ')) ?? [];
  const text = flag ?? env[environmentName(runFlags.logFormat.name)];
  return LOG_FORMATS.find((format) => format === text);
}

/** From flag values to what the daemon takes; the daemon validates the rest. */
export function daemonOptions(
  values: FlagValues<typeof runFlags>,
  env: CliIo['env'] = {},
): DaemonOptions {
  return {
    store: storeOptions(values, env),
    mode: values.mode,
    disable: values.disable,
    resources: {
      workers: values.workers,
      cpus: values.cpus,
      sourcePorts: values.sourcePorts,
      socketBufferBytes: values.socketBuffer,
      tunQueuePackets: values.tunQueue,
      ringBytes: values.ringBytes,
      pathMtuSeconds: values.pathMtuAge,
    },
    iface: values.iface,
    ifaceRegex: values.ifaceRegex,
    ...(values.ifaceCanReach === undefined ? {} : { ifaceCanReach: values.ifaceCanReach }),
    ...(values.publicIp === undefined ? {} : { publicIp: values.publicIp }),
    subnetFile: values.subnetFile,
    healthzIp: values.healthzIp ?? HEALTHZ_DEFAULT_IP,
    // Who names an address means it: also every address.
    ...(values.healthzIp === undefined ? {} : { healthzOpen: true }),
    ...(values.healthzTokenFile === undefined ? {} : { healthzTokenFile: values.healthzTokenFile }),
    healthzPort: values.healthzPort,
    takeover: values.takeover,
    followConfig: values.followConfig,
    keepForwarding: values.keepForwarding,
    ipMasq: values.ipMasq,
    ipMasqFullyRandom: !values.ipMasqFullyRandomDisable,
    forwardRules: values.forwardRules,
    firewallResyncSeconds: values.resync,
    sourceCheck: values.sourceCheck,
    verbosity: values.verbosity,
    leaseRenewMarginMinutes: values.renewMargin,
  };
}

/** The lease file or Kubernetes where one is asked for, else etcd, which is flanneld's default. */
function storeOptions(values: FlagValues<typeof runFlags>, env: CliIo['env']): StoreOptions {
  const { leaseFile, etcdEndpoints } = values;
  if (values.kubeSubnetManager) {
    if (leaseFile === undefined) return kubeOptions(values, env);
    throw inputError('--lease-file', leaseFile, 'one store: a lease file or --kube-subnet-mgr');
  }
  if (leaseFile !== undefined) {
    if (etcdEndpoints === undefined) return { kind: 'file', path: leaseFile };
    throw inputError('--lease-file', leaseFile, 'one store: a lease file or --etcd-endpoints');
  }
  const optional = {
    caFile: values.etcdCaFile,
    certFile: values.etcdCertFile,
    keyFile: values.etcdKeyFile,
    username: values.etcdUsername,
    password: values.etcdPassword,
  };
  const given = Object.entries(optional).filter(([, value]) => value !== undefined);
  return {
    kind: 'etcd',
    endpoints: etcdEndpoints?.split(',').map((text) => text.trim()) ?? ETCD_DEFAULTS.endpoints,
    prefix: values.etcdPrefix,
    ...(Object.fromEntries(given) as Partial<Record<keyof typeof optional, string>>),
  };
}

/** What is not a flag a pod is told by its environment, as flanneld is. */
function kubeOptions(values: FlagValues<typeof runFlags>, env: CliIo['env']): StoreOptions {
  const optional = {
    apiUrl: values.kubeApiUrl,
    kubeconfigFile: values.kubeconfigFile,
    nodeName: env.NODE_NAME,
    podName: env.POD_NAME,
    podNamespace: env.POD_NAMESPACE,
    serviceHost: env.KUBERNETES_SERVICE_HOST,
    servicePort: env.KUBERNETES_SERVICE_PORT,
  };
  const given = Object.entries(optional).filter(([, value]) => (value ?? '') !== '');
  return {
    kind: 'kube',
    annotationPrefix: values.kubeAnnotationPrefix,
    netConfigPath: values.netConfigPath,
    setNodeNetworkUnavailable: values.setNodeNetworkUnavailable,
    ...(Object.fromEntries(given) as Partial<Record<keyof typeof optional, string>>),
  };
}
