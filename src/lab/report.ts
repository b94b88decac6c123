/** What the lab found: for people as tables, for programs as one JSON object. */
import { formatCount, formatTable } from '../text.js';
import type { CaptureCheck } from './capture.js';
import type { EtcdCheck } from './etcd-check.js';
import type { HopCounts } from './hops.js';
import type { RoutesCheck } from './routes-check.js';
import type { StoreKind } from './store.js';
import {
  CHANGE_LIMIT_SECONDS,
  GIVE_UP_SECONDS,
  type Change,
  type ThirdHostResult,
} from './third-host.js';
import type { PingResult, TcpResult, UdpResult } from './traffic.js';

export interface LabResult {
  readonly mode: string;
  readonly kernel: string;
  /** MTU of flannel0 in bytes. */
  readonly mtu: number;
  readonly store: { readonly kind: StoreKind; readonly location: string };
  /** What is in etcd with three hosts registered; undefined for another store. */
  readonly etcd?: EtcdCheck;
  readonly pingForward: PingResult;
  readonly pingBack: PingResult;
  readonly tcpForward: TcpResult;
  readonly tcpReverse: TcpResult;
  readonly udp: UdpResult & { readonly payloadBytes: number };
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
  const { thirdHost, etcd } = result;
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
      ok: udp.receivedPackets > 0,
      detail: `${formatCount(Math.round(udp.receivedPps))} packets/s received`,
    },
    {
      name: 'datagrams on UDP 8285 are exactly the inner packets',
      ok: capture.ok,
      detail: capture.problems[0] ?? `${capture.matched} of ${capture.datagrams} datagrams`,
    },
    {
      name: "node 1's routes are the documents'",
      ok: routes.ok,
      detail: routes.problems[0] ?? `${routes.text.split('\n').length} routes`,
    },
    { name: 'a third host joins and is reached, both ways', ...inTime(thirdHost.joined) },
    { name: 'it leaves: Destination Net Unreachable', ...inTime(thirdHost.left) },
    { name: 'it comes back and is reached, both ways', ...inTime(thirdHost.returned) },
    { name: 'ping container-1 to container-2 meanwhile', ...reached(thirdHost.meanwhile) },
    ...(etcd === undefined ? [] : [checkOfEtcd(etcd)]),
  ];
}

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
  const { pingForward, pingBack, tcpForward, tcpReverse, udp, counts, routes } = result;
  const indented = routes.text.replaceAll(/^/gm, '  ');
  const loss = udp.sentPackets === 0 ? 0 : 1 - udp.receivedPackets / udp.sentPackets;
  return [
    `Mode ${result.mode}, store ${describeStore(result.store)}, flannel0 MTU ${result.mtu}, kernel ${result.kernel}`,
    section(
      'What passed',
      formatTable(
        [{ title: '' }, { title: 'check' }, { title: 'result' }],
        checksOf(result).map(({ name, ok, detail }) => [ok ? '✓' : '✗', name, detail]),
      ),
    ),
    section(
      'Throughput and latency',
      formatTable(
        [{ title: 'measurement' }, { title: 'value', align: 'right' }, { title: 'note' }],
        [
          [
            'TCP container-1 to container-2',
            gbps(tcpForward),
            `${tcpForward.retransmits} retransmits`,
          ],
          [
            'TCP container-2 to container-1',
            gbps(tcpReverse),
            `${tcpReverse.retransmits} retransmits`,
          ],
          [
            `UDP ${udp.payloadBytes} B received`,
            `${formatCount(Math.round(udp.receivedPps))} packets/s`,
            `${(loss * 100).toFixed(1)} % of what one sender can send was dropped`,
          ],
          ['ping round trip, 1 to 2', milliseconds(pingForward), range(pingForward)],
          ['ping round trip, 2 to 1', milliseconds(pingBack), range(pingBack)],
        ],
      ),
    ),
    section(
      'Packets at each hop, during ping and UDP',
      formatTable(
        [
          { title: 'where' },
          { title: 'device' },
          { title: '1 to 2', align: 'right' },
          { title: '2 to 1', align: 'right' },
        ],
        counts.hops.map((hop) => [
          hop.where,
          hop.device,
          formatCount(hop.forward),
          formatCount(hop.back),
        ]),
      ),
    ),
    section('Drops, during ping and UDP', renderDrops(counts)),
    section("Node 1's routes", `${indented}\n`),
    ...(result.etcd === undefined
      ? []
      : [section('In etcd, with three hosts registered', renderEtcd(result.etcd))]),
  ].join('\n');
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
  const drops = counts.drops.filter(({ packets }) => packets > 0);
  if (drops.length === 0) return '  none\n';
  return formatTable(
    [{ title: 'where' }, { title: 'reason' }, { title: 'packets', align: 'right' }],
    drops.map(({ where, reason, packets }) => [where, reason, formatCount(packets)]),
  );
}

/** The object of `--json`; field names are a contract. */
export function toJson(result: LabResult): object {
  const { pingForward, pingBack, tcpForward, tcpReverse, udp } = result;
  const times = [pingForward.avgMs, pingBack.avgMs].filter((time) => time !== undefined);
  const checks = checksOf(result);
  const { joined, left, returned, meanwhile } = result.thirdHost;
  return {
    ok: checks.every(({ ok }) => ok),
    mode: result.mode,
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
      receivedPackets: udp.receivedPackets,
      receivedPps: Math.round(udp.receivedPps),
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
    hops: result.counts.hops,
    drops: result.counts.drops.filter(({ packets }) => packets > 0),
  };
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

function range({ minMs, maxMs }: PingResult): string {
  return minMs === undefined || maxMs === undefined
    ? 'nothing came back'
    : `${minMs.toFixed(3)} to ${maxMs.toFixed(3)} ms`;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
