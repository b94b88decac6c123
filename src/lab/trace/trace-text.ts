/** A trace for people: a block for each hop, the bytes on the wire, and a summary; 100 columns at most. */
import { hexBytes, macAt, type Packet, type TransportHeader } from '../../testbed/wire/packet.js';
import { ETHERNET_BYTES, LINKTYPE_ETHERNET } from '../../testbed/wire/pcap.js';
import type { VxlanFrame } from '../../testbed/wire/vxlan.js';
import type { Decision } from './look-up.js';
import type { Sighting } from './follow.js';
import {
  checkHops,
  INNER_ETHERNET,
  protocolName,
  regionsOf,
  sightingsOf,
  summaryOf,
  ttlTakers,
  type Hop,
  type HopCrossing,
  type Region,
  type Trace,
} from './trace-hops.js';
import { endsInProcess } from './way.js';

/** Where the bytes are shown. */
const SHOWN_AT = 'switch in';
/** Payload bytes that are shown; the JSON has all. */
const SHOWN_PAYLOAD = 128;
const BYTES_PER_LINE = 16;
const LABEL_WIDTH = 12;
const INDENT = '      ';

export function renderTrace(trace: Trace): string {
  const blocks = trace.hops.flatMap((hop, index) => [
    ...(hop.crossing === undefined ? [] : [renderCrossing(hop.crossing)]),
    renderHop(hop, previousTtl(trace.hops, index)),
  ]);
  return [renderHead(trace), ...blocks, renderSummary(trace)].join('\n\n');
}

function renderHead({ plan, backend, mode, mtu, kernel }: Trace): string {
  const { from, to, proto, size } = plan;
  const what = { icmp: 'ICMP echo request', tcp: 'TCP segment', udp: 'UDP datagram' }[proto];
  return [
    `One ${what} from ${from.containerAddress} to ${to.containerAddress}, ${size} bytes of payload`,
    [
      `Backend ${backend.type}${backend.directRouting ? ' with DirectRouting' : ''}`,
      ...(backend.hasModes ? [`mode ${mode}`] : []),
      `${backend.device === undefined ? '' : `${backend.device} `}MTU ${mtu}`,
      `kernel ${kernel}`,
    ].join(', '),
    'Times since the packet was first seen',
  ].join('\n');
}

function renderCrossing({ number, name, from, to, bytes }: HopCrossing): string {
  const text = `crossing ${number}: ${from} -> ${to}, ${name}, copies ${bytes} bytes`;
  return `${INDENT}==== ${text} `.padEnd(84, '=');
}

function renderHop(hop: Hop, ttlBefore: number | undefined): string {
  const { number, step, sighting } = hop;
  const direction = step.direction === undefined ? '' : ` ${step.direction}`;
  const name = `${step.where} ${step.device}${direction}`;
  const head = `${String(number).padStart(3)}.  ${name.padEnd(38)} ${step.side.padEnd(8)} ${renderTime(hop)}`;
  const lines = sighting === undefined ? workOf(hop) : decode(sighting, ttlBefore);
  const bytes = sighting !== undefined && step.name === SHOWN_AT ? dump(sighting) : [];
  return [
    head.trimEnd(),
    ...[...lines, ...hop.decisions.map(renderDecision), ...bytes].map(indent),
  ].join('\n');
}

function indent(line: string): string {
  return `${INDENT}${line}`.trimEnd();
}

function row(label: string, text: string): string {
  return `${label.padEnd(LABEL_WIDTH)} ${text}`;
}

function renderTime({ step, time }: Hop): string {
  if (step.keepsStamp === true) return 'time not known: stamped at eth0';
  if (time === undefined) return '';
  const [from, to] = [microseconds(time.fromNs), microseconds(time.toNs)];
  return time.fromNs === time.toNs ? `+${from} us` : `+${from} to +${to} us`;
}

function microseconds(nanoseconds: number): string {
  return (nanoseconds / 1_000).toFixed(1);
}

function renderDecision({ kind, key, found }: Decision): string {
  return row(kind, `${key}: ${found}`);
}

/** What happens to the packet where it cannot be captured. */
function workOf({ step }: Hop): readonly string[] {
  return (step.work ?? []).map((line, index) => row(index === 0 ? 'does' : '', line));
}

function decode(sighting: Sighting, ttlBefore: number | undefined): readonly string[] {
  const { frame, linkType, envelope, packet } = sighting;
  const ethernet =
    linkType === LINKTYPE_ETHERNET
      ? [row('Ethernet', `${macAt(frame, 6)} > ${macAt(frame, 0)}  ${frame.length} bytes`)]
      : [row('no Ethernet', 'a layer-3 device: the frame is the IP packet')];
  const outside = envelope === undefined ? [] : describe('outer ', envelope.outer);
  const between = envelope?.vxlan === undefined ? [] : describeVxlan(envelope.vxlan);
  return [
    ...ethernet,
    ...outside,
    ...between,
    ...describe(envelope === undefined ? '' : 'inner ', packet, ttlBefore),
  ];
}

/** The flags and the VNI as tcpdump has them, which takes the port for that of OTV. */
function describeVxlan({ flags, vni, source, destination }: VxlanFrame): readonly string[] {
  const byte = flags.toString(16).padStart(2, '0');
  const vniFlag = (flags & 0x08) === 0 ? '.' : 'I';
  return [
    row(
      'VXLAN',
      `flags [${vniFlag}] (0x${byte})  VNI ${vni}  (tcpdump: OTV, overlay 0, instance ${vni})`,
    ),
    row(INNER_ETHERNET, `${source} > ${destination}`),
  ];
}

function describe(
  prefix: string,
  { ipv4, transport }: Packet,
  ttlBefore: number = ipv4.ttl,
): readonly string[] {
  const ttl = ttlBefore === ipv4.ttl ? `TTL ${ipv4.ttl}` : `TTL ${ttlBefore} -> ${ipv4.ttl}`;
  const flag = ipv4.dontFragment ? '  DF' : '';
  const id = `id ${hex16(ipv4.id)}`;
  return [
    row(
      `${prefix}IPv4`,
      `${ipv4.source} > ${ipv4.destination}  ${ttl}  ${ipv4.totalLength} bytes  ${id}${flag}`,
    ),
    row(protocolName(transport), describeTransport(transport)),
  ];
}

function describeTransport(header: TransportHeader): string {
  const checksum = `checksum ${hex16(header.checksum)} ${header.checksumState}`;
  switch (header.protocol) {
    case 'icmp': {
      const type = header.type === 8 ? 'echo request' : `type ${header.type} code ${header.code}`;
      return `${type}  id ${header.id}  sequence ${header.sequence}  ${checksum}`;
    }
    case 'udp':
      return `${header.sourcePort} > ${header.destinationPort}  ${header.length} bytes  ${checksum}`;
    case 'tcp': {
      const ports = `${header.sourcePort} > ${header.destinationPort}`;
      return `${ports}  ${header.flags.join(' ')}  seq ${header.sequence}  ${checksum}`;
    }
  }
}

function hex16(value: number): string {
  return `0x${value.toString(16).padStart(4, '0')}`;
}

/** The frame's bytes, sixteen a line, each part with its name. */
function dump(sighting: Sighting): readonly string[] {
  return ['', 'The frame on the wire:', ...regionsOf(sighting).flatMap(dumpRegion)];
}

function dumpRegion({ name, offset, bytes }: Region): readonly string[] {
  const shown = name === 'payload' ? bytes.subarray(0, SHOWN_PAYLOAD) : bytes;
  const lines: string[] = [];
  for (let at = 0; at < shown.length; at += BYTES_PER_LINE) {
    const part = shown.subarray(at, at + BYTES_PER_LINE);
    const text = part.toString('latin1').replaceAll(/[^ -~]/g, '.');
    const address = (offset + at).toString(16).padStart(4, '0');
    lines.push(
      row(
        at === 0 ? name : '',
        `${address}  ${hexBytes(part, ' ').padEnd(BYTES_PER_LINE * 3)} ${text}`,
      ),
    );
  }
  const rest = bytes.length - shown.length;
  return rest === 0 ? lines : [...lines, row('', `and ${rest} bytes more`)];
}

function previousTtl(hops: readonly Hop[], index: number): number | undefined {
  return sightingsOf(hops.slice(0, index)).at(-1)?.packet.ipv4.ttl;
}

function renderSummary(trace: Trace): string {
  const { hops, plan } = trace;
  const { sending, receiving, copiedBytes, ttls, nanoseconds } = summaryOf(hops);
  const wire = sightingsOf(hops).find(({ tap }) => tap.name === SHOWN_AT);
  const next = sending + receiving + 1;
  const note = endsInProcess(plan)
    ? []
    : [row('', `a process that receives (--proto=udp, tcp) would be crossing ${next}`)];
  return [
    'Summary',
    ...[
      row('crossings', `${sending} sending, ${receiving} receiving, of the user/kernel border`),
      ...note,
      row('copies', `${copiedBytes} bytes across the border: one copy at each crossing`),
      row('TTL', `${[...new Set(ttls)].join(' -> ')}: ${ttlTakers(hops).join(', ')} take 1 each`),
      ...(wire === undefined ? [] : renderSizes(wire)),
      ...renderSpans(hops, nanoseconds),
      ...checkHops(trace).map(({ name, ok, detail }) =>
        ok ? row('ok', name) : row('FAILED', `${name}: ${detail}`),
      ),
    ].map(indent),
  ].join('\n');
}

/** How the packet grows from inside out. */
function renderSizes({ packet, envelope }: Sighting): readonly string[] {
  const inner = packet.bytes.length;
  const outer = envelope?.outer.bytes.length ?? inner;
  const between =
    envelope?.vxlan === undefined
      ? []
      : [
          `${envelope.vxlan.frame.length} with inner Ethernet`,
          `${outer - envelope.outer.ipv4.headerBytes - envelope.outer.transport.headerBytes} with VXLAN`,
        ];
  const outside = [
    ...(envelope === undefined ? [] : [`${outer} with outer IPv4 and UDP`]),
    `${outer + ETHERNET_BYTES} with Ethernet`,
  ];
  const first = [`${inner} of the packet`, ...between];
  if (between.length === 0) return [row('bytes', [...first, ...outside].join(', '))];
  return [row('bytes', `${first.join(', ')},`), row('', outside.join(', '))];
}

/** Where the time went, from the first capture to the last. */
function renderSpans(hops: readonly Hop[], total: number): readonly string[] {
  const hidden = hops.filter(({ sighting, time }) => sighting === undefined && time !== undefined);
  const spans = hidden.map(({ step, time }) => {
    const spent = microseconds((time?.toNs ?? 0) - (time?.fromNs ?? 0));
    const who = `the ${step.device} of ${step.where}`;
    return `${spent} us of them around ${who}${step.side === 'user' ? ', its wake-up included' : ''}`;
  });
  return [
    row('time', `${microseconds(total)} us between the two containers' eth0, captures on:`),
    ...spans.map((span) => row('', span)),
    row('', 'one packet proves no speed: see `flannelette bench copies`'),
  ];
}
