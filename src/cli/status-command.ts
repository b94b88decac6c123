/** `flannelette status`: asks a running daemon over its unix socket and prints what it says. */
import { systemCalls } from '../dataplane/counters.js';
import type { DaemonStatus } from '../daemon/status.js';
import { escapeControls, ExitCode } from '../errors.js';
import { askDaemon, subnetFileFlag } from './ask-daemon.js';
import type { Command } from './command.js';
import { booleanFlag, resolveFlags } from './flags.js';
import { formatBytes, formatCount, formatDuration, formatTable, type Column } from '../text.js';

const flags = {
  subnetFile: subnetFileFlag,
  json: booleanFlag('json', 'print one JSON object', false, { argumentOnly: true }),
};

/** Rows of routes and of rejected entries shown; a network may have 65,536. `--json` gives all. */
const MAX_ROWS = 50;

export const statusCommand: Command = {
  name: 'status',
  summary: "show a running daemon's lease, routes and counters",
  description:
    'Asks the daemon of this host over the unix socket beside its subnet file. The socket is open to\nthe user the daemon runs as, and to root.',
  flags,
  footer: `
Environment:
  FLANNELD_SUBNET_FILE, as for run; the flag wins.

Examples:
  flannelette status
  flannelette status --json | jq .routes      # 100.96.2.0/24 by 10.168.0.3

Exit codes:
  0  a daemon answered
  1  no daemon answers there
  2  the input is wrong
`,
  run: async (given, io) => {
    const { subnetFile, json } = resolveFlags(flags, given, io.env);
    // Written by the same package's daemon; a foreign answer fails as bad JSON or not 200.
    const status = (await askDaemon(subnetFile, '/status')) as DaemonStatus;
    io.out(json ? `${JSON.stringify(status)}\n` : formatStatus(status, Date.now()));
    return ExitCode.ok;
  },
};

/** `now` in milliseconds since the epoch. */
export function formatStatus(status: DaemonStatus, now: number): string {
  const sections = [
    formatFacts(status, now),
    ...(status.problems.length > 0 ? [section('Problems', problemLines(status))] : []),
    section('Routes', routeTable(status, now)),
    section('Counters', counterTable(status)),
    section('Drops', dropTable(status)),
  ];
  if (status.rejected.length > 0) {
    const rows = status.rejected.map(({ key, reason }) => [key, reason]);
    sections.push(section('Rejected', firstRows([{ title: 'entry' }, { title: 'reason' }], rows)));
  }
  // Much of it others wrote: the store's keys and values, a configuration's names.
  return sections.join('\n').split('\n').map(escapeControls).join('\n');
}

function deviceWords({ device, mtu, mode, backend, external, dataPlane }: DaemonStatus): string {
  if (device !== null && dataPlane === null)
    return `${device}, MTU ${mtu ?? '?'}, the kernel forwards`;
  if (device !== null) return `${device}, MTU ${mtu ?? '?'}, mode ${mode}`;
  if (mtu === null) return 'none yet';
  return `none: ${backend ?? 'the backend'} forwards by ${external?.name ?? 'the external interface'}, MTU ${mtu}`;
}

function formatFacts(status: DaemonStatus, now: number): string {
  const { store, lease, external, dataPlane } = status;
  const facts: [string, string][] = [
    [
      'daemon',
      `flannelette ${status.version}, pid ${status.pid}, up ${formatDuration(status.uptimeSeconds)}, ${status.ready ? 'ready' : `not ready: ${status.phase}`}`,
    ],
    ['network', status.network ?? 'not known yet'],
    ['lease', lease === null ? 'none yet' : `${lease.subnet}, ${leaseEnd(lease, now)}`],
    ['device', deviceWords(status)],
    [
      'external',
      external === null
        ? 'not chosen yet'
        : `${external.name} ${external.address}, MTU ${external.mtu}${external.publicIp === external.address ? '' : `, public ${external.publicIp}`}`,
    ],
    [
      'store',
      store === null
        ? 'not open yet'
        : `${store.kind} ${store.location}${store.error === null ? '' : `, DEGRADED: ${store.error}`}`,
    ],
    ['firewall', firewallWords(status.firewall)],
  ];
  if (status.privileges !== undefined)
    facts.push(['privileges', privilegeWords(status.privileges)]);
  if (store !== null && store.leasesAsOf !== null) {
    const age = formatDuration((now - Date.parse(store.leasesAsOf)) / 1000);
    facts.push(['leases', `as of ${store.leasesAsOf}, ${age} ago`]);
  }
  if (dataPlane !== null && dataPlane.features.length > 0) {
    facts.push(['features', featureWords(dataPlane.features)]);
  }
  if (dataPlane !== null && dataPlane.queues !== null) {
    facts.push(['queues', queueWords(dataPlane.queues)]);
  }
  if (dataPlane !== null && dataPlane.error !== null) {
    facts.push(['data plane', `DOWN: ${dataPlane.error}`]);
  }
  if (dataPlane !== null && dataPlane.restarts > 0) {
    facts.push(['restarts', `${dataPlane.restarts} of the data plane`]);
  }
  return facts.map(([name, value]) => `${name.padEnd(11)}${value}\n`).join('');
}

function firewallWords({ enabled, inPlace, error, repairs }: DaemonStatus['firewall']): string {
  const wanted = inPlace ? 'rules in place' : 'rules not in place';
  const state = enabled ? wanted : 'rules off: neither --ip-masq nor --iptables-forward-rules';
  const repaired = repairs === 0 ? '' : `, repaired ${repairs} times`;
  return `${state}${repaired}${error === null ? '' : `, FAILING: ${error}`}`;
}

/** More than these few were not given up. */
const FEW_CAPABILITIES = 4;

function privilegeWords({
  capabilities,
  noNewPrivileges,
}: NonNullable<DaemonStatus['privileges']>): string {
  const names =
    capabilities.length > FEW_CAPABILITIES
      ? `${capabilities.length} capabilities`
      : capabilities.map((name) => `CAP_${name}`).join(', ');
  return `${names === '' ? 'none' : names}${noNewPrivileges === true ? '' : ', may gain others'}`;
}

/** What is in use, and of the rest what the kernel or the user did not want. */
function featureWords(features: NonNullable<DaemonStatus['dataPlane']>['features']): string {
  const named = (wanted: (typeof features)[number]['state']): string =>
    features
      .filter(({ state }) => state === wanted)
      .map(({ name }) => name)
      .join(', ');
  const active = named('active');
  const parts = [active === '' ? 'none in use' : active];
  if (named('refused') !== '') parts.push(`refused: ${named('refused')}`);
  if (named('disabled') !== '') parts.push(`disabled: ${named('disabled')}`);
  return parts.join('; ');
}

/** What the kernel granted; for a socket twice what was asked for. */
function queueWords(queues: NonNullable<NonNullable<DaemonStatus['dataPlane']>['queues']>): string {
  const { tunPackets, socketReceiveBytes, socketSendBytes } = queues;
  return `device ${formatCount(tunPackets)} packets, socket ${formatBytes(socketReceiveBytes)} in, ${formatBytes(socketSendBytes)} out`;
}

function leaseEnd(lease: NonNullable<DaemonStatus['lease']>, now: number): string {
  if (lease.lost !== null) return `LOST: ${lease.lost}`;
  if (lease.expiresAt === null) return 'reserved';
  const seconds = (Date.parse(lease.expiresAt) - now) / 1000;
  return seconds > 0
    ? `expires ${lease.expiresAt} (in ${formatDuration(seconds)})`
    : `EXPIRED ${lease.expiresAt}`;
}

function section(title: string, body: string): string {
  return `${title}\n${body}`;
}

/** Each on a line of its own, and below it the command that mends it. */
function problemLines({ problems }: DaemonStatus): string {
  return problems
    .map(
      ({ message, remedy }) => `  ${message}\n${remedy === undefined ? '' : `      ${remedy}\n`}`,
    )
    .join('');
}

function routeTable({ routes }: DaemonStatus, now: number): string {
  if (routes.length === 0) return '  no other host holds a lease\n';
  return firstRows(
    [{ title: 'subnet' }, { title: 'host' }, { title: 'by' }],
    routes.map((route) => [route.subnet, route.nextHop, wayWords(route, now)]),
  );
}

function wayWords({ way, why, pathMtu }: DaemonStatus['routes'][number], now: number): string {
  const words = why === undefined ? way : `${way}: ${why}`;
  if (pathMtu === undefined) return words;
  const age = formatDuration((now - Date.parse(pathMtu.since)) / 1000);
  return `${words}, path MTU ${pathMtu.bytes} for ${age}`;
}

/** A table of the first rows, and how many there are when that is not all. */
function firstRows(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const table = formatTable(columns, rows.slice(0, MAX_ROWS));
  if (rows.length <= MAX_ROWS) return table;
  const more = formatCount(rows.length - MAX_ROWS);
  return `${table}  and ${more} more of ${formatCount(rows.length)}: see --json\n`;
}

const RIGHT = (title: string): Column => ({ title, align: 'right' });

function counterTable({ dataPlane }: DaemonStatus): string {
  if (dataPlane === null) return '  no data plane yet\n';
  const shared = dataPlane.threads.some(({ kernelPackets }) => kernelPackets > 0);
  return formatTable(
    [
      { title: 'direction' },
      ...(shared ? [RIGHT('in the kernel')] : []),
      RIGHT('received'),
      RIGHT('bytes'),
      RIGHT('sent'),
      RIGHT('bytes'),
      RIGHT('dropped'),
      RIGHT('ICMP errors'),
      RIGHT('system calls'),
    ],
    dataPlane.threads.map((thread) => [
      thread.direction,
      ...(shared ? [formatCount(thread.kernelPackets)] : []),
      formatCount(thread.receivedPackets),
      formatBytes(thread.receivedBytes),
      formatCount(thread.sentPackets),
      formatBytes(thread.sentBytes),
      formatCount(Object.values(thread.drops).reduce((sum, count) => sum + count, 0)),
      formatCount(thread.icmpTimeExceeded + thread.icmpUnreachable),
      formatCount(systemCalls(thread)),
    ]),
  );
}

/** The kernel's queue in front of a direction, as a reason for drops. */
const QUEUE = { encapsulate: '(queue of the device)', decapsulate: '(buffer of the socket)' };

/** What was dropped, most first; reasons that never happened are not listed. */
function dropTable({ dataPlane }: DaemonStatus): string {
  const rows = (dataPlane?.threads ?? [])
    .flatMap(({ direction, drops, queueDrops }) =>
      [...Object.entries(drops), [QUEUE[direction], queueDrops ?? 0] as const].map(
        ([reason, count]) => ({ direction, reason, count }),
      ),
    )
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count || a.reason.localeCompare(b.reason));
  if (rows.length === 0) return '  none\n';
  return formatTable(
    [{ title: 'reason' }, { title: 'direction' }, RIGHT('packets')],
    rows.map(({ reason, direction, count }) => [reason, direction, formatCount(count)]),
  );
}
