/** Leases judged by whether there is a loop or an overlap, with the kernel's routes played by a set. */
import { compileChanges } from '../../../src/forward/udp/compile.js';
import { describe, expect, it } from 'vitest';
import {
  contains,
  formatCidr,
  formatIpv4,
  parseCidr,
  parseIpv4,
} from '../../../src/config/ipv4.js';
import type { Lease } from '../../../src/lease/store.js';
import { RouteTable } from '../../../src/network/route-table.js';

const cidr = (text: string) => parseCidr('test', text);
const ip = (text: string): number => parseIpv4('test', text);
const lease = (subnet: string, publicIp: string, key?: string): Lease => ({
  subnet: cidr(subnet),
  attributes: { publicIp: ip(publicIp) },
  expiresAt: undefined,
  ...(key === undefined ? {} : { key }),
});

/** flannel's README network: the hosts' own addresses lie inside Network. */
function readme(links: string[] = ['10.168.0.0/24']) {
  const asked: number[][] = [];
  const table = new RouteTable({
    network: cidr('10.0.0.0/8'),
    own: cidr('10.10.16.0/20'),
    ownPublicIp: ip('10.168.0.2'),
    ownLinks: [cidr('10.168.0.0/24')],
    leadsIntoOverlay: (addresses) => {
      asked.push([...addresses]);
      return addresses.map((address) => !links.some((link) => contains(cidr(link), address)));
    },
  });
  return { table, links, asked };
}

const show = (table: RouteTable): string[] =>
  table.routes().map((route) => `${formatCidr(route.subnet)} via ${formatIpv4(route.nextHop)}`);
const reasons = (table: RouteTable): string[] =>
  table.rejected.map(({ key, reason }) => `${key}: ${reason}`);

describe('a PublicIP inside Network', () => {
  it("is fine where the host's routes lead to it and no lease covers it", () => {
    const { table } = readme();
    table.replaceAll([lease('10.10.16.0/20', '10.168.0.2'), lease('10.10.32.0/20', '10.168.0.3')]);
    table.put(lease('10.10.48.0/20', '10.168.0.4'));
    expect(show(table)).toEqual(['10.10.32.0/20 via 10.168.0.3', '10.10.48.0/20 via 10.168.0.4']);
    expect(table.rejected).toEqual([]);
  });

  it('is a loop where the route to it leads into the overlay, until it does not', () => {
    const { table, links } = readme();
    table.put(lease('10.10.32.0/20', '10.168.7.3'));
    expect(reasons(table)).toEqual([
      '10.10.32.0-20: PublicIP 10.168.7.3 lies inside Network 10.0.0.0/8: a routing loop, as the route to it leads into the overlay',
    ]);
    expect(table.reconsider(true)).toEqual([]);
    links.push('10.168.7.0/24');
    expect(table.reconsider()).toEqual([]);
    expect(table.reconsider(true)).toMatchObject([{ type: 'add' }]);
    expect([show(table), reasons(table), table.contested]).toEqual([
      ['10.10.32.0/20 via 10.168.7.3'],
      [],
      0,
    ]);
  });

  it('is a loop when nobody can say where the routes lead', () => {
    const options = { network: cidr('10.0.0.0/8'), own: cidr('10.10.16.0/20'), ownPublicIp: 1 };
    const table = new RouteTable(options);
    table.put(lease('10.10.32.0/20', '10.168.0.3'));
    expect(table.size).toBe(0);
    expect(table.put(lease('10.10.32.0/20', '172.16.0.3'))).toMatchObject({ type: 'add' });
  });

  it('stays one while its link is down, through a resynchronisation', () => {
    const { table, links } = readme();
    const leases = [lease('10.10.32.0/20', '10.168.0.3')];
    table.replaceAll(leases);
    links.length = 0;
    expect(table.replaceAll(leases)).toEqual([]);
    expect(table.put(lease('10.10.48.0/20', '10.168.0.3'))).toMatchObject({ type: 'add' });
    expect(table.put(lease('10.10.64.0/20', '10.168.0.5'))).toBeUndefined();
    expect([table.size, table.rejected.length]).toEqual([2, 1]);
  });

  it('of a listing is asked about in one question, outside Network in none', () => {
    const { table, asked } = readme();
    table.replaceAll([lease('10.10.32.0/20', '10.168.0.3'), lease('10.10.48.0/20', '10.168.0.4')]);
    table.put(lease('10.10.64.0/20', '172.16.0.5'));
    expect(asked).toEqual([[ip('10.168.0.3'), ip('10.168.0.4')]]);
  });
});

describe('a lease that covers the address of a host', () => {
  const intruder = lease('10.168.0.0/24', '10.168.0.9');
  const other = lease('10.168.1.0/24', '172.16.0.9');
  const host = lease('10.10.32.0/20', '10.168.1.3');
  const both = ['10.168.0.0/24', '10.168.1.0/24'];

  it("is no route when it covers this host's own, and takes nothing from its peers", () => {
    const { table } = readme();
    for (const leases of [
      [intruder, lease('10.10.32.0/20', '10.168.0.3')],
      [lease('10.10.32.0/20', '10.168.0.3'), intruder],
    ]) {
      table.replaceAll(leases);
      expect(show(table)).toEqual(['10.10.32.0/20 via 10.168.0.3']);
      expect(reasons(table)).toEqual([
        "10.168.0.0-24: 10.168.0.0/24 covers this host's own address",
      ]);
    }
  });

  it('gives way to the host, whichever came first, and comes back when that is gone', () => {
    for (const leases of [
      [other, host],
      [host, other],
    ]) {
      const { table } = readme(both);
      for (const each of leases) table.put(each);
      expect(show(table)).toEqual(['10.10.32.0/20 via 10.168.1.3']);
      expect(reasons(table)).toEqual([
        '10.168.1.0-24: 10.168.1.0/24 covers 10.168.1.3, the address of a host',
      ]);
      table.replaceAll(leases);
      expect(show(table)).toEqual(['10.10.32.0/20 via 10.168.1.3']);
      table.delete(host.subnet);
      expect(table.reconsider()).toMatchObject([{ type: 'add', route: { subnet: other.subnet } }]);
      expect([table.rejected, table.contested]).toEqual([[], 0]);
    }
  });

  it('is right when the address is no host: the route to it leads into the overlay', () => {
    const { table } = readme();
    table.replaceAll([lease('10.10.64.0/20', '10.168.0.3'), lease('10.10.32.0/20', '10.10.64.7')]);
    expect(show(table)).toEqual(['10.10.64.0/20 via 10.168.0.3']);
    expect(reasons(table)[0]).toMatch(/^10\.10\.32\.0-20: PublicIP 10\.10\.64\.7 .*routing loop,/);
  });

  it('may not cover its own', () => {
    const { table } = readme(both);
    table.put(lease('10.168.1.0/24', '10.168.1.3'));
    expect(reasons(table)).toEqual([
      '10.168.1.0-24: 10.168.1.0/24 covers 10.168.1.3, the address of a host',
    ]);
  });

  it('never covers a next hop in force, through any sequence of changes', () => {
    let state = 99;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % below;
    };
    const links = ['10.168.0.0/24'];
    const { table } = readme(links);
    const followed = new Map<string, number>();
    for (let step = 0; step < 4_000; step += 1) {
      // Few subnets and hosts, on both sides of the border, so that they cover each other.
      const subnet = `10.${168 + random(2)}.${random(4)}.0/${random(4) === 0 ? 23 : 24}`;
      const at = parseCidr('test', subnet, { allowHostBits: true });
      if (random(10) === 0) links.splice(1, 1, `10.169.${random(4)}.0/24`);
      if (random(4) === 0) table.delete(at);
      else {
        const publicIp = ip(`10.${168 + random(2)}.${random(4)}.${3 + random(3)}`);
        table.put({ subnet: at, attributes: { publicIp }, expiresAt: undefined });
      }
      if (random(5) === 0) table.reconsider(random(2) === 0);
      const routes = table.routes();
      for (const { nextHop } of routes) {
        const covering = routes.find((route) => contains(route.subnet, nextHop));
        expect(covering, `${step}: ${formatIpv4(nextHop)}`).toBeUndefined();
      }
      const changes = compileChanges(table.takeChanges());
      for (let i = 0; i < changes.length; i += 3) {
        const key = `${changes[i]}/${changes[i + 1]}`;
        if (changes[i + 2] === 0) followed.delete(key);
        else followed.set(key, changes[i + 2] ?? 0);
      }
      expect(followed.size).toBe(routes.length);
      for (const {
        subnet: { network, prefix },
        nextHop,
      } of routes) {
        expect(followed.get(`${network}/${prefix}`)).toBe(nextHop);
      }
      const contested = table.rejected.filter(({ reason }) => /covers|loop/.test(reason)).length;
      expect(table.contested).toBeLessThanOrEqual(contested);
    }
    table.replaceAll([]);
    expect([table.size, table.contested, table.rejected.length]).toEqual([0, 0, 0]);
  });
});

describe('a lease of another length than SubnetLen', () => {
  const make = () =>
    new RouteTable({
      network: cidr('100.96.0.0/16'),
      own: cidr('100.96.1.0/24'),
      ownPublicIp: ip('10.168.0.2'),
    });

  it.each(['/18', '/20', '/23', '/25', '/26', '/30', '/32'])('%s is a route', (length) => {
    const table = make();
    expect(table.put(lease(`100.96.64.0${length}`, '10.168.0.3'))).toMatchObject({ type: 'add' });
  });

  it('is looked up by the longest prefix', () => {
    const table = make();
    table.put(lease('100.96.64.0/20', '10.168.0.3'));
    table.put(lease('100.96.65.0/24', '10.168.0.4'));
    table.put(lease('100.96.65.128/26', '10.168.0.5'));
    const hop = (text: string) => formatIpv4(table.lookup(ip(text))?.nextHop ?? 0);
    expect(['100.96.64.1', '100.96.65.1', '100.96.65.129'].map(hop)).toEqual([
      '10.168.0.3',
      '10.168.0.4',
      '10.168.0.5',
    ]);
  });
});

describe('addresses that no other host can have', () => {
  const make = (link: string, own = '10.168.0.2', ownAddress?: string) =>
    new RouteTable({
      network: cidr('100.96.0.0/16'),
      own: cidr('100.96.1.0/24'),
      ownPublicIp: ip(own),
      ownLinks: [cidr(link), cidr('192.0.2.0/26')],
      ...(ownAddress === undefined ? {} : { ownAddress: ip(ownAddress) }),
    });
  const against = (table: RouteTable, publicIp: string): string | undefined => {
    table.replaceAll([lease('100.96.2.0/24', publicIp)]);
    return table.rejected[0]?.reason;
  };

  it("the broadcast and network address of this host's link", () => {
    const table = make('10.168.0.0/24');
    expect(against(table, '10.168.0.255')).toBe(
      'PublicIP 10.168.0.255 is the broadcast address of 10.168.0.0/24',
    );
    expect(against(table, '10.168.0.0')).toBe(
      'PublicIP 10.168.0.0 is the network address of 10.168.0.0/24',
    );
    expect(against(table, '192.0.2.63')).toMatch(/broadcast address of 192\.0\.2\.0\/26/);
    expect(against(table, '10.168.1.255')).toBeUndefined();
    expect(against(make('10.168.0.0/23'), '10.168.0.255')).toBeUndefined();
    expect(against(make('10.168.0.0/23'), '10.168.1.255')).toMatch(/broadcast address of/);
    expect(against(make('10.168.0.2/31'), '10.168.0.3')).toBeUndefined();
  });

  it('link-local ones, unless this host is at one', () => {
    expect(against(make('10.168.0.0/24'), '169.254.3.4')).toMatch(/is a link-local address/);
    expect(against(make('169.254.0.0/16', '169.254.1.1'), '169.254.3.4')).toBeUndefined();
  });

  it('the address the tunnel is bound to behind NAT', () => {
    expect(against(make('10.0.2.0/24', '192.0.2.7', '10.0.2.15'), '10.0.2.15')).toBe(
      "PublicIP 10.0.2.15 is this host's own",
    );
  });

  it('but those of 240.0.0.0/4 they can: Linux sends there, and clouds use them', () => {
    expect(against(make('10.168.0.0/24'), '240.1.2.3')).toBeUndefined();
  });
});

describe('leases of one subnet under several keys', () => {
  const make = () =>
    new RouteTable({
      network: cidr('100.96.0.0/16'),
      own: cidr('100.96.1.0/24'),
      ownPublicIp: ip('10.168.0.2'),
    });
  const usual = lease('100.96.2.0/24', '10.168.0.3');
  const hostBits = lease('100.96.2.0/24', '10.168.0.4', '100.96.2.5-24');
  const dual = lease('100.96.2.0/24', '10.168.0.5', '100.96.2.0-24&fd00::-64');
  const via = (table: RouteTable) => table.routes().map(({ nextHop }) => formatIpv4(nextHop));

  it('another key alone is a route, and goes with that key only', () => {
    const table = make();
    expect(table.put(hostBits)).toMatchObject({ type: 'add' });
    expect(table.put(hostBits)).toBeUndefined();
    expect(table.delete(usual.subnet)).toBeUndefined();
    expect(via(table)).toEqual(['10.168.0.4']);
    expect(table.delete(usual.subnet, '100.96.2.5-24')).toMatchObject({ type: 'remove' });
    expect(table.size).toBe(0);
  });

  it.each([
    ['first', [usual, hostBits, dual]],
    ['last', [hostBits, dual, usual]],
  ])('the usual key counts, put %s; the others when it is gone', (_when, leases) => {
    for (const together of [true, false]) {
      const table = make();
      if (together) table.replaceAll(leases);
      else for (const each of leases) table.put(each);
      expect(via(table)).toEqual(['10.168.0.3']);
      table.delete(usual.subnet, '100.96.2.5-24');
      expect(via(table)).toEqual(['10.168.0.3']);
      table.put(hostBits);
      table.delete(usual.subnet);
      expect(via(table)).not.toEqual(['10.168.0.3']);
      expect(table.size).toBe(1);
      table.delete(usual.subnet, hostBits.key);
      expect(via(table)).toEqual(['10.168.0.5']);
      table.delete(usual.subnet, dual.key);
      expect([table.size, table.rejected.length]).toEqual([0, 0]);
    }
  });

  it('that contradict it are told', () => {
    const table = make();
    table.replaceAll([usual, hostBits]);
    expect(reasons(table)).toEqual(['100.96.2.5-24: its subnet is leased under 100.96.2.0-24']);
    table.put({ ...hostBits, attributes: usual.attributes });
    expect(table.rejected).toEqual([]);
  });

  it("none takes this host's own", () => {
    const table = make();
    table.put(lease('100.96.1.0/24', '10.168.0.9', '100.96.1.5-24'));
    expect([table.size, table.rejected.length]).toEqual([0, 1]);
  });
});

it('holds 32,768 hosts inside Network, and finds what covers them', () => {
  const { table } = readme(['10.128.0.0/9']);
  const leases = Array.from({ length: 32_768 }, (_, n): Lease => ({
    subnet: { network: 0x0a000000 + n * 256, prefix: 24 },
    attributes: { publicIp: 0x0a800000 + n },
    expiresAt: undefined,
  })).filter(({ subnet }) => !contains(cidr('10.10.16.0/20'), subnet.network));
  table.replaceAll(leases);
  expect([table.size, table.rejected.length]).toEqual([leases.length, 0]);
  table.put(lease('10.128.0.0/12', '172.16.0.1'));
  expect(table.rejected).toHaveLength(1);
});

describe('a subnet that is most of Network', () => {
  const table = (anySubnetLength: boolean) =>
    new RouteTable({
      network: cidr('10.244.0.0/16'),
      own: cidr('10.244.1.0/24'),
      ownPublicIp: ip('10.168.0.2'),
      anySubnetLength,
    });

  it("is a slip, but where somebody else hands subnets out: a node's podCIDR", () => {
    const strict = table(false);
    strict.put(lease('10.244.128.0/17', '10.168.0.3'));
    expect(reasons(strict)).toEqual([
      '10.244.128.0-17: 10.244.128.0/17 has the wrong length: expected at least /18 in Network 10.244.0.0/16',
    ]);
    const free = table(true);
    free.put(lease('10.244.128.0/17', '10.168.0.3'));
    free.put(lease('10.245.0.0/24', '10.168.0.4'));
    expect(show(free)).toEqual(['10.244.128.0/17 via 10.168.0.3']);
    expect(reasons(free)).toEqual([
      '10.245.0.0-24: 10.245.0.0/24 is outside Network 10.244.0.0/16',
    ]);
  });
});
