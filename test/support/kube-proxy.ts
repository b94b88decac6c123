/**
 * kube-proxy's rules for one Service with a node port, as it writes them (Kubernetes 1.31,
 * pkg/proxy/iptables and pkg/proxy/ipvs; detection of local traffic by cluster CIDR): what is here of
 * others, for what our rules and our tunnel do beside it.
 */
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ipBatch, OVERLAY, type HostPlan } from '../../src/testbed/topology.js';

export interface Service {
  readonly clusterIp: string;
  readonly port: number;
  readonly nodePort: number;
  /** Pods behind it, on any node. */
  readonly endpoints: readonly { readonly address: string; readonly port: number }[];
  /** externalTrafficPolicy: to pods of the node that is asked only, which see who asks. */
  readonly local?: string;
}

const CHAINS = ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ'];
const comment = (text: string): string => `-m comment --comment "${text}"`;

/** Chains and rules that every Service uses: the mark 0x4000 and what masquerades it. */
const COMMON = [
  `-I PREROUTING ${comment('kubernetes service portals')} -j KUBE-SERVICES`,
  `-I OUTPUT ${comment('kubernetes service portals')} -j KUBE-SERVICES`,
  `-I POSTROUTING ${comment('kubernetes postrouting rules')} -j KUBE-POSTROUTING`,
  '-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000',
  '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
  '-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0',
  `-A KUBE-POSTROUTING ${comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully`,
];

const FILTER = [
  '*filter',
  ':KUBE-FORWARD - [0:0]',
  `-I FORWARD ${comment('kubernetes forwarding rules')} -j KUBE-FORWARD`,
  '-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP',
  `-A KUBE-FORWARD ${comment('kubernetes forwarding rules')} -m mark --mark 0x4000/0x4000 -j ACCEPT`,
  `-A KUBE-FORWARD ${comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
  'COMMIT',
];

/** Mode iptables: statistic chooses an endpoint, DNAT leads there. */
export async function proxyByIptables(plan: HostPlan, service: Service): Promise<void> {
  const { clusterIp, port, nodePort, endpoints, local } = service;
  const name = 'default/echo';
  const portal = `-d ${clusterIp}/32 -p tcp -m tcp --dport ${port}`;
  const chosen = (chain: string, list: Service['endpoints']): string[] =>
    list.map(({ address, port: to }, index) => {
      const left = list.length - index;
      const one = left === 1 ? '' : ` -m statistic --mode random --probability ${1 / left}`;
      return `-A ${chain} ${comment(`${name} -> ${address}:${to}`)}${one} -j ${endpointChain(index, list)}`;
    });
  const endpointChain = (index: number, list: Service['endpoints']): string =>
    `KUBE-SEP-${endpoints.indexOf(list[index] as (typeof endpoints)[number])}`;
  const here = endpoints.filter(({ address }) => address === local);
  const nat = [
    '*nat',
    ...[...CHAINS, 'KUBE-SVC-ECHO', 'KUBE-SVL-ECHO', 'KUBE-EXT-ECHO'].map(declared),
    ...endpoints.map((_, index) => declared(`KUBE-SEP-${index}`)),
    ...COMMON,
    `-A KUBE-SERVICES ${comment(`${name} cluster IP`)} ${portal} -j KUBE-SVC-ECHO`,
    `-A KUBE-SERVICES ${comment('kubernetes service nodeports; NOTE: this must be the last rule in this chain')} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`,
    `-A KUBE-NODEPORTS ${comment(name)} -p tcp -m tcp --dport ${nodePort} -j KUBE-EXT-ECHO`,
    ...(local === undefined
      ? [
          `-A KUBE-EXT-ECHO ${comment(`masquerade traffic for ${name} external destinations`)} -j KUBE-MARK-MASQ`,
          '-A KUBE-EXT-ECHO -j KUBE-SVC-ECHO',
        ]
      : [
          `-A KUBE-EXT-ECHO -s ${OVERLAY} ${comment(`pod traffic for ${name} external destinations`)} -j KUBE-SVC-ECHO`,
          `-A KUBE-EXT-ECHO ${comment(`masquerade LOCAL traffic for ${name} external destinations`)} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`,
          `-A KUBE-EXT-ECHO ${comment(`route LOCAL traffic for ${name} external destinations`)} -m addrtype --src-type LOCAL -j KUBE-SVC-ECHO`,
          '-A KUBE-EXT-ECHO -j KUBE-SVL-ECHO',
          ...chosen('KUBE-SVL-ECHO', here),
        ]),
    `-A KUBE-SVC-ECHO ! -s ${OVERLAY} ${comment(`${name} cluster IP`)} ${portal} -j KUBE-MARK-MASQ`,
    ...chosen('KUBE-SVC-ECHO', endpoints),
    ...endpoints.flatMap(({ address, port: to }, index) => [
      `-A KUBE-SEP-${index} -s ${address}/32 ${comment(name)} -j KUBE-MARK-MASQ`,
      `-A KUBE-SEP-${index} -p tcp ${comment(name)} -m tcp -j DNAT --to-destination ${address}:${to}`,
    ]),
    'COMMIT',
  ];
  await restore(plan, [...nat, ...FILTER]);
}

/** Mode ipvs: the Service's address on kube-ipvs0, its pods as real servers, sets of addresses. */
export async function proxyByIpvs(plan: HostPlan, service: Service): Promise<void> {
  const { clusterIp, port, nodePort, endpoints } = service;
  await ipBatch(plan.host, [
    'link add kube-ipvs0 type dummy',
    `address add ${clusterIp}/32 dev kube-ipvs0`,
  ]);
  const sets = [
    'create KUBE-CLUSTER-IP hash:ip,port',
    `add KUBE-CLUSTER-IP ${clusterIp},tcp:${port}`,
    'create KUBE-NODE-PORT-TCP bitmap:port range 0-65535',
    `add KUBE-NODE-PORT-TCP ${nodePort}`,
    'create KUBE-LOOP-BACK hash:ip,port,ip',
    ...endpoints.map(
      ({ address, port: to }) => `add KUBE-LOOP-BACK ${address},tcp:${to},${address}`,
    ),
  ];
  const servers = [`${clusterIp}:${port}`, `${plan.address}:${nodePort}`].flatMap((server) => [
    `-A -t ${server} -s rr`,
    ...endpoints.map(({ address, port: to }) => `-a -t ${server} -r ${address}:${to} -m -w 1`),
  ]);
  await inHost(plan, ['ipset', 'restore'], sets);
  await inHost(plan, ['ipvsadm', '--restore'], servers);
  await inHost(plan, ['sysctl', '-qw', 'net.ipv4.vs.conntrack=1', 'net.ipv4.vs.conn_reuse_mode=0']);
  const nat = [
    '*nat',
    ...[...CHAINS, 'KUBE-NODE-PORT'].map(declared),
    ...COMMON,
    `-I KUBE-POSTROUTING ${comment('Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose')} -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE`,
    `-A KUBE-SERVICES ! -s ${OVERLAY} ${comment('Kubernetes service cluster ip + port for masquerade purpose')} -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ`,
    '-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
    `-A KUBE-NODE-PORT -p tcp ${comment('Kubernetes nodeport TCP port for masquerade purpose')} -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ`,
    '-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT',
    'COMMIT',
  ];
  await restore(plan, [...nat, ...FILTER]);
}

const declared = (chain: string): string => `:${chain} - [0:0]`;

function restore(plan: HostPlan, lines: readonly string[]): Promise<void> {
  return inHost(plan, ['iptables-restore', '--noflush'], lines);
}

async function inHost(
  plan: HostPlan,
  argv: string[],
  lines: readonly string[] = [],
): Promise<void> {
  await run(inNamespace(plan.host, argv), { input: `${lines.join('\n')}\n` });
}

/** What ipvs needs and is not here, by name; undefined when it can be tried. */
export async function ipvsMissing(): Promise<string | undefined> {
  for (const [module, argv] of [
    ['ip_vs', ['ipvsadm', '--list', '--numeric']],
    ['ip_set', ['ipset', 'list', '-name']],
  ] as const) {
    const { code, stderr } = await run(argv, { accept: [0, 1, 2, 127] });
    if (code !== 0) return `${module} (${argv[0]}: ${stderr.trim().split('\n')[0] ?? ''})`;
  }
  return undefined;
}

/** Packets that a chain's MASQUERADE rules have translated, i.e. connections. */
export async function masqueraded(plan: HostPlan, chain: string): Promise<number> {
  const argv = ['iptables-save', '-c', '-t', 'nat'];
  const { stdout } = await run(inNamespace(plan.host, argv));
  const rules = stdout.split('\n').filter((line) => line.includes(`-A ${chain} `));
  return rules
    .filter((line) => line.includes('-j MASQUERADE'))
    .reduce((sum, line) => sum + Number(/^\[(\d+):/.exec(line)?.[1] ?? Number.NaN), 0);
}
