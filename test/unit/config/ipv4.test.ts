import { describe, expect, it } from 'vitest';
import {
  broadcast,
  cidrOf,
  contains,
  containsCidr,
  firstHost,
  formatCidr,
  formatIpv4,
  overlaps,
  parseCidr,
  parseIpv4,
  parseSubnetKey,
  prefixMask,
  subnetKey,
  subnetSize,
  unreachableReason,
} from '../../../src/config/ipv4.js';

describe('addresses', () => {
  it.each([
    ['0.0.0.0', 0],
    ['10.168.0.2', 0x0aa80002],
    ['127.255.255.255', 0x7fffffff],
    ['128.0.0.0', 0x80000000],
    ['255.255.255.255', 0xffffffff],
  ])('%s is %i, both ways', (text, ip) => {
    expect(parseIpv4('x', text)).toBe(ip);
    expect(formatIpv4(ip)).toBe(text);
  });

  it.each([
    '',
    '10.168.0',
    '10.168.0.2.1',
    '010.0.0.1',
    '10.0.0.256',
    '0x0a.0.0.1',
    '1',
    ' 10.0.0.1',
    '::1',
    '10.0.0.1/24',
  ])('refuses %j by name', (text) => {
    expect(() => parseIpv4('PublicIP', text)).toThrow(
      /^PublicIP: .* is not valid: expected an IPv4/,
    );
  });
});

describe('subnets', () => {
  it('parses and formats', () => {
    const cidr = parseCidr('Network', '100.96.0.0/16');
    expect(cidr).toEqual({ network: 0x64600000, prefix: 16 });
    expect(formatCidr(cidr)).toBe('100.96.0.0/16');
    expect(formatIpv4(broadcast(cidr))).toBe('100.96.255.255');
    expect(formatIpv4(firstHost(cidr))).toBe('100.96.0.1');
  });

  it('covers the ends of the address space', () => {
    expect(parseCidr('x', '0.0.0.0/0')).toEqual({ network: 0, prefix: 0 });
    expect(parseCidr('x', '255.255.255.255/32')).toEqual({ network: 0xffffffff, prefix: 32 });
    expect([prefixMask(0), prefixMask(1), prefixMask(32)]).toEqual([0, 0x80000000, 0xffffffff]);
    expect(subnetSize(0)).toBe(2 ** 32);
    expect(broadcast({ network: 0, prefix: 0 })).toBe(0xffffffff);
    expect(contains({ network: 0, prefix: 0 }, 0xffffffff)).toBe(true);
    expect(contains({ network: 0xffffffff, prefix: 32 }, 0xffffffff)).toBe(true);
  });

  it.each([
    '',
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0/8',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
    'fd00::/8',
  ])('refuses %j', (text) => {
    expect(() => parseCidr('Network', text)).toThrow(/^Network: /);
  });

  it('refuses host bits unless told, and says what was meant', () => {
    expect(() => parseCidr('Network', '10.5.72.1/24')).toThrow(
      'Network: "10.5.72.1/24" is not valid: expected a subnet without host bits: 10.5.72.0/24',
    );
    expect(formatCidr(parseCidr('x', '10.5.72.1/24', { allowHostBits: true }))).toBe(
      '10.5.72.0/24',
    );
  });

  it('knows containment and overlap', () => {
    const wide = parseCidr('x', '100.96.0.0/16');
    const narrow = parseCidr('x', '100.96.1.0/24');
    const other = parseCidr('x', '100.97.0.0/24');
    expect([contains(narrow, 0x646001ff), contains(narrow, 0x64600200)]).toEqual([true, false]);
    expect([containsCidr(wide, narrow), containsCidr(narrow, wide)]).toEqual([true, false]);
    expect([overlaps(wide, narrow), overlaps(narrow, wide), overlaps(wide, other)]).toEqual([
      true,
      true,
      false,
    ]);
    expect(cidrOf(0x646001ff, 24)).toEqual(narrow);
  });

  it('writes and reads store keys', () => {
    const cidr = parseCidr('x', '100.96.1.0/24');
    expect(subnetKey(cidr)).toBe('100.96.1.0-24');
    expect(parseSubnetKey('100.96.1.0-24')).toEqual(cidr);
    for (const bad of [
      '',
      '100.96.1.0',
      '100.96.1.0/24',
      '100.96.1.0-33',
      '100.96.1.0-',
      '__proto__',
      // flannel's own (pkg/subnet/subnet_test.go, TestSubnetNodeInvalid).
      '10',
      '10.12.13.0',
      '10.12.13-24',
      '10.12.13.300-24',
      '10.12.13.0-24hi',
      '&2001::-56',
      '10.12.13.0-24&:12:13:-56',
      '10.12.13.0-24&20011::-56',
      '10.12.13.0-24&2001-56',
      '10.12.13.0-24&2001::',
      '10.12.13.0-24&2001::-56hi',
      '10.12.13.0-24&',
      '10.12.13.0-24&2001::-129',
      '10.12.13.0-24&2001::-56&2002::-56',
    ]) {
      expect(parseSubnetKey(bad), bad).toBeUndefined();
    }
  });

  it.each([
    ['10.12.13.0-24', '10.12.13.0/24'],
    ['10.12.13.0-24&fd00:12:13::-56', '10.12.13.0/24'],
    ['10.5.1.0-24&fc00::-64', '10.5.1.0/24'],
    ['255.255.255.255-32', '255.255.255.255/32'],
    ['100.96.1.1-24', '100.96.1.0/24'],
    ['100.96.1.0-024', '100.96.1.0/24'],
  ])('reads the key %s as flanneld does', (key, subnet) => {
    expect(parseSubnetKey(key)).toEqual(parseCidr('test', subnet));
  });
});

it.each([
  ['0.1.2.3', /0\.0\.0\.0\/8/],
  ['127.0.0.1', /loopback/],
  ['224.0.0.1', /multicast/],
  ['239.255.255.255', /multicast/],
  ['255.255.255.255', /broadcast/],
])('nobody is reached at %s', (text, reason) => {
  expect(unreachableReason(parseIpv4('x', text))).toMatch(reason);
});

it('ordinary addresses are reachable', () => {
  for (const text of ['10.168.0.2', '1.0.0.0', '192.0.2.1', '128.0.0.1']) {
    expect(unreachableReason(parseIpv4('x', text))).toBeUndefined();
  }
});
