import { describe, expect, it } from 'vitest';
import type { FlannelletteError } from '../../../../src/errors.js';
import type { Decisions } from '../../../../src/lab/trace/decisions.js';
import { follow, requireWhole, type TapCapture } from '../../../../src/lab/trace/follow.js';
import {
  checkHops,
  joinHops,
  regionsOf,
  sightingsOf,
  type Trace,
} from '../../../../src/lab/trace/trace-hops.js';
import { toJson } from '../../../../src/lab/trace/trace-json.js';
import { planTrace, type TracePlan, type TraceRequest } from '../../../../src/lab/trace/plan.js';
import { renderTrace } from '../../../../src/lab/trace/trace-text.js';
import { isTap, wayOf, type StepName } from '../../../../src/lab/trace/way.js';
import { ethernetFrame, ipv4Packet, udpDatagram } from '../../../support/packets.js';

const DEFAULTS: TraceRequest = { from: undefined, to: undefined, proto: 'udp', size: 56 };
const ONE = '100.96.1.2';
const TWO = '100.96.2.3';

describe('planTrace', () => {
  it.each([
    [{}, ONE, TWO],
    [{ from: ONE }, ONE, TWO],
    [{ from: TWO }, TWO, ONE],
    [{ to: ONE }, TWO, ONE],
    [{ from: ONE, to: TWO }, ONE, TWO],
    [{ from: TWO, to: ONE }, TWO, ONE],
  ])('of %j goes from %s to %s', (request, from, to) => {
    const plan = planTrace({ ...DEFAULTS, ...request });
    expect([plan.from.containerAddress, plan.to.containerAddress]).toEqual([from, to]);
  });

  it.each([
    [
      { from: '100.96.1.3' },
      '--from: "100.96.1.3" is not valid: expected 100.96.1.2 (container-1)',
    ],
    [{ to: '10.168.0.3' }, '--to: "10.168.0.3" is not valid: expected 100.96.1.2 (container-1)'],
    [{ from: ONE, to: ONE }, `--to: "${ONE}" is not valid: expected ${TWO}, the container that`],
    [{ from: TWO, to: TWO }, `--to: "${TWO}" is not valid: expected ${ONE}, the container that`],
    [
      { proto: 'icmp', size: 1_445 },
      '--size: 1445 is not valid: expected 0 to 1444 bytes for icmp',
    ],
    [{ proto: 'udp', size: 1_445 }, '--size: 1445 is not valid: expected 0 to 1444 bytes for udp'],
    [{ proto: 'tcp', size: 1_421 }, '--size: 1421 is not valid: expected 1 to 1420 bytes for tcp'],
    [{ proto: 'tcp', size: 0 }, '--size: 0 is not valid: expected 1 to 1420 bytes for tcp'],
  ] as const)('refuses %j', (request, message) => {
    expect(() => planTrace({ ...DEFAULTS, ...request })).toThrow(
      expect.objectContaining({
        kind: 'input',
        message: expect.stringContaining(message) as string,
      }) as FlannelletteError,
    );
  });

  it.each([
    ['icmp', 0, 1_444],
    ['udp', 0, 1_444],
    ['tcp', 1, 1_420],
  ] as const)('takes %s of %i and %i bytes', (proto, least, most) => {
    for (const size of [least, most]) {
      expect(planTrace({ ...DEFAULTS, proto, size })).toMatchObject({ proto, size });
    }
  });
});

const PLAN = planTrace(DEFAULTS);
const TTLS: Readonly<Partial<Record<StepName, number>>> = {
  'flannel0 out': 63,
  'eth0 out': 62,
  'switch in': 62,
  'switch out': 62,
  'eth0 in': 62,
  'flannel0 in': 61,
  'docker0 out': 60,
  'port out': 60,
  'container in': 60,
};
const ON_THE_WIRE = /^(eth0|switch)/;
const START = 1_700_000_000_000_000_000n;
const PAYLOAD = Buffer.alloc(PLAN.size, 'one packet ');

function innerPacket(ttl: number, size = PLAN.size): Buffer {
  const payload = udpDatagram(40_000, 5_000, PAYLOAD.subarray(0, size));
  return ipv4Packet({ source: ONE, destination: TWO, ttl, protocol: 17, payload });
}

function frameAt(name: StepName, ttl = TTLS[name] ?? 64): Buffer {
  const inner = innerPacket(ttl);
  if (name.startsWith('flannel0')) return inner;
  if (!ON_THE_WIRE.test(name)) return ethernetFrame(inner);
  const addresses = { source: '10.168.0.2', destination: '10.168.0.3' };
  const payload = udpDatagram(8285, 8285, inner);
  return ethernetFrame(ipv4Packet({ ...addresses, protocol: 17, payload }));
}

/** What tcpdump would have on the way: 10 us from tap to tap, something else before and after. */
function captures(): TapCapture[] {
  return wayOf(PLAN)
    .filter(isTap)
    .map((tap, index) => {
      const timeNs = START + BigInt(index) * 10_000n;
      const linkType = tap.device === 'flannel0' ? 101 : 1;
      const noise = linkType === 1 ? ethernetFrame(innerPacket(64, 3)) : innerPacket(64, 3);
      const records = [noise, frameAt(tap.name), noise].map((frame) => ({ timeNs, frame }));
      return { tap, linkType, records };
    });
}

/** The captures with another frame or time at one tap. */
function changed(name: StepName, change: { frame?: Buffer; timeNs?: bigint }): TapCapture[] {
  return captures().map((capture) =>
    capture.tap.name === name
      ? { ...capture, records: capture.records.map((record) => ({ ...record, ...change })) }
      : capture,
  );
}

const DECISIONS: Decisions = new Map([
  [
    'encapsulation',
    [
      { kind: 'lease', key: TWO, found: '100.96.2.0/24 is held by 10.168.0.3' },
      { kind: 'route', key: '10.168.0.3', found: '10.168.0.0/24 dev eth0 src 10.168.0.2' },
    ],
  ],
]);

function trace(from: readonly TapCapture[] = captures(), plan: TracePlan = PLAN): Trace {
  const hops = joinHops(plan, requireWhole(follow(from, plan)), DECISIONS);
  return { plan, mtu: 1_472, mode: 'auto', kernel: '6.1.0', hops };
}

describe('follow', () => {
  it('finds the packet at every tap, inside and outside the tunnel', () => {
    const { sightings, missing } = follow(captures(), PLAN);
    expect(missing).toEqual([]);
    expect(sightings.map(({ tap }) => tap.name)).toEqual(captures().map(({ tap }) => tap.name));
    for (const { tap, packet, outer } of sightings) {
      expect(packet.payload).toEqual(PAYLOAD);
      expect(outer !== undefined).toBe(ON_THE_WIRE.test(tap.name));
    }
  });

  it('says where the packet was seen last', () => {
    const lost = captures().map((capture) =>
      ['switch out', 'eth0 in'].includes(capture.tap.name) ? { ...capture, records: [] } : capture,
    );
    const { missing } = follow(lost, PLAN);
    expect(missing.map(({ name }) => name)).toEqual(['switch out', 'eth0 in']);
    const gone = captures().map((capture, index) =>
      index > 3 ? { ...capture, records: [] } : capture,
    );
    expect(() => requireWhole(follow(gone, PLAN))).toThrow(
      'the packet was seen last at host-1 flannel0, and not at host-1 eth0',
    );
  });

  it('finds nothing when the packet was not sent', () => {
    const silent = captures().map((capture) => ({ ...capture, records: [] }));
    expect(() => requireWhole(follow(silent, PLAN))).toThrow(
      'the packet was seen nowhere, and not at container-1 eth0',
    );
    const { sightings } = follow(captures(), { ...PLAN, size: PLAN.size + 1 });
    expect(sightings).toEqual([]);
  });

  it('does not take another packet of the same flow for it', () => {
    const other = innerPacket(63);
    other.writeUInt8(other.readUInt8(40) ^ 1, 40);
    expect(follow(changed('flannel0 out', { frame: other }), PLAN).missing).toHaveLength(1);
  });
});

describe('the hops', () => {
  const { hops } = trace();

  it('are numbered in the order of the way, with times and crossings', () => {
    expect(hops.map(({ number, step }) => `${number} ${step.name}`)).toEqual(
      wayOf(PLAN).map(({ name }, index) => `${index + 1} ${name}`),
    );
    expect(hops.map(({ time }) => time)).toMatchObject([
      ...[undefined, { fromNs: 0, toNs: 0 }, { fromNs: 10_000 }, { fromNs: 20_000 }],
      ...[{ fromNs: 30_000, toNs: 30_000 }, { fromNs: 30_000, toNs: 40_000 }, { fromNs: 40_000 }],
      ...[{ fromNs: 50_000 }, { fromNs: 60_000 }, { fromNs: 70_000 }],
      ...[{ fromNs: 70_000, toNs: 80_000 }, { fromNs: 80_000 }, { fromNs: 90_000 }],
      ...[{ fromNs: 100_000 }, { fromNs: 110_000 }, undefined],
    ]);
    const crossings = hops.flatMap(({ crossing }) => crossing ?? []);
    expect(crossings.map(({ number, from, to, bytes }) => [number, from, to, bytes])).toEqual([
      [1, 'user', 'kernel', 56],
      [2, 'kernel', 'user', 84],
      [3, 'user', 'kernel', 84],
      [4, 'kernel', 'user', 84],
      [5, 'user', 'kernel', 84],
      [6, 'kernel', 'user', 56],
    ]);
  });

  it('end in the kernel for an echo request: two crossings receive it', () => {
    const way = wayOf({ ...PLAN, proto: 'icmp' });
    expect(way.at(-1)).toMatchObject({ where: 'container-2', side: 'kernel' });
    expect(way.flatMap(({ crossing }) => crossing?.number ?? [])).toEqual([1, 2, 3, 4, 5]);
  });

  it('have the parts of a frame without gaps', () => {
    for (const sighting of sightingsOf(hops)) {
      const regions = regionsOf(sighting);
      expect(Buffer.concat(regions.map(({ bytes }) => bytes))).toEqual(sighting.frame);
    }
    const wire = sightingsOf(hops).find(({ tap }) => tap.name === 'switch in');
    expect(wire && regionsOf(wire).map(({ name, offset }) => [name, offset])).toEqual([
      ['Ethernet', 0],
      ['outer IPv4', 14],
      ['UDP', 34],
      ['inner IPv4', 42],
      ['UDP', 62],
      ['payload', 70],
    ]);
  });
});

describe('checkHops', () => {
  const failures = (from: readonly TapCapture[]) =>
    checkHops(trace(from).hops)
      .filter(({ ok }) => !ok)
      .map(({ detail }) => detail);
  const broken = (name: StepName, at: number): Buffer => {
    const frame = frameAt(name);
    frame.writeUInt8(frame.readUInt8(at) ^ 0x10, at);
    return frame;
  };

  it.each<[string, TapCapture[], string[]]>([
    ['nothing', captures(), []],
    [
      'a time that goes back',
      changed('switch in', { timeNs: START }),
      ['switch up1: earlier than the step before'],
    ],
    [
      'a TTL that is not taken from',
      changed('eth0 out', { frame: frameAt('eth0 out', 63) }),
      ['host-1 eth0: TTL 63, expected 62'],
    ],
    [
      'a wrong inner header checksum',
      changed('switch out', { frame: broken('switch out', 42 + 10) }),
      ['switch up2: a wrong checksum'],
    ],
    [
      'a wrong outer header checksum',
      changed('switch out', { frame: broken('switch out', 14 + 10) }),
      ['switch up2: a wrong checksum'],
    ],
    [
      'a packet that goes without the tunnel',
      changed('switch in', { frame: ethernetFrame(innerPacket(62)) }),
      ['switch up1: no datagram'],
    ],
  ])('finds %s', (_, from, expected) => {
    expect(failures(from)).toEqual(expected);
  });
});

describe('the text', () => {
  const text = renderTrace(trace());
  const lines = text.split('\n');

  it('fits a terminal', () => {
    expect(lines.filter((line) => line.length > 100)).toEqual([]);
  });

  it('has a block for each hop, with time, side and decoded headers', () => {
    const heads = lines.flatMap((line) => /^ *(\d+)\. {2}(\S.*)$/.exec(line)?.slice(1) ?? []);
    expect(heads.filter((_, index) => index % 2 === 0).map(Number)).toEqual(
      Array.from({ length: 16 }, (_, index) => index + 1),
    );
    expect(text).toMatch(/5\. {2}host-1 flannel0 out +kernel +\+30\.0 us/);
    expect(text).toMatch(/6\. {2}host-1 daemon +user +\+30\.0 to \+40\.0 us/);
    expect(text).toMatch(/outer IPv4 +10\.168\.0\.2 > 10\.168\.0\.3 {2}TTL 64 {2}112 bytes/);
    expect(text).toMatch(/inner IPv4 +100\.96\.1\.2 > 100\.96\.2\.3 {2}TTL 63 -> 62 {2}84 bytes/);
    expect(text).toMatch(/lease +100\.96\.2\.3: 100\.96\.2\.0\/24 is held by 10\.168\.0\.3/);
    expect(text).toContain('crossing 2: kernel -> user, TUN read, copies 84 bytes');
  });

  it('shows the bytes on the wire with their names', () => {
    expect(text).toMatch(/outer IPv4 +000e {2}45 00 00 70 /);
    expect(text).toMatch(/inner IPv4 +002a {2}45 00 00 54 /);
    expect(text).toMatch(/payload +0046 {2}6f 6e 65 20 .* one packet one p/);
  });

  it('sums up', () => {
    expect(text).toMatch(/crossings +3 sending, 3 receiving/);
    expect(text).toMatch(/copies +448 bytes across the border/);
    expect(text).toMatch(/TTL +64 -> 63 -> 62 -> 61 -> 60/);
    expect(text).toMatch(/bytes +84 of the packet, 112 with outer IPv4 and UDP, 126 with Ethernet/);
    expect(text).toMatch(/time +110\.0 us/);
    expect(text).not.toContain('FAILED');
  });
});

it('is one JSON document with a line for each hop', () => {
  const json = JSON.parse(JSON.stringify(toJson(trace()))) as Record<string, unknown>;
  expect(json).toMatchObject({
    ok: true,
    from: ONE,
    to: TWO,
    proto: 'udp',
    size: 56,
    mode: 'auto',
    mtu: 1_472,
    summary: {
      crossings: { sending: 3, receiving: 3, copiedBytes: 448 },
      ttl: { first: 64, last: 60 },
      microseconds: 110,
    },
  });
  const hops = json['hops'] as readonly Record<string, unknown>[];
  expect(hops).toHaveLength(16);
  expect(hops[7]).toMatchObject({
    number: 8,
    where: 'switch',
    device: 'up1',
    direction: 'in',
    side: 'kernel',
    fromMicroseconds: 50,
    toMicroseconds: 50,
    crossing: null,
    packet: { ipv4: { source: ONE, ttl: 62 }, hex: innerPacket(62).toString('hex') },
    outer: { ipv4: { source: '10.168.0.2' }, transport: { destinationPort: 8285 } },
    frame: { time: String(START + 50_000n), bytes: 126 },
  });
  expect(hops[5]).toMatchObject({ device: 'daemon', packet: null, crossing: { number: 2 } });
});
