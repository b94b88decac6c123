import { describe, expect, it } from 'vitest';
import { checkCapture, type CaptureSides } from '../../../src/testbed/capture.js';
import { headerChecksum } from '../../../src/testbed/wire/packet.js';

const HOSTS = ['10.168.0.2', '10.168.0.3'] as const;
const CONTAINERS = ['100.96.1.2', '100.96.2.3'] as const;

function ipv4(
  source: string,
  destination: string,
  protocol: number,
  payload: Buffer,
  { ttl = 64, id = 0, fragment = 0x4000 } = {},
): Buffer {
  const packet = Buffer.concat([Buffer.alloc(20), payload]);
  packet.writeUInt8(0x45, 0);
  packet.writeUInt16BE(packet.length, 2);
  packet.writeUInt16BE(id, 4);
  packet.writeUInt16BE(fragment, 6);
  packet.writeUInt8(ttl, 8);
  packet.writeUInt8(protocol, 9);
  Buffer.from(source.split('.').map(Number)).copy(packet, 12);
  Buffer.from(destination.split('.').map(Number)).copy(packet, 16);
  packet.writeUInt16BE(headerChecksum(packet), 10);
  return packet;
}

function echo(type: 0 | 8, sequence: number, bytes = 56): Buffer {
  const message = Buffer.alloc(8 + bytes, 0xa5);
  message.writeUInt8(type, 0);
  message.writeUInt16BE(77, 4);
  message.writeUInt16BE(sequence, 6);
  return message;
}

function udp(payload: Buffer, source = 8285, destination = 8285): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(source, 0);
  header.writeUInt16BE(destination, 2);
  header.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([header, payload]);
}

function ethernet(packet: Buffer): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(0x0800, 12);
  return Buffer.concat([header, packet]);
}

/** The packet as it must be in the tunnel: two hops older, the checksum computed afresh. */
function carried(packet: Buffer): Buffer {
  const copy = Buffer.from(packet);
  copy.writeUInt8(copy.readUInt8(8) - 2, 8);
  copy.writeUInt16BE(0, 10);
  copy.writeUInt16BE(headerChecksum(copy), 10);
  return copy;
}

function datagram(inner: Buffer, from = 0, outer: Partial<{ udp: Buffer; to: string }> = {}) {
  const to = outer.to ?? HOSTS[1 - from] ?? '';
  return ethernet(ipv4(HOSTS[from] ?? '', to, 17, outer.udp ?? udp(inner)));
}

const REQUEST = ipv4(CONTAINERS[0], CONTAINERS[1], 1, echo(8, 1), { id: 9 });
const REPLY = ipv4(CONTAINERS[1], CONTAINERS[0], 1, echo(0, 1), { id: 4 });

/** One ping as the three captures see it, with what is on the wire replaced. */
function capture(
  wire: readonly Buffer[] = [datagram(carried(REQUEST), 0), datagram(carried(REPLY), 1)],
  sent: readonly [Buffer[], Buffer[]] = [[REQUEST], [REPLY]],
): CaptureSides {
  const [near, far] = sent;
  // Each container also sees what the other sent, four hops older.
  const arrived = (packets: readonly Buffer[]): Buffer[] =>
    packets.map((packet) => ethernet(carried(carried(packet))));
  return {
    wire,
    sides: [
      {
        hostAddress: HOSTS[0],
        containerAddress: CONTAINERS[0],
        ttlTaken: 2,
        frames: [...near.map(ethernet), ...arrived(far)],
      },
      {
        hostAddress: HOSTS[1],
        containerAddress: CONTAINERS[1],
        ttlTaken: 2,
        frames: [...far.map(ethernet), ...arrived(near)],
      },
    ],
  };
}

/** The problems found when the first datagram is `frame`. */
function problemsWith(frame: Buffer): readonly string[] {
  const check = checkCapture(capture([frame, datagram(carried(REPLY), 1)]));
  expect(check.ok).toBe(false);
  expect(check.matched).toBe(1);
  return check.problems;
}

function changed(packet: Buffer, at: number, to: number): Buffer {
  const copy = Buffer.from(packet);
  copy.writeUInt8(to, at);
  return copy;
}

describe('checkCapture', () => {
  it('accepts exactly the inner packets', () => {
    expect(checkCapture({ ...capture(), expected: 2 })).toEqual({
      ok: true,
      datagrams: 2,
      matched: 2,
      problems: [],
    });
  });

  it('names the first byte that differs, with both values', () => {
    const inner = carried(REQUEST);
    expect(problemsWith(datagram(changed(inner, 60, 0xff)))[0]).toBe(
      'datagram 1: inner byte 60 is 255, the container sent 165',
    );
  });

  it('notices a difference in every byte of the packet', () => {
    const inner = carried(REQUEST);
    for (let at = 0; at < inner.length; at += 1) {
      const other = changed(inner, at, inner.readUInt8(at) ^ 1);
      const check = checkCapture(capture([datagram(other), datagram(carried(REPLY), 1)]));
      expect(check.ok, `byte ${at}`).toBe(false);
    }
  });

  it('wants the TTL two lower, no more and no less', () => {
    expect(problemsWith(datagram(REQUEST))[0]).toMatch(/inner byte 8 is 64, .* sent 62/);
    expect(problemsWith(datagram(carried(carried(REQUEST))))[0]).toMatch(/inner byte 8 is 60/);
  });

  it('wants the right header checksum', () => {
    const inner = carried(REQUEST);
    const wrong = inner.readUInt8(11) ^ 0x01;
    expect(problemsWith(datagram(changed(inner, 11, wrong)))[0]).toMatch(/inner byte 11 is/);
  });

  it('wants one whole packet as payload and nothing else', () => {
    const inner = carried(REQUEST);
    const padded = Buffer.concat([inner, Buffer.from([0])]);
    const total = inner.length;
    expect(problemsWith(datagram(padded))[0]).toMatch(`length ${total}, payload ${total + 1}`);
    const cut = inner.subarray(0, total - 1);
    expect(problemsWith(datagram(cut))[0]).toMatch(`length ${total}, payload ${total - 1}`);
    expect(problemsWith(datagram(Buffer.alloc(0)))[0]).toMatch('0 bytes is no IPv4 packet');
    expect(problemsWith(datagram(changed(inner, 0, 0x65)))[0]).toMatch('IP version 6');
  });

  it('wants port 8285 at both ends', () => {
    const inner = carried(REQUEST);
    for (const ports of [
      [40_000, 8285],
      [8285, 8472],
    ] as const) {
      const frame = datagram(inner, 0, { udp: udp(inner, ...ports) });
      expect(problemsWith(frame)[0]).toMatch(`UDP ports ${ports.join(' to ')}`);
    }
  });

  it('wants the UDP length to be that of the datagram', () => {
    const inner = carried(REQUEST);
    const wrong = udp(inner);
    wrong.writeUInt16BE(wrong.length - 1, 4);
    expect(problemsWith(datagram(inner, 0, { udp: wrong }))[0]).toMatch(
      /UDP length 91, captured 92/,
    );
  });

  it('wants the hosts as outer addresses, and the host of the sender as source', () => {
    const inner = carried(REQUEST);
    expect(problemsWith(datagram(inner, 0, { to: '10.168.0.9' }))[0]).toMatch(/to 10\.168\.0\.9/);
    expect(problemsWith(datagram(inner, 0, { to: HOSTS[0] }))[0]).toMatch(/one host to the other/);
    expect(problemsWith(datagram(inner, 1))[0]).toMatch(/came from 10\.168\.0\.3/);
  });

  it('refuses outer fragments and what is not UDP over IPv4', () => {
    const inner = carried(REQUEST);
    const fragment = ipv4(HOSTS[0], HOSTS[1], 17, udp(inner), { fragment: 0x2000 });
    expect(problemsWith(ethernet(fragment))[0]).toMatch(/fragment/);
    expect(problemsWith(ethernet(ipv4(HOSTS[0], HOSTS[1], 4, inner)))[0]).toMatch(/protocol 4/);
    expect(problemsWith(Buffer.alloc(60))[0]).toMatch(/not an IPv4 frame/);
  });

  it('refuses a packet that no container sent', () => {
    const stranger = ipv4(CONTAINERS[0], CONTAINERS[1], 1, echo(8, 2), { id: 10 });
    expect(problemsWith(datagram(carried(stranger)))[0]).toMatch(
      'no container sent 100.96.1.2 to 100.96.2.3 id 10 (84 bytes)',
    );
  });

  it('misses a packet that was sent and is not on the wire', () => {
    const check = checkCapture(capture([datagram(carried(REQUEST))]));
    expect(check).toMatchObject({ ok: false, datagrams: 1, matched: 1 });
    expect(check.problems).toEqual([
      'packet 100.96.2.3 to 100.96.1.2 id 4 (84 bytes) was sent but is not on the wire',
    ]);
  });

  it('refuses a packet that is on the wire twice', () => {
    const twice = datagram(carried(REQUEST));
    const check = checkCapture(capture([twice, twice, datagram(carried(REPLY), 1)]));
    expect(check).toMatchObject({ ok: false, datagrams: 3, matched: 2 });
    expect(check.problems[0]).toMatch(/datagram 2: .* is on the wire twice/);
  });

  it('never passes on nothing, nor on less than expected', () => {
    expect(checkCapture(capture([], [[], []])).problems).toEqual(['no datagram was captured']);
    expect(checkCapture({ ...capture(), expected: 4 }).problems).toEqual([
      'the containers sent 2 packets, expected at least 4',
    ]);
  });

  it('keeps to twenty problems', () => {
    const check = checkCapture(capture(Array.from({ length: 50 }, () => Buffer.alloc(60))));
    expect(check.datagrams).toBe(50);
    expect(check.problems).toHaveLength(20);
  });
});
