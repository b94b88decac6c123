import { describe, expect, it } from 'vitest';
import { cidrOf, contains, formatCidr, parseCidr, parseIpv4 } from '../../../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../../../src/config/network.js';
import {
  allocateSubnet,
  freeSubnets,
  type AllocationInput,
} from '../../../../src/lease/allocate.js';
import type { Lease } from '../../../../src/lease/store.js';

const NOW = 1_000_000;
const ME = '10.168.0.2';
const OTHER = '10.168.0.3';
const CONFIG = parseNetworkConfig('{"Network":"100.96.0.0/16"}');
/** Four subnets, three of them handed out: 10.0.0.4, .8, .12. */
const TINY = parseNetworkConfig('{"Network":"10.0.0.0/28"}');

const cidr = (text: string): ReturnType<typeof parseCidr> => parseCidr('test', text);
const lease = (subnet: string, ip: string, expiresAt: number | undefined = NOW + 1): Lease => ({
  subnet: cidr(subnet),
  attributes: { publicIp: parseIpv4('test', ip) },
  expiresAt,
});
const reservation = (subnet: string, ip: string): Lease => ({
  ...lease(subnet, ip),
  expiresAt: undefined,
});

function allocate(input: Partial<AllocationInput>): string {
  const { subnet, origin, obsolete } = allocateSubnet({
    config: CONFIG,
    publicIp: parseIpv4('test', ME),
    leases: [],
    blocked: [],
    previousSubnet: undefined,
    now: NOW,
    random: () => 0,
    ...input,
  });
  return [origin, formatCidr(subnet), ...obsolete.map((gone) => `-${formatCidr(gone)}`)].join(' ');
}

describe('choice of a subnet', () => {
  it.each<[string, Partial<AllocationInput>, string]>([
    ['first free', {}, 'free 100.96.1.0/24'],
    ['random among the first hundred', { random: () => 0.9999 }, 'free 100.96.100.0/24'],
    ['own again', { leases: [lease('100.96.7.0/24', ME)] }, 'own 100.96.7.0/24'],
    ['own again, ended', { leases: [lease('100.96.7.0/24', ME, NOW - 9)] }, 'own 100.96.7.0/24'],
    [
      'own before previous',
      { leases: [lease('100.96.7.0/24', ME)], previousSubnet: cidr('100.96.8.0/24') },
      'own 100.96.7.0/24',
    ],
    [
      'of several own the previous',
      {
        leases: [lease('100.96.7.0/24', ME), lease('100.96.8.0/24', ME)],
        previousSubnet: cidr('100.96.8.0/24'),
      },
      'own 100.96.8.0/24',
    ],
    [
      'a reservation before a lease',
      { leases: [lease('100.96.7.0/24', ME), reservation('100.96.9.0/24', ME)] },
      'reservation 100.96.9.0/24',
    ],
    [
      'own out of range deleted',
      { leases: [lease('100.97.7.0/24', ME), lease('100.96.8.0/25', ME)] },
      'free 100.96.1.0/24 -100.97.7.0/24 -100.96.8.0/25',
    ],
    [
      'a reservation out of range is left alone',
      { leases: [reservation('100.97.7.0/24', ME)] },
      'free 100.96.1.0/24',
    ],
    ['previous', { previousSubnet: cidr('100.96.8.0/24') }, 'previous 100.96.8.0/24'],
    [
      'previous held by another',
      { previousSubnet: cidr('100.96.8.0/24'), leases: [lease('100.96.8.0/24', OTHER)] },
      'free 100.96.1.0/24',
    ],
    [
      'previous ended under another',
      { previousSubnet: cidr('100.96.8.0/24'), leases: [lease('100.96.8.0/24', OTHER, NOW)] },
      'previous 100.96.8.0/24 -100.96.8.0/24',
    ],
    ['previous out of range', { previousSubnet: cidr('10.0.8.0/24') }, 'free 100.96.1.0/24'],
    ['previous of wrong length', { previousSubnet: cidr('100.96.8.0/25') }, 'free 100.96.1.0/24'],
    [
      'previous blocked',
      { previousSubnet: cidr('100.96.8.0/24'), blocked: [cidr('100.96.8.0/24')] },
      'free 100.96.1.0/24',
    ],
    [
      'around leases, wide and narrow ones, and reservations of others',
      {
        leases: [
          lease('100.96.0.0/22', OTHER),
          lease('100.96.4.64/26', OTHER),
          reservation('100.96.5.0/24', OTHER),
        ],
        blocked: [cidr('100.96.6.0/24')],
      },
      'free 100.96.7.0/24',
    ],
  ])('%s', (_name, input, expected) => {
    expect(allocate(input)).toBe(expected);
  });

  it('takes the last free one, then says that none is left', () => {
    const two = [lease('10.0.0.4/30', OTHER), reservation('10.0.0.12/30', '10.168.0.4')];
    expect(allocate({ config: TINY, leases: two })).toBe('free 10.0.0.8/30');
    const three = [...two, lease('10.0.0.8/30', '10.168.0.5')];
    expect(() => allocate({ config: TINY, leases: three })).toThrow(
      /^no free subnet in Network 10\.0\.0\.0\/28: all 3 subnets from 10\.0\.0\.4\/30 to 10\.0\.0\.12\/30 are leased/,
    );
    const ended = [...two, lease('10.0.0.8/30', '10.168.0.5', NOW - 1)];
    expect(allocate({ config: TINY, leases: ended })).toBe('free 10.0.0.8/30 -10.0.0.8/30');
  });
});

describe('what is no route for anybody', () => {
  it.each([
    ['100.96.0.0/16', OTHER],
    ['0.0.0.0/0', OTHER],
    ['100.0.0.0/8', OTHER],
    ['100.96.0.0/15', OTHER],
    ['100.96.0.0/17', OTHER],
    ['100.96.0.0/18', '127.0.0.1'],
    ['100.96.0.0/20', '224.0.0.1'],
    ['100.96.0.0/20', '0.0.0.0'],
  ])('blocks nothing: %s of %s', (subnet, holder) => {
    const bad = {
      ...lease(subnet, holder),
      subnet: parseCidr('x', subnet, { allowHostBits: true }),
    };
    expect(allocate({ leases: [bad] })).toBe('free 100.96.1.0/24');
    const previousSubnet = cidr('100.96.8.0/24');
    expect(allocate({ leases: [bad], previousSubnet })).toBe('previous 100.96.8.0/24');
  });

  it.each(['100.96.0.0/16', '0.0.0.0/0', '100.96.0.0/17'])(
    'blocks nothing, also when the value of %s cannot be read',
    (subnet) => {
      expect(allocate({ blocked: [cidr(subnet)] })).toBe('free 100.96.1.0/24');
    },
  );

  it('but itself, since its key is there', () => {
    expect(allocate({ leases: [lease('100.96.1.0/24', '127.0.0.1')] })).toBe('free 100.96.2.0/24');
  });

  it('while an entry that a host may hold blocks its subnet, read or not', () => {
    expect(allocate({ leases: [lease('100.96.0.0/20', OTHER)] })).toBe('free 100.96.16.0/24');
    expect(allocate({ blocked: [cidr('100.96.0.0/20')] })).toBe('free 100.96.16.0/24');
  });
});

describe('a subnet that covers the address of a host is never handed out', () => {
  /** The documents' own network, and flannel's README, over hosts at 10.168.0.x. */
  const config = parseNetworkConfig(
    '{"Network":"10.0.0.0/8","SubnetMin":"10.168.0.0","SubnetMax":"10.168.9.0"}',
  );

  it.each<[string, Partial<AllocationInput>, string]>([
    ["this host's own", {}, 'free 10.168.1.0/24'],
    [
      "another's",
      { leases: [lease('10.5.0.0/24', '10.168.1.7'), lease('10.5.1.0/24', '10.168.3.7')] },
      'free 10.168.2.0/24',
    ],
    [
      "another's that ended",
      { leases: [lease('10.5.0.0/24', '10.168.1.7', NOW - 1)] },
      'free 10.168.2.0/24',
    ],
    [
      "the tunnel's, behind NAT",
      { publicIp: parseIpv4('test', '192.0.2.1'), tunnelAddress: parseIpv4('test', ME) },
      'free 10.168.1.0/24',
    ],
    [
      "this host's link",
      { hostAddresses: [{ address: parseIpv4('test', ME), prefix: 22 }] },
      'free 10.168.4.0/24',
    ],
    [
      'a link wider than Network is no hindrance',
      { hostAddresses: [{ address: parseIpv4('test', ME), prefix: 8 }] },
      'free 10.168.1.0/24',
    ],
    [
      'nor one that leaves nothing else',
      { hostAddresses: [{ address: parseIpv4('test', ME), prefix: 16 }] },
      'free 10.168.1.0/24',
    ],
    ['nor the previous one', { previousSubnet: cidr('10.168.0.0/24') }, 'free 10.168.1.0/24'],
    [
      'nor one held already: it is given back',
      { leases: [lease('10.168.0.0/24', ME)] },
      'free 10.168.1.0/24 -10.168.0.0/24',
    ],
    [
      'a reservation of such is left to the person who wrote it',
      { leases: [reservation('10.168.0.0/24', ME)] },
      'free 10.168.1.0/24',
    ],
    [
      'but a subnet in use is not given up for what somebody else claims to be',
      { leases: [lease('10.168.7.0/24', ME), lease('10.5.0.0/24', '10.168.7.9')] },
      'own 10.168.7.0/24',
    ],
  ])('%s', (_what, input, expected) => {
    expect(allocate({ config, ...input })).toBe(expected);
  });

  it("over many runs, also with flannel README's own numbers", () => {
    const readme = parseNetworkConfig(
      '{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}',
    );
    const wide = parseNetworkConfig('{"Network":"10.0.0.0/8"}');
    const leases = Array.from({ length: 300 }, (_, n) =>
      lease(`10.0.${n % 256}.0/24`, `10.${n % 3}.${n % 256}.9`),
    );
    for (let n = 0; n < 100; n += 1) {
      for (const network of [readme, wide]) {
        const { subnet } = allocateSubnet({
          config: network,
          leases,
          blocked: [],
          previousSubnet: undefined,
          now: NOW,
          publicIp: parseIpv4('test', ME),
          random: () => n / 100,
        });
        const inside = leases.filter(({ attributes }) => contains(subnet, attributes.publicIp));
        expect(inside).toEqual([]);
      }
    }
  });
});

describe("flannel's own cases (pkg/subnet/etcd/subnet_test.go)", () => {
  const config = parseNetworkConfig(
    '{ "Network": "10.3.0.0/16", "SubnetMin": "10.3.1.0", "SubnetMax": "10.3.25.0" }',
  );
  /** All of one host; the last is outside SubnetMin to SubnetMax. */
  const leases = ['10.3.1.0', '10.3.2.0', '10.3.4.0', '10.3.5.0', '10.3.31.0'].map((network) =>
    reservation(`${network}/24`, '1.1.1.1'),
  );
  const publicIp = parseIpv4('test', '1.2.3.4');

  it('TestAcquireLease: the first that is free, and the same when asked again', () => {
    expect(allocate({ config, leases, publicIp })).toBe('free 10.3.3.0/24');
    const held = [...leases, lease('10.3.3.0/24', '1.2.3.4')];
    expect(allocate({ config, leases: held, publicIp })).toBe('own 10.3.3.0/24');
    const last = allocate({ config, leases, publicIp, random: () => 0.9999 });
    expect(last).toBe('free 10.3.25.0/24');
  });

  it('TestAcquireLease: the subnet of the last run, unless it does not match', () => {
    const previous = (text: string) =>
      allocate({ config, leases, publicIp, previousSubnet: cidr(text) });
    expect(previous('10.3.6.0/24')).toBe('previous 10.3.6.0/24');
    expect(previous('10.4.1.0/24')).toBe('free 10.3.3.0/24');
  });

  it('TestConfigChanged: not the one of the network before', () => {
    const changed = parseNetworkConfig('{ "Network": "10.4.0.0/16" }');
    const held = [...leases, lease('10.3.3.0/24', '1.2.3.4')];
    expect(allocate({ config: changed, leases: held, publicIp })).toBe(
      'free 10.4.1.0/24 -10.3.3.0/24',
    );
  });
});

describe('free subnets', () => {
  it('equal a naive scan on random leases of mixed lengths', () => {
    let state = 11;
    const random = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
    const config = parseNetworkConfig('{"Network":"10.0.0.0/20","SubnetLen":26}');
    for (let round = 0; round < 200; round++) {
      const taken = Array.from({ length: random() % 12 }, () =>
        cidrOf(0x09fff800 + (random() % 0x2000), 22 + (random() % 11)),
      );
      const naive: number[] = [];
      for (let at = config.subnetMin; at <= config.subnetMax; at += 64) {
        const clash = taken.some(
          (t) => t.network < at + 64 && at < t.network + 2 ** (32 - t.prefix),
        );
        if (!clash && naive.length < 10) naive.push(at);
      }
      expect(freeSubnets(config, taken, 10).map((subnet) => subnet.network)).toEqual(naive);
    }
  });

  it('are found at the end of 65,535 leases and at the end of the address space', () => {
    const config = parseNetworkConfig('{"Network":"10.0.0.0/8"}');
    const leases = Array.from({ length: 65_535 }, (_, n) => ({
      ...lease('10.0.0.0/24', OTHER),
      subnet: cidrOf(0x0a000000 + n * 256, 24),
    }));
    const started = performance.now();
    expect(allocate({ config, leases: leases.toReversed() })).toBe('free 10.255.255.0/24');
    expect(performance.now() - started).toBeLessThan(2_000);

    const top = parseNetworkConfig('{"Network":"255.255.255.0/24"}');
    expect(freeSubnets(top, [cidr('255.255.255.0/25')], 9).map(formatCidr)).toEqual([
      '255.255.255.128/26',
      '255.255.255.192/26',
    ]);
    expect(freeSubnets(top, [cidr('255.255.255.128/25')], 9).map(formatCidr)).toEqual([
      '255.255.255.64/26',
    ]);
  });
});
