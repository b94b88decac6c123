/** `flannelette run`: the daemon in the foreground, with flanneld's flags. */
import {
  resolveDaemonOptions,
  validateDaemonOptions,
  HEALTHZ_DEFAULT_IP,
  type DaemonOptions,
  type StoreOptions,
} from '../daemon/options.js';
import { DescriptorStore } from '../daemon/descriptor-store.js';
import { ownPrivileges } from '../daemon/privileges.js';
import { ServiceManager } from '../daemon/sd-notify.js';
import { packageVersion } from '../daemon/version.js';
import { ExitCode, FlannelletteError, inputError, messageOf } from '../errors.js';
import { ETCD_DEFAULTS } from '../lease/etcd/etcd-options.js';
import { LOG_FORMATS, type LogFormat } from '../log-format.js';
import { createLogger, type Logger } from '../log.js';
import type { Command } from './command.js';
import { environmentName, resolveFlags, type FlagValues } from './flags.js';
import { giveStartBackOf } from './give-start-back.js';
import type { CliIo } from './io.js';
import { logProcessEvents, logUnexpected } from './process-log.js';
import { runFlags } from './run-flags.js';
import { unknownVariables } from './unknown-variables.js';
import { flagsWithoutEffect } from './without-effect.js';

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
  3  another flannel of this host has taken over (flannelette step-aside)
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
    if (io.privilegesKept !== undefined) {
      log.warn({ error: io.privilegesKept }, 'cannot give up privileges; going on with them');
    }
    if (io.signals !== undefined) log.info(ownPrivileges() ?? {}, 'privileges');
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
      const daemon = new Daemon(options, log, { serviceManager, descriptorStore });
      if (io.signals !== undefined) void giveStartBackOf(daemon.events(stop.signal), log);
      await daemon.run(stop.signal);
      code = daemon.steppedAside ? ExitCode.steppedAside : ExitCode.ok;
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
    waitForPort: values.waitForPort,
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
