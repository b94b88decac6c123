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
import type { Carriage, Carriages } from '../../../../src/lab/trace/carriage/carriage.js';
import { DIRECT } from '../../../../src/lab/trace/carriage/direct.js';
import { KERNEL_PATH } from '../../../../src/lab/trace/carriage/kernel-path.js';
import { USER_SPACE } from '../../../../src/lab/trace/carriage/user-space.js';
import { VXLAN } from '../../../../src/lab/trace/carriage/vxlan.js';
import { isTap, type StepName } from '../../../../src/lab/trace/step.js';
import { openEnvelope } from '../../../../src/lab/trace/envelope.js';
import { chooseCarriages } from '../../../../src/lab/trace/carriage/choose.js';
import type { DaemonStatus } from '../../../../src/daemon/status.js';
import { decodePacket, withTransportChecksum } from '../../../../src/testbed/wire/packet.js';
import { wayOf } from '../../../../src/lab/trace/way.js';
import { labBackend } from '../../../../src/lab/backends/registry.js';
import { ethernetFrame, ipv4Packet, udpDatagram } from '../../../support/packets.js';

const DEFAULTS: TraceRequest = { from: undefined, to: undefined, proto: 'udp', size: 56 };
const UDP_OVERHEAD = labBackend('udp').overhead;
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
    const plan = planTrace({ ...DEFAULTS, ...request }, UDP_OVERHEAD);
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
    expect(() => planTrace({ ...DEFAULTS, ...request }, UDP_OVERHEAD)).toThrow(
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
      const plan = planTrace({ ...DEFAULTS, proto, size }, UDP_OVERHEAD);
      expect(plan).toMatchObject({ proto, size });
    }
  });

  it.each([
    ['vxlan', 1_422],
    ['host-gw', 1_472],
  ] as const)('takes with %s what its MTU takes, %i bytes', (type, most) => {
    const { overhead } = labBackend(type);
    expect(planTrace({ ...DEFAULTS, size: most }, overhead)).toMatchObject({ size: most });
    expect(() => planTrace({ ...DEFAULTS, size: most + 1 }, overhead)).toThrow(
      `--size: ${most + 1} is not valid: expected 0 to ${most} bytes for udp`,
    );
  });
});

const PLAN = planTrace(DEFAULTS, UDP_OVERHEAD);
const UDP: Carriages = { sending: USER_SPACE, receiving: USER_SPACE };
const TTLS: Readonly<Partial<Record<StepName, number>>> = {
  'tunnel out': 63,
  'eth0 out': 62,
  'switch in': 62,
  'switch out': 62,
  'eth0 in': 62,
  'tunnel in': 61,
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
  if (name.startsWith('tunnel')) return inner;
  if (!ON_THE_WIRE.test(name)) return ethernetFrame(inner);
  const addresses = { source: '10.168.0.2', destination: '10.168.0.3' };
  const payload = udpDatagram(8285, 8285, inner);
  return ethernetFrame(ipv4Packet({ ...addresses, protocol: 17, payload }));
}

/** What tcpdump would have on the way: 10 us from tap to tap, something else before and after. */
function captures(): TapCapture[] {
  return wayOf(PLAN, UDP)
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
  const hops = joinHops(plan, UDP, requireWhole(follow(from, plan)), DECISIONS);
  const backend = labBackend('udp');
  return { plan, backend, carriages: UDP, mtu: 1_472, mode: 'auto', kernel: '6.1.0', hops };
}

describe('follow', () => {
  it('finds the packet at every tap, inside and outside the tunnel', () => {
    const { sightings, missing } = follow(captures(), PLAN);
    expect(missing).toEqual([]);
    expect(sightings.map(({ tap }) => tap.name)).toEqual(captures().map(({ tap }) => tap.name));
    for (const { tap, packet, envelope } of sightings) {
      expect(packet.payload).toEqual(PAYLOAD);
      expect(envelope !== undefined).toBe(ON_THE_WIRE.test(tap.name));
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
    expect(follow(changed('tunnel out', { frame: other }), PLAN).missing).toHaveLength(1);
  });
});

describe('the hops', () => {
  const { hops } = trace();

  it('are numbered in the order of the way, with times and crossings', () => {
    expect(hops.map(({ number, step }) => `${number} ${step.name}`)).toEqual(
      wayOf(PLAN, UDP).map(({ name }, index) => `${index + 1} ${name}`),
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
    const way = wayOf({ ...PLAN, proto: 'icmp' }, UDP);
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
    checkHops(trace(from))
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

/** Each way with frames as they are there, and what is said of it. */
describe.each<[string, Carriages, number, number[], string[], string[]]>([
  [
    'vxlan',
    { sending: VXLAN, receiving: VXLAN },
    134,
    [64, 64, 64, 63, 63, 63, 63, 63, 63, 62, 62, 62],
    ['flannel.1 out', 'flannel.1 in'],
    ['Ethernet', 'outer IPv4', 'UDP', 'VXLAN', 'inner Ether', 'inner IPv4', 'UDP', 'payload'],
  ],
  [
    'host-gw',
    { sending: DIRECT, receiving: DIRECT },
    84,
    [64, 64, 64, 63, 63, 63, 63, 62, 62, 62],
    [],
    ['Ethernet', 'IPv4', 'UDP', 'payload'],
  ],
  [
    'kernel to user space',
    { sending: KERNEL_PATH, receiving: USER_SPACE },
    112,
    [64, 64, 64, 62, 62, 62, 62, 61, 60, 60, 60],
    ['eBPF', 'daemon', 'flannel0 in'],
    ['Ethernet', 'outer IPv4', 'UDP', 'inner IPv4', 'UDP', 'payload'],
  ],
  [
    'user space to kernel',
    { sending: USER_SPACE, receiving: KERNEL_PATH },
    112,
    [64, 64, 64, 63, 62, 62, 62, 62, 61, 61, 60, 60, 60],
    ['flannel0 out', 'daemon', 'eBPF', 'fx0aa80003205d in', 'flannel0 in'],
    ['Ethernet', 'outer IPv4', 'UDP', 'inner IPv4', 'UDP', 'payload'],
  ],
])('the way of %s', (_, carriages, outerBytes, ttls, between, regions) => {
  const way = wayOf(PLAN, carriages);
  const kind = carriages.sending.envelope;

  function frame(name: StepName, ttl: number, at: (frame: Buffer) => Buffer = (same) => same) {
    const inner = innerPacket(ttl);
    if (!ON_THE_WIRE.test(name) || kind === undefined) return at(ethernetFrame(inner));
    const addresses = { source: '10.168.0.2', destination: '10.168.0.3' };
    const payload =
      kind === 'vxlan'
        ? udpDatagram(50_000, 8472, Buffer.concat([VXLAN_HEADER, ethernetFrame(inner)]))
        : udpDatagram(8285, 8285, inner);
    return at(ethernetFrame(ipv4Packet({ ...addresses, protocol: 17, payload })));
  }

  function traced(change: { name: StepName; frame: Buffer } | undefined = undefined): Trace {
    const found = way.filter(isTap).map((tap, index) => {
      const timeNs = START + BigInt(index) * 10_000n;
      const own = change?.name === tap.name ? change.frame : frame(tap.name, ttls[index] ?? 0);
      return { tap, linkType: 1, records: [{ timeNs, frame: own }] };
    });
    const hops = joinHops(PLAN, carriages, requireWhole(follow(found, PLAN)), DECISIONS);
    const backend = labBackend(kind === 'vxlan' ? 'vxlan' : kind === undefined ? 'host-gw' : 'udp');
    return { plan: PLAN, backend, carriages, mtu: 1_450, mode: 'auto', kernel: '6.1.0', hops };
  }

  it('has its devices between docker0 and eth0', () => {
    const own = way.filter(({ name }) => /tunnel|capsul/.test(name));
    expect(
      own.map(({ device, direction }) =>
        [device, ...(direction === undefined ? [] : [direction])].join(' '),
      ),
    ).toEqual(between);
    const processes = way.filter(({ side }) => side === 'user');
    expect(way.flatMap(({ crossing }) => crossing?.number ?? [])).toEqual(
      Array.from({ length: 2 * processes.length - 2 }, (_, index) => index + 1),
    );
  });

  it('holds what must hold, and says how the packet grows', () => {
    const now = traced();
    expect(checkHops(now).filter(({ ok }) => !ok)).toEqual([]);
    const wire = sightingsOf(now.hops).find(({ tap }) => tap.name === 'switch in');
    expect(wire && regionsOf(wire).map(({ name }) => name)).toEqual(regions);
    const text = renderTrace(now);
    expect(text).toContain(`${outerBytes + 14} with Ethernet`);
    expect(text.split('\n').filter((line) => line.length > 100)).toEqual([]);
  });

  it('finds a packet that travels otherwise', () => {
    const bare = ethernetFrame(innerPacket(ttls[4] ?? 0));
    const strange = kind === undefined ? udpWrapped(ttls[4] ?? 0) : bare;
    const failed = checkHops(traced({ name: 'switch in', frame: strange })).filter(({ ok }) => !ok);
    expect(failed.map(({ name }) => name)).toEqual([carriages.sending.statement]);
  });
});

const VXLAN_HEADER = Buffer.from('0800000000000100', 'hex');

function udpWrapped(ttl: number): Buffer {
  const payload = udpDatagram(8285, 8285, innerPacket(ttl));
  const addresses = { source: '10.168.0.2', destination: '10.168.0.3' };
  return ethernetFrame(ipv4Packet({ ...addresses, protocol: 17, payload }));
}

describe('a VXLAN frame', () => {
  it('is shown with flags and VNI, and is not exact with another VNI', () => {
    const wrapped = (header: string) =>
      decodePacket(
        ipv4Packet({
          ...{ source: '10.168.0.2', destination: '10.168.0.3', protocol: 17 },
          payload: udpDatagram(
            50_000,
            8472,
            Buffer.concat([Buffer.from(header, 'hex'), ethernetFrame(innerPacket(63))]),
          ),
        }),
      );
    const open = (header: string) => {
      const packet = wrapped(header);
      return packet === undefined ? undefined : openEnvelope(packet);
    };
    expect(open('0800000000000100')).toMatchObject({
      kind: 'vxlan',
      exact: true,
      vxlan: { flags: 8, vni: 1 },
      packet: { ipv4: { ttl: 63 } },
    });
    expect(open('0800000000000200')).toMatchObject({ exact: false, vxlan: { vni: 2 } });
    expect(open('0000000000000100')).toMatchObject({ exact: false, vxlan: { flags: 0 } });
  });
});

describe('the checksum of a VXLAN datagram', () => {
  // As Linux 6.18 sends it from a veth: the packet's is left to the device, the datagram's is for the
  // packet that the device completes.
  const addresses = { source: '10.168.0.2', destination: '10.168.0.3', protocol: 17 };
  const decoded = (bytes: Buffer) => {
    const packet = decodePacket(bytes);
    if (packet === undefined) throw new Error('no packet');
    return packet;
  };
  const outerOf = (payload: Buffer) => decoded(ipv4Packet({ ...addresses, payload }));
  const inner = withTransportChecksum(decoded(innerPacket(63)));
  const complete = inner.readUInt16BE(26);
  const datagram = udpDatagram(50_000, 8472, Buffer.concat([VXLAN_HEADER, ethernetFrame(inner)]));
  /** Sum of the pseudo-header alone, in place of the checksum. */
  function unfinished(): Buffer {
    const copy = Buffer.from(withTransportChecksum(outerOf(datagram)).subarray(20));
    const at = 8 + 8 + 14 + 26;
    expect(copy.readUInt16BE(at)).toBe(complete);
    const words = [0x6460, 0x0102, 0x6460, 0x0203, 17, inner.length - 20];
    const sum = words.reduce((a, b) => a + b, 0);
    copy.writeUInt16BE((sum & 0xffff) + (sum >>> 16), at);
    return copy;
  }

  it('is right once the inner is', () => {
    const opened = openEnvelope(outerOf(unfinished()));
    expect(opened?.packet.transport.checksumState).toBe('left to the device');
    expect(opened?.outer.transport.checksumState).toBe('right once the inner is');
  });

  it('is wrong all the same when it is', () => {
    const bad = unfinished();
    bad.writeUInt16BE(bad.readUInt16BE(6) ^ 1, 6);
    expect(openEnvelope(outerOf(bad))?.outer.transport.checksumState).toBe('wrong');
  });
});

describe('the choice of a carriage', () => {
  const subnet = PLAN.to.subnet;
  const status = (more: object): DaemonStatus =>
    ({
      routes: [{ subnet, nextHop: PLAN.to.address, way: 'tunnel' }],
      ...more,
    }) as unknown as DaemonStatus;
  const kernelPath = (state: string) => ({ features: [{ name: 'kernel-path', state }] });
  const direct = { routes: [{ subnet, nextHop: PLAN.to.address, way: 'direct' }] };

  it.each<[string, object, Carriage]>([
    ['the daemon of udp', { backend: 'udp', dataPlane: kernelPath('unused') }, USER_SPACE],
    [
      'a daemon whom the kernel refused',
      { backend: 'udp', dataPlane: kernelPath('refused') },
      USER_SPACE,
    ],
    ['programs', { backend: 'udp', dataPlane: kernelPath('active') }, KERNEL_PATH],
    ['VXLAN', { backend: 'vxlan', dataPlane: null }, VXLAN],
    ['a route of host-gw', { backend: 'host-gw', dataPlane: null, ...direct }, DIRECT],
    [
      'a route of DirectRouting',
      { backend: 'udp', dataPlane: kernelPath('active'), ...direct },
      DIRECT,
    ],
  ])('finds %s', (_, more, carriage) => {
    expect(chooseCarriages(PLAN, status(more), status(more)).sending).toBe(carriage);
  });

  it('may differ between the hosts', () => {
    const near = status({ backend: 'udp', dataPlane: kernelPath('active') });
    const far = status({ backend: 'udp', dataPlane: kernelPath('unused') });
    const found = chooseCarriages(PLAN, near, far);
    expect(found).toEqual({ sending: KERNEL_PATH, receiving: USER_SPACE });
  });
});
