/**
 * `flannelette run`: the daemon in the foreground, with flanneld's flags.
 *
 * SIGINT and SIGTERM stop it cleanly, exit code 0. SIGHUP has nothing to reload, because the lease
 * file is watched: from a service manager it is ignored, from a terminal that closes it stops.
 */
import {
  DAEMON_DEFAULTS,
  DAEMON_MODES,
  MAX_RENEW_MARGIN_MINUTES,
  type DaemonOptions,
} from '../daemon/options.js';
import { Daemon } from '../daemon/daemon.js';
import { packageVersion } from '../daemon/version.js';
import { ExitCode, inputError } from '../errors.js';
import { createLogger } from '../log.js';
import type { Command } from './command.js';
import {
  booleanFlag,
  choiceFlag,
  integerFlag,
  listFlag,
  rejectUnsupportedEnvironment,
  resolveFlags,
  textFlag,
  type FlagValues,
} from './flags.js';

/** Ours and, of flanneld's, those that exist so far. */
export const runFlags = {
  leaseFile: textFlag(
    'lease-file',
    'lease file shared by the daemons of this machine; needed, it is the only store so far',
    { placeholder: 'path' },
  ),
  mode: choiceFlag(
    'mode',
    'how packets cross the kernel: one a system call, or many',
    DAEMON_MODES,
    DAEMON_DEFAULTS.mode,
  ),
  iface: listFlag(
    'iface',
    'interface (name or address) to reach other hosts by; may be repeated, the first that fits is taken; without it the one of the default route',
    { placeholder: 'name|ip' },
  ),
  publicIp: textFlag('public-ip', 'address other hosts reach this one by, when NAT is between', {
    placeholder: 'ip',
  }),
  subnetFile: textFlag(
    'subnet-file',
    'where the subnet and MTU are written for Docker or CNI; PATH.sock is the status socket',
    { placeholder: 'path', fallback: DAEMON_DEFAULTS.subnetFile },
  ),
  renewMargin: integerFlag(
    'subnet-lease-renew-margin',
    'minutes before its expiry that the lease is renewed',
    { min: 1, max: MAX_RENEW_MARGIN_MINUTES, fallback: DAEMON_DEFAULTS.leaseRenewMarginMinutes },
    { placeholder: 'minutes' },
  ),
  ipMasq: booleanFlag('ip-masq', 'masquerade traffic that leaves the overlay; not supported yet'),
  healthzIp: textFlag('healthz-ip', 'address of the health and metrics server', {
    placeholder: 'ip',
    fallback: DAEMON_DEFAULTS.healthzIp,
  }),
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
  verbosity: integerFlag(
    'v',
    'log level: 0 info, 1 debug, 2 and more trace',
    { min: 0, max: 100, fallback: DAEMON_DEFAULTS.verbosity },
    { placeholder: 'level' },
  ),
  version: booleanFlag('version', 'print the version and exit', false, { argumentOnly: true }),
};

/** Flags of flanneld v0.28 that are still to come. */
export const UNSUPPORTED_FLAGS: readonly string[] = [
  'etcd-endpoints',
  'etcd-prefix',
  'etcd-keyfile',
  'etcd-certfile',
  'etcd-cafile',
  'etcd-username',
  'etcd-password',
  'iface-regex',
  'iface-can-reach',
  'ip-masq-fully-random-disable',
  'kube-subnet-mgr',
  'kube-api-url',
  'kube-annotation-prefix',
  'kubeconfig-file',
  'net-config-path',
  'set-node-network-unavailable',
  'iptables-resync',
  'iptables-forward-rules',
  'ip-blackhole-route',
];

/** Time a clean stop may take; after that the kernel cleans up, as it does after kill -9. */
const STOP_LIMIT_MS = 1_800;

export const runCommand: Command = {
  name: 'run',
  summary: 'run the daemon of one host in the foreground',
  description:
    "Takes a subnet for this host from the lease file, creates the TUN device flannel0, routes the\noverlay network into it and carries the packets in UDP datagrams to the other hosts' daemons.\nFlags are flanneld's: one dash or two, --flag=value or --flag value.",
  flags: runFlags,
  unsupported: UNSUPPORTED_FLAGS,
  footer: `
Environment:
  Every flag is also read from FLANNELD_NAME (--lease-file: FLANNELD_LEASE_FILE); the flag wins.

Example (node 1, 10.168.0.2, of the two nodes in the documents):
  echo '{"version":1,"config":{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}},"leases":{}}' > /srv/leases.json
  flannelette run --lease-file=/srv/leases.json --iface=eth0
  cat /run/flannel/subnet.env       # FLANNEL_SUBNET=100.96.1.1/24, for dockerd --bip and --mtu

Exit codes:
  0  stopped by SIGINT or SIGTERM
  1  the machine refused: no privilege, no device, port taken, store unreadable
  2  the input is wrong: flag, value or network configuration
`,
  run: async (given, io) => {
    const values = resolveFlags(runFlags, given, io.env);
    if (values.version) {
      io.out(`${packageVersion()}\n`);
      return ExitCode.ok;
    }
    rejectUnsupportedEnvironment(runCommand, io.env);
    const options = daemonOptions(values);
    const log = createLogger({ verbosity: options.verbosity });
    const stop = new AbortController();
    const release = onSignals(stop, () => {
      log.error('not stopped in time; exiting, the kernel removes device and route');
      process.exit(ExitCode.failure);
    });
    try {
      await new Daemon(options, log).run(stop.signal);
    } finally {
      release();
    }
    return ExitCode.ok;
  },
};

/** From flag values to what the daemon takes; the daemon validates the rest. */
export function daemonOptions(values: FlagValues<typeof runFlags>): DaemonOptions {
  if (values.leaseFile === undefined) {
    throw inputError(
      '--lease-file',
      undefined,
      'the path of the lease file, the only store so far (etcd and Kubernetes are not supported yet)',
    );
  }
  return {
    leaseFile: values.leaseFile,
    mode: values.mode,
    iface: values.iface,
    ...(values.publicIp === undefined ? {} : { publicIp: values.publicIp }),
    subnetFile: values.subnetFile,
    healthzIp: values.healthzIp,
    healthzPort: values.healthzPort,
    ipMasq: values.ipMasq,
    sourceCheck: values.sourceCheck,
    verbosity: values.verbosity,
    leaseRenewMarginMinutes: values.renewMargin,
  };
}

/** Aborts on SIGINT and SIGTERM; a second one, or a stop that takes too long, calls `giveUp`. */
function onSignals(stop: AbortController, giveUp: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const end = (): void => {
    if (stop.signal.aborted) {
      giveUp();
      return;
    }
    timer = setTimeout(giveUp, STOP_LIMIT_MS);
    stop.abort();
  };
  const hangUp = process.stderr.isTTY ? end : (): void => undefined;
  process.on('SIGINT', end).on('SIGTERM', end).on('SIGHUP', hangUp);
  return () => {
    clearTimeout(timer);
    process.off('SIGINT', end).off('SIGTERM', end).off('SIGHUP', hangUp);
  };
}
