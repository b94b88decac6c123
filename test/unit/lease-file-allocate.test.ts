import { describe, expect, it } from 'vitest';
import { cidrOf, formatCidr, parseCidr, parseIpv4 } from '../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../src/config/network.js';
import { allocateSubnet, freeSubnets, type AllocationInput } from '../../src/lease/allocate.js';
import type { Lease } from '../../src/lease/store.js';

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
