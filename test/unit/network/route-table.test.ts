import { compileChanges, compileRoutes } from '../../../src/forward/udp/compile.js';
import { describe, expect, it } from 'vitest';
import {
  cidrOf,
  contains,
  formatCidr,
  formatIpv4,
  parseCidr,
  parseIpv4,
  type Cidr,
} from '../../../src/config/ipv4.js';
import type { Lease } from '../../../src/lease/store.js';
import { PrefixMap } from '../../../src/network/prefix-map.js';
import { RouteTable } from '../../../src/network/route-table.js';

const cidr = (text: string): Cidr => parseCidr('test', text);
const ip = (text: string): number => parseIpv4('test', text);
const lease = (subnet: string, publicIp: string): Lease => ({
  subnet: cidr(subnet),
  attributes: { publicIp: ip(publicIp) },
  expiresAt: undefined,
});

const OWN = lease('100.96.1.0/24', '10.168.0.2');
const PEER = lease('100.96.2.0/24', '10.168.0.3');

function makeTable(): RouteTable {
  return new RouteTable({
    network: cidr('100.96.0.0/16'),
    own: OWN.subnet,
    ownPublicIp: OWN.attributes.publicIp,
  });
}

const show = (table: RouteTable): string[] =>
  table.routes().map((route) => `${formatCidr(route.subnet)} via ${formatIpv4(route.nextHop)}`);

/** Deterministic, so that a failure can be repeated. */
function randomSource(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}

describe('lookup', () => {
  it("finds the documents' peer, not our own subnet, not a stranger", () => {
    const table = makeTable();
    table.replaceAll([OWN, PEER]);
    expect(table.lookup(ip('100.96.2.3'))).toEqual({
      subnet: PEER.subnet,
      nextHop: ip('10.168.0.3'),
    });
    expect(table.lookup(ip('100.96.1.2'))).toBeUndefined();
    expect(table.lookup(ip('100.96.3.1'))).toBeUndefined();
    expect(table.lookup(ip('8.8.8.8'))).toBeUndefined();
  });

  it('of mixed lengths equals a naive scan, through insertions and deletions', () => {
    const random = randomSource(7);
    const map = new PrefixMap<number>();
    const naive: { cidr: Cidr; value: number }[] = [];
    const scan = (address: number): number | undefined =>
      naive
        .filter((entry) => contains(entry.cidr, address))
        .sort((a, b) => b.cidr.prefix - a.cidr.prefix)[0]?.value;
    for (let round = 0; round < 1500; round++) {
      // Few distinct high bits, so that subnets nest and collide.
      const address = ((random() & 0x0300ffff) | 0xc8000000) >>> 0;
      const subnet = cidrOf(address, random() % 33);
      const at = naive.findIndex(
        (entry) => entry.cidr.network === subnet.network && entry.cidr.prefix === subnet.prefix,
      );
      if (random() % 3 === 0 && naive.length > 0) {
        const [gone] = naive.splice(random() % naive.length, 1);
        expect(gone !== undefined && map.delete(gone.cidr)).toBe(true);
      } else {
        if (at >= 0) naive.splice(at, 1);
        naive.push({ cidr: subnet, value: round });
        map.set(subnet, round);
      }
      expect(map.size).toBe(naive.length);
      for (let probe = 0; probe < 5; probe++) {
        const target = ((random() & 0x0300ffff) | 0xc8000000) >>> 0;
        expect(map.lookup(target), formatIpv4(target)).toBe(scan(target));
      }
    }
  });

  it('of the whole table equals a naive scan of its leases', () => {
    const random = randomSource(3);
    const table = makeTable();
    const leases = Array.from({ length: 120 }, () =>
      lease(`100.96.${random() % 256}.0/24`, `10.168.0.${3 + (random() % 200)}`),
    );
    const unique = [
      ...new Map(leases.map((entry) => [entry.subnet.network, entry])).values(),
    ].filter((entry) => entry.subnet.network !== OWN.subnet.network);
    table.replaceAll(unique);
    for (let probe = 0; probe < 2000; probe++) {
      const target = (ip('100.96.0.0') + (random() % 65536)) >>> 0;
      const expected = unique.find((entry) => contains(entry.subnet, target))?.attributes.publicIp;
      expect(table.lookup(target)?.nextHop).toBe(expected);
    }
  });
});

describe('changes', () => {
  it('are told once each', () => {
    const table = makeTable();
    expect(table.replaceAll([OWN, PEER])).toMatchObject([
      { type: 'add', route: { subnet: PEER.subnet } },
    ]);
    expect(table.replaceAll([OWN, PEER])).toEqual([]);
    expect(table.put(PEER)).toBeUndefined();
    expect(table.put(OWN)).toBeUndefined();
    expect(table.put(lease('100.96.2.0/24', '10.168.0.9'))).toMatchObject({
      type: 'update',
      route: { nextHop: ip('10.168.0.9') },
      previous: { nextHop: ip('10.168.0.3') },
    });
    expect(table.put(lease('100.96.3.0/24', '10.168.0.4'))).toMatchObject({ type: 'add' });
    expect(show(table)).toEqual(['100.96.2.0/24 via 10.168.0.9', '100.96.3.0/24 via 10.168.0.4']);
    expect(table.delete(PEER.subnet)).toMatchObject({
      type: 'remove',
      route: { nextHop: ip('10.168.0.9') },
    });
    expect(table.delete(PEER.subnet)).toBeUndefined();
    expect(table.replaceAll([])).toMatchObject([{ type: 'remove' }]);
    expect(table.size).toBe(0);
  });

  it('of a PublicIP are noticed by a resynchronisation', () => {
    const table = makeTable();
    table.replaceAll([PEER]);
    expect(table.replaceAll([lease('100.96.2.0/24', '10.168.0.9')])).toMatchObject([
      { type: 'update' },
    ]);
  });
});

describe('rejected leases', () => {
  it.each([
    ['100.97.1.0/24', '10.168.0.3', /100\.97\.1\.0\/24 is outside Network 100\.96\.0\.0\/16/],
    ['100.0.0.0/8', '10.168.0.3', /outside Network/],
    ['100.96.0.0/16', '10.168.0.3', /wrong length: expected at least \/18 in Network/],
    ['100.96.128.0/17', '10.168.0.3', /wrong length/],
    ['0.0.0.0/0', '10.168.0.3', /outside Network/],
    ['100.96.1.0/25', '10.168.0.3', /overlaps this host's own subnet 100\.96\.1\.0\/24/],
    ['100.96.0.0/20', '10.168.0.3', /overlaps this host's own subnet/],
    ['100.96.1.0/24', '10.168.0.3', /own subnet is claimed by 10\.168\.0\.3/],
    ['100.96.4.0/24', '10.168.0.2', /10\.168\.0\.2 is this host's own/],
    ['100.96.4.0/24', '127.0.0.1', /loopback/],
    ['100.96.4.0/24', '224.0.0.5', /multicast/],
    ['100.96.4.0/24', '0.0.0.0', /0\.0\.0\.0\/8/],
    ['100.96.4.0/24', '255.255.255.255', /broadcast/],
    ['100.96.4.0/24', '100.96.9.9', /routing loop/],
  ])('%s of %s', (subnet, publicIp, reason) => {
    const table = makeTable();
    expect(table.put(lease(subnet, publicIp))).toBeUndefined();
    expect(table.size).toBe(0);
    expect(table.rejected).toHaveLength(1);
    expect(table.rejected[0]?.reason).toMatch(reason);
    expect(table.replaceAll([lease(subnet, publicIp)])).toEqual([]);
    expect(table.rejected).toHaveLength(1);
    table.delete(cidr(subnet));
    expect(table.rejected).toEqual([]);
  });

  it('end the route of an earlier good lease, and a good one heals it', () => {
    const table = makeTable();
    table.replaceAll([PEER]);
    expect(table.put(lease('100.96.2.0/24', '127.0.0.1'))).toMatchObject({ type: 'remove' });
    expect([table.size, table.rejected.length]).toEqual([0, 1]);
    expect(table.put(PEER)).toMatchObject({ type: 'add' });
    expect([table.size, table.rejected.length]).toEqual([1, 0]);
  });
});

it('compiles ascending triples, and holds 65,536 subnets', () => {
  const table = new RouteTable({
    network: cidr('10.0.0.0/8'),
    own: cidr('10.0.1.0/24'),
    ownPublicIp: 1,
  });
  const leases: Lease[] = [];
  for (let n = 65535; n >= 0; n--) {
    leases.push({
      subnet: cidrOf(0x0a000000 + n * 256, 24),
      attributes: { publicIp: 0xac100000 + n },
      expiresAt: undefined,
    });
  }
  expect(table.replaceAll(leases)).toHaveLength(65535);
  expect(table.rejected).toHaveLength(1);
  const compiled = compileRoutes(table.routes());
  expect(compiled).toHaveLength(65535 * 3);
  const seen = triples(compiled);
  expect(seen.size).toBe(65535);
  for (let n = 0; n < 65536; n++) {
    const wanted = n === 1 ? undefined : 0xac100000 + n;
    if (seen.get(`${0x0a000000 + n * 256}/24`) !== wanted) throw new Error(`subnet ${n} is wrong`);
  }
  expect(table.lookup(ip('10.255.255.9'))?.nextHop).toBe(0xac100000 + 65535);
});

/** A compiled table as a map from NETWORK/PREFIX to next hop. */
function triples(compiled: Uint32Array): Map<string, number> {
  const out = new Map<string, number>();
  for (let at = 0; at < compiled.length; at += 3) {
    out.set(`${compiled[at]}/${compiled[at + 1]}`, compiled[at + 2] ?? 0);
  }
  return out;
}

it('compiles, and tells changes of, what a map would hold after any sequence of changes', () => {
  let state = 12345;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  const table = new RouteTable({
    network: cidr('10.0.0.0/8'),
    own: cidr('10.255.0.0/24'),
    ownPublicIp: 1,
  });
  const model = new Map<string, number>();
  const followed = new Map<string, number>();
  for (let step = 0; step < 5_000; step++) {
    const subnet = cidrOf(0x0a000000 + random(200) * 256, 24);
    const key = `${subnet.network}/24`;
    if (random(3) === 0) {
      table.delete(subnet);
      model.delete(key);
    } else {
      const publicIp = 0xac100000 + random(1_000);
      table.put({ subnet, attributes: { publicIp }, expiresAt: undefined });
      model.set(key, publicIp);
    }
    if (step % 97 !== 0) continue;
    expect(triples(compileRoutes(table.routes()))).toEqual(model);
    for (const [key, nextHop] of triples(compileChanges(table.takeChanges()))) {
      if (nextHop === 0) followed.delete(key);
      else followed.set(key, nextHop);
    }
    expect(followed).toEqual(model);
    expect(table.takeChanges()).toHaveLength(0);
  }
  expect(table.size).toBe(model.size);
  expect(table.routes().map(({ subnet }) => subnet.network)).toEqual(
    [...model.keys()].map((key) => Number(key.split('/')[0])).sort((a, b) => a - b),
  );
});

it('of two leases of one subnet in a listing the later wins, also against what was before', () => {
  const table = new RouteTable({
    network: cidr('10.0.0.0/8'),
    own: cidr('10.255.0.0/24'),
    ownPublicIp: 1,
  });
  const subnet = cidr('10.1.1.0/24');
  const held = (host: number): Lease => ({
    subnet,
    attributes: { publicIp: 0xac100000 + host },
    expiresAt: undefined,
  });
  table.replaceAll([held(7)]);
  expect([...compileChanges(table.takeChanges())]).toEqual([subnet.network, 24, 0xac100007]);
  expect(table.replaceAll([held(8), held(7)])).toEqual([]);
  expect([...compileChanges(table.takeChanges())]).toEqual([]);
  table.replaceAll([held(8), held(9)]);
  expect([...compileChanges(table.takeChanges())]).toEqual([subnet.network, 24, 0xac100009]);
});

describe('what a lease says for the backend', () => {
  const vtep = (mac: string): Lease => ({
    ...PEER,
    attributes: {
      ...PEER.attributes,
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: mac },
    },
  });
  const dataOf = (table: RouteTable): unknown[] =>
    table.takeChanges().map(({ type, route }) => [type, route.backendType, route.backendData]);

  it('arrives with the change, also when nothing else of the lease has changed', () => {
    const table = makeTable();
    table.replaceAll([OWN, vtep('aa:00:00:00:00:01')]);
    expect(dataOf(table)).toEqual([['add', 'vxlan', { VNI: 1, VtepMAC: 'aa:00:00:00:00:01' }]]);
    table.put(vtep('aa:00:00:00:00:01'));
    expect(table.changed).toBe(false);
    table.put(vtep('aa:00:00:00:00:02'));
    expect(dataOf(table)).toEqual([['update', 'vxlan', { VNI: 1, VtepMAC: 'aa:00:00:00:00:02' }]]);
    table.replaceAll([OWN, vtep('aa:00:00:00:00:03')]);
    expect(dataOf(table)).toEqual([['update', 'vxlan', { VNI: 1, VtepMAC: 'aa:00:00:00:00:03' }]]);
    table.delete(PEER.subnet);
    expect(dataOf(table)).toEqual([['remove', 'vxlan', { VNI: 1, VtepMAC: 'aa:00:00:00:00:03' }]]);
  });

  it('survives that its route gave way to a host for a while', () => {
    const table = new RouteTable({
      network: cidr('10.0.0.0/8'),
      own: cidr('10.1.1.0/24'),
      ownPublicIp: ip('10.168.0.2'),
      leadsIntoOverlay: (addresses) => addresses.map(() => false),
    });
    const wide = lease('10.168.1.0/24', '192.0.2.9');
    const attributes = { ...wide.attributes, backendType: 'vxlan', backendData: { VNI: 1 } };
    table.put({ ...wide, attributes });
    table.put(lease('10.1.2.0/24', '10.168.1.3'));
    expect(table.get(wide.subnet)).toBeUndefined();
    table.takeChanges();
    table.delete(cidr('10.1.2.0/24'));
    table.reconsider();
    expect(dataOf(table)).toEqual([
      ['remove', undefined, undefined],
      ['add', 'vxlan', { VNI: 1 }],
    ]);
  });
});

describe('a lease of the same host that the backend can make no route of', () => {
  const of = (backendType: string, publicIp = '10.168.0.3'): Lease => ({
    ...PEER,
    attributes: { publicIp: ip(publicIp), backendType },
  });
  const tableOf = (...types: readonly string[]): RouteTable =>
    new RouteTable({
      network: cidr('100.96.0.0/16'),
      own: OWN.subnet,
      ownPublicIp: OWN.attributes.publicIp,
      leaseFault: ({ backendType = '' }) =>
        types.includes(backendType) ? undefined : `its backend is ${backendType}`,
    });
  const changesOf = (table: RouteTable): unknown[] =>
    table.takeChanges().map(({ type, route }) => [type, route.backendType]);
  const REASON = 'its backend is host-gw; the way before stays in force';

  it.each([
    ['event', (table: RouteTable) => void table.put(of('host-gw'))],
    ['listing', (table: RouteTable) => void table.replaceAll([OWN, of('host-gw')])],
  ])('leaves the way before in force, and is told: by an %s', (_, change) => {
    const table = tableOf('vxlan');
    table.replaceAll([OWN, of('vxlan')]);
    table.takeChanges();
    change(table);
    change(table);
    expect(changesOf(table)).toEqual([]);
    expect(show(table)).toEqual(['100.96.2.0/24 via 10.168.0.3']);
    expect(table.rejected).toEqual([{ key: '100.96.2.0-24', reason: REASON }]);
    table.put(of('vxlan'));
    expect([changesOf(table), table.rejected]).toEqual([[], []]);
    change(table);
    table.delete(PEER.subnet);
    expect(changesOf(table)).toEqual([['remove', 'vxlan']]);
  });

  it('makes none where there was none, and ends that of another host', () => {
    const table = tableOf('vxlan');
    table.put(of('host-gw'));
    expect([show(table), table.rejected[0]?.reason]).toEqual([[], 'its backend is host-gw']);
    table.put(of('vxlan'));
    table.put(of('host-gw', '10.168.0.4'));
    expect([show(table), table.rejected[0]?.reason]).toEqual([[], 'its backend is host-gw']);
  });

  it("gives its route up for the next backend's, and only for one that is new", () => {
    const [before, next] = [tableOf('vxlan'), tableOf('vxlan', 'host-gw')];
    before.replaceAll([of('vxlan')]);
    next.replaceAll([of('vxlan')]);
    expect(before.cedeTo(next)).toEqual([]);
    next.put(of('host-gw'));
    before.takeChanges();
    expect(before.cedeTo(next)).toEqual(next.routes());
    expect(changesOf(before)).toEqual([['remove', 'vxlan']]);
    // Heard of a little later: nothing to keep.
    before.put(of('host-gw'));
    expect([show(before), changesOf(before)]).toEqual([[], []]);
  });
});
