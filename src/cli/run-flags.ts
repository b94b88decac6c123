/**
 * The flags of `flannelette run`. Apart from the command, because a process that gives up privileges reads
 * them before it loads anything else.
 */
import { LIMITS } from '../dataplane/limits.js';
import {
  checkFeatures,
  DAEMON_DEFAULTS,
  DAEMON_MODES,
  FEATURE_NAMES,
  HEALTHZ_DEFAULT_IP,
  MAX_RENEW_MARGIN_MINUTES,
  MAX_RESYNC_SECONDS,
  type FeatureName,
} from '../daemon/options.js';
import { inputError } from '../errors.js';
import { ETCD_DEFAULTS } from '../lease/etcd/etcd-options.js';
import { KUBE_DEFAULTS } from '../lease/kube/kube-options.js';
import { LOG_FORMATS, type LogFormat } from '../log-format.js';
import { booleanFlag, choiceFlag, integerFlag, listFlag, textFlag, type Flag } from './flags.js';

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
  waitForPort: booleanFlag(
    'wait-for-port',
    'while another program has the UDP port, as a flanneld that is to be replaced, carry the packets beside it, and take the port once it has ended',
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
    'give up all capabilities but CAP_NET_ADMIN and CAP_NET_RAW (and CAP_BPF and CAP_PERFMON in mode kernel) before anything is opened; false keeps what the daemon was started with',
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
