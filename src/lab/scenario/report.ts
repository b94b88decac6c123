/** What the lab found: for people as tables, for programs as one JSON object. */
import { formatCount, formatTable } from '../../text.js';
import type { CaptureCheck } from '../../testbed/capture.js';
import type { EtcdCheck } from './etcd-check.js';
import type { DaemonMode } from '../../daemon/options.js';
import type { LabBackend } from '../backends/backend.js';
import type { Drop } from '../backends/counts.js';
import { PROGRAMS } from '../backends/udp.js';
import type { HopCounts, Passage } from './hops.js';
import type { RoutesCheck } from './routes-check.js';
import type { StoreKind } from './lab-store.js';
import {
  CHANGE_LIMIT_SECONDS,
  GIVE_UP_SECONDS,
  type Change,
  type ThirdHostResult,
} from './third-host.js';
import type { PingResult, ProbeOutcome, TcpResult, UdpResult } from '../../testbed/traffic.js';

export interface LabResult {
  readonly backend: Pick<
    LabBackend,
    'type' | 'directRouting' | 'hasModes' | 'device' | 'carrier' | 'format' | 'afterLeave'
  >;
  /** Of each host's daemon; without meaning where the backend has none. */
  readonly modes: readonly DaemonMode[];
  readonly kernel: string;
  /** MTU of the overlay in bytes. */
  readonly mtu: number;
  readonly store: { readonly kind: StoreKind; readonly location: string };
  /** What is in etcd with three hosts registered; undefined for another store. */
  readonly etcd?: EtcdCheck;
  readonly pingForward: PingResult;
  readonly pingBack: PingResult;
  readonly tcpForward: TcpResult;
  readonly tcpReverse: TcpResult;
  readonly udp: UdpResult & {
    readonly payloadBytes: number;
    /** Drops of the datagrams, and of what else went meanwhile. */
    readonly drops: readonly Drop[];
  };
  readonly capture: CaptureCheck;
  readonly routes: RoutesCheck;
  /** Over the ping and UDP phases. */
  readonly counts: HopCounts;
  readonly thirdHost: ThirdHostResult;
}

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** Every statement the lab makes about itself; all must hold. */
export function checksOf(result: LabResult): Check[] {
  const { pingForward, pingBack, tcpForward, tcpReverse, udp, capture, routes } = result;
  const { thirdHost, etcd, backend } = result;
  const reached = (ping: Pick<PingResult, 'sent' | 'received'>): Pick<Check, 'ok' | 'detail'> => ({
    ok: ping.sent > 0 && ping.received === ping.sent,
    detail: `${ping.received} of ${ping.sent} came back`,
  });
  return [
    { name: 'ping container-1 to container-2', ...reached(pingForward) },
    { name: 'ping container-2 to container-1', ...reached(pingBack) },
    { name: 'TCP container-1 to container-2', ok: tcpForward.gbps > 0, detail: gbps(tcpForward) },
    { name: 'TCP container-2 to container-1', ok: tcpReverse.gbps > 0, detail: gbps(tcpReverse) },
    {
      name: `UDP, ${udp.payloadBytes}-byte payloads`,
      ok: udp.arrivedPackets > 0,
      detail: `${pps(udp.arrivedPackets, udp.receivedSeconds)} carried by ${backend.carrier}`,
    },
    {
      name: backend.format.statement,
      ok: capture.ok,
      detail:
        capture.problems[0] ?? `${capture.matched} of ${capture.datagrams} ${backend.format.noun}s`,
    },
    {
      name: "node 1's routes are the documents'",
      ok: routes.ok,
      detail: routes.problems[0] ?? routesDetail(routes),
    },
    { name: 'a third host joins and is reached, both ways', ...inTime(thirdHost.joined) },
    { name: `it leaves: ${AFTER_LEAVE[backend.afterLeave]}`, ...inTime(thirdHost.left) },
    { name: 'it comes back and is reached, both ways', ...inTime(thirdHost.returned) },
    { name: 'ping container-1 to container-2 meanwhile', ...reached(thirdHost.meanwhile) },
    ...(etcd === undefined ? [] : [checkOfEtcd(etcd)]),
  ];
}

/** What the others see of a host that has left. */
export const AFTER_LEAVE: Readonly<Record<ProbeOutcome, string>> = {
  'net unreachable': 'Destination Net Unreachable',
  'host unreachable': 'Destination Host Unreachable',
  silent: 'no route to it, no answer',
  answered: 'an answer',
  'other error': 'an error',
};

function routesDetail({ text, entries }: RoutesCheck): string {
  const routes = `${text.split('\n').length} routes`;
  return entries === undefined ? routes : `${routes}, ${entries.found.length} ${ENTRIES}`;
}

const ENTRIES = 'neighbours and forwarding entries';

function inTime({ seconds, pending }: Change): Pick<Check, 'ok' | 'detail'> {
  if (seconds === undefined) {
    return { ok: false, detail: `not within ${GIVE_UP_SECONDS} s: ${pending.join(', ')}` };
  }
  const ok = seconds <= CHANGE_LIMIT_SECONDS;
  const detail = `after ${seconds.toFixed(2)} s`;
  return { ok, detail: ok ? detail : `${detail}, expected at most ${CHANGE_LIMIT_SECONDS} s` };
}

function checkOfEtcd({ ok, entries, problems }: EtcdCheck): Check {
  const detail = problems[0] ?? `${entries.length} of ${entries.length} keys`;
  return { name: "etcd's keys and values are flannel's, byte for byte", ok, detail };
}

export function renderReport(result: LabResult): string {
  const { pingForward, pingBack, tcpForward, tcpReverse, counts, routes } = result;
  return [
    describeHead(result),
    section(
      'What passed',
      formatTable(
        [{ title: '' }, { title: 'check' }, { title: 'result' }],
        checksOf(result).map(({ name, ok, detail }) => [ok ? '✓' : '✗', name, detail]),
      ) + CHANGE_TIMES,
    ),
    section(
      'Throughput and latency',
      formatTable(
        [{ title: 'measurement' }, { title: 'value', align: 'right' }, { title: 'note' }],
        [
          ['TCP container-1 to container-2', gbps(tcpForward), describeTcp(tcpForward)],
          ['TCP container-2 to container-1', gbps(tcpReverse), describeTcp(tcpReverse)],
          ...udpRows(result),
          ['ping round trip, 1 to 2', milliseconds(pingForward), range(pingForward)],
          ['ping round trip, 2 to 1', milliseconds(pingBack), range(pingBack)],
        ],
      ) + ONE_RUN,
    ),
    section(
      'Packets at each hop, during ping and UDP',
      formatTable(
        [
          { title: 'where' },
          { title: 'device' },
          ...['packets 1 to 2', 'in passes', 'packets 2 to 1', 'in passes'].map(
            (title) => ({ title, align: 'right' }) as const,
          ),
        ],
        counts.hops.map((hop) => [
          ...[hop.where, hop.device],
          ...[...passageCells(hop.forward), ...passageCells(hop.back)],
        ]),
      ) + passesText(counts),
    ),
    section('Drops, during ping and UDP', renderDrops(counts)),
    section("Node 1's routes", indented(routes.text)),
    ...(routes.entries === undefined
      ? []
      : [
          section(
            `Node 1's ${routes.entries.title}`,
            routes.entries.found.length === 0
              ? '  none\n'
              : indented(routes.entries.found.join('\n')),
          ),
        ]),
    ...(result.etcd === undefined
      ? []
      : [section('In etcd, with three hosts registered', renderEtcd(result.etcd))]),
  ].join('\n');
}

function describeHead(result: LabResult): string {
  const { backend, mtu, kernel } = result;
  const modes = distinct(result.modes);
  const direct = backend.directRouting ? ' with DirectRouting' : '';
  return [
    `Backend ${backend.type}${direct}`,
    ...(backend.hasModes
      ? [modes.length === 1 ? `mode ${modes[0] ?? ''}` : describeModes(result)]
      : []),
    `store ${describeStore(result.store)}`,
    `${backend.device === undefined ? '' : `${backend.device} `}MTU ${mtu}`,
    `kernel ${kernel}`,
  ].join(', ');
}

function describeModes({ modes }: LabResult): string {
  return modes.map((mode, index) => `host-${index + 1} mode ${mode}`).join(', ');
}

function distinct<T>(items: readonly T[]): readonly T[] {
  return [...new Set(items)];
}

function indented(text: string): string {
  return `${text.replaceAll(/^/gm, '  ')}\n`;
}

function describeStore({ kind, location }: LabResult['store']): string {
  return kind === 'etcd' ? `etcd at ${location}` : kind;
}

function renderEtcd({ entries }: EtcdCheck): string {
  return formatTable(
    [{ title: 'key' }, { title: 'value' }, { title: 'lease' }],
    entries.map(({ key, value, leaseSeconds }) => [
      key,
      value,
      leaseSeconds === undefined ? 'none' : `${leaseSeconds / 3_600} h`,
    ]),
  );
}

function renderDrops(counts: HopCounts): string {
  const drops = happened(counts.drops);
  if (drops.length === 0) return '  none\n';
  return formatTable(
    [
      ...[{ title: 'where' }, { title: 'reason' }],
      ...[{ title: 'packets', align: 'right' } as const, { title: 'why' }],
    ],
    drops.map(({ where, reason, packets, cause }) => [where, reason, countText(packets), cause]),
  );
}

/** Who sent, carried and read how much; who lost the rest is in the table of drops. */
function udpRows({ udp, backend }: LabResult): string[][] {
  const { payloadBytes, sentPackets, arrivedPackets, receivedPackets } = udp;
  const { carrier } = backend;
  const ofSent = (packets: number): string =>
    sentPackets === 0 ? '-' : `${((packets / sentPackets) * 100).toFixed(1)} %`;
  const inSocket = arrivedPackets - receivedPackets;
  return [
    [
      `UDP ${payloadBytes} B, sent by container-1`,
      pps(sentPackets, udp.sentSeconds),
      `${formatCount(sentPackets)} datagrams, as fast as one program can`,
    ],
    [
      `UDP ${payloadBytes} B, carried by ${carrier}`,
      pps(arrivedPackets, udp.receivedSeconds),
      `${ofSent(arrivedPackets)} of those sent reached container-2`,
    ],
    [
      `UDP ${payloadBytes} B, read in container-2`,
      pps(receivedPackets, udp.receivedSeconds),
      `${ofSent(receivedPackets)}; ${ofSent(inSocket)} lost in the reader's own socket, not on the way`,
    ],
  ];
}

function passageCells({ packets, passes }: Passage): string[] {
  return [countText(packets), passes === undefined ? '-' : formatCount(passes)];
}

function countText(packets: number | undefined): string {
  return packets === undefined ? 'not known' : formatCount(packets);
}

function pps(packets: number, seconds: number): string {
  return `${formatCount(seconds > 0 ? Math.round(packets / seconds) : 0)} packets/s`;
}

function describeTcp({ retransmits }: TcpResult): string {
  return `one stream, payload at the receiver; ${formatCount(retransmits)} segments sent again`;
}

const CHANGE_TIMES = `
  A third host's times run from its first step, the start or the end of its daemon, to the last
  container that sees the result.
`;

const ONE_RUN = `
  One run, in which programs, daemons and kernel share the CPUs of this machine: a look,
  no comparison. npm run bench compares, in interleaved rounds.
`;

const PASSES = `
  A train of packets passes through a device as one. The daemons count packets; at a device
  they follow from its bytes, to a few packets (ARP and the load's own TCP connection).
`;
const BY_KERNEL = `
  The kernel alone forwards, and no daemon counts. The packets follow from a device's passes and
  bytes, to a few packets (ARP and the load's own TCP connection).
`;
const IN_KERNEL = `
  What the eBPF programs carry never reaches the daemon, and flannel0 does not count it: how many
  packets passed there is not known.
`;

function passesText({ hops }: HopCounts): string {
  const has = (name: string): boolean => hops.some(({ device }) => device === name);
  if (has(PROGRAMS)) return PASSES + IN_KERNEL;
  return has('daemon') ? PASSES : BY_KERNEL;
}

/** The object of `--json`; field names are a contract. */
export function toJson(result: LabResult): object {
  const { pingForward, pingBack, tcpForward, tcpReverse, udp } = result;
  const times = [pingForward.avgMs, pingBack.avgMs].filter((time) => time !== undefined);
  const checks = checksOf(result);
  const modes = distinct(result.modes);
  const { joined, left, returned, meanwhile } = result.thirdHost;
  return {
    ok: checks.every(({ ok }) => ok),
    backend: result.backend.type,
    directRouting: result.backend.directRouting,
    device: result.backend.device ?? null,
    // Null where no daemon carries packets, and mode also where the hosts have different ones.
    mode: result.backend.hasModes && modes.length === 1 ? (modes[0] ?? null) : null,
    modes: result.backend.hasModes ? result.modes : null,
    kernel: result.kernel,
    mtu: result.mtu,
    store: {
      ...result.store,
      ...(result.etcd === undefined ? {} : { etcd: toJsonEtcd(result.etcd) }),
    },
    ping: {
      sent: pingForward.sent + pingBack.sent,
      received: pingForward.received + pingBack.received,
      avgMs:
        times.length === 0
          ? null
          : round(times.reduce((sum, time) => sum + time, 0) / times.length, 3),
    },
    tcp: {
      forwardGbps: round(tcpForward.gbps, 3),
      reverseGbps: round(tcpReverse.gbps, 3),
      retransmits: tcpForward.retransmits + tcpReverse.retransmits,
    },
    udp: {
      payloadBytes: udp.payloadBytes,
      sentPackets: udp.sentPackets,
      arrivedPackets: udp.arrivedPackets,
      receivedPackets: udp.receivedPackets,
      ...perSecond('sentPps', udp.sentPackets, udp.sentSeconds),
      ...perSecond('arrivedPps', udp.arrivedPackets, udp.receivedSeconds),
      ...perSecond('receivedPps', udp.receivedPackets, udp.receivedSeconds),
      drops: happened(udp.drops).map(dropToJson),
    },
    captureOk: result.capture.ok,
    capture: result.capture,
    routesOk: result.routes.ok,
    thirdHost: {
      joinSeconds: roundSeconds(joined),
      leaveSeconds: roundSeconds(left),
      returnSeconds: roundSeconds(returned),
      pingMeanwhile: meanwhile,
    },
    checks,
    hops: result.counts.hops.map(({ where, device, forward, back }) => ({
      where,
      device,
      // Null: nobody there counts them.
      forward: forward.packets ?? null,
      back: back.packets ?? null,
      // As the device counts: a train of packets is one. The daemons have none.
      forwardPasses: forward.passes ?? null,
      backPasses: back.passes ?? null,
    })),
    drops: happened(result.counts.drops).map(dropToJson),
  };
}

function happened(drops: readonly Drop[]): Drop[] {
  return drops.filter(({ packets }) => packets !== 0);
}

function dropToJson({ packets, ...rest }: Drop): object {
  return { ...rest, packets: packets ?? null };
}

function perSecond(name: string, packets: number, seconds: number): Record<string, number> {
  return { [name]: seconds > 0 ? Math.round(packets / seconds) : 0 };
}

function toJsonEtcd({ ok, entries, problems }: EtcdCheck): object {
  const rows = entries.map(({ key, value, leaseSeconds = null }) => ({ key, value, leaseSeconds }));
  return { ok, entries: rows, problems };
}

/** Null when it was given up. */
function roundSeconds({ seconds }: Change): number | null {
  return seconds === undefined ? null : round(seconds, 3);
}

function section(title: string, body: string): string {
  return `\n${title}\n\n${body}`.trimEnd();
}

function gbps(result: TcpResult): string {
  return `${result.gbps.toFixed(2)} Gbit/s`;
}

function milliseconds({ avgMs }: PingResult): string {
  return avgMs === undefined ? '-' : `${avgMs.toFixed(3)} ms`;
}

function range({ received, minMs, maxMs }: PingResult): string {
  return minMs === undefined || maxMs === undefined
    ? 'nothing came back'
    : `average of ${received}; least ${minMs.toFixed(3)}, greatest ${maxMs.toFixed(3)} ms`;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
