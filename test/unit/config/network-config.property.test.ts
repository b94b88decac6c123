/** Properties of the network configuration, for any text that could stand in the store. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  broadcast,
  contains,
  formatCidr,
  formatIpv4,
  parseCidr,
  parseSubnetKey,
  subnetKey,
  subnetSize,
} from '../../../src/config/ipv4.js';
import {
  isSubnetInRange,
  parseNetworkConfig,
  unknownKeys,
  type NetworkConfig,
} from '../../../src/config/network.js';
import { cidr, inAnyCase, ipv4, objectOf, valueOrError } from '../../support/arbitraries.js';

const KEYS = ['Network', 'SubnetLen', 'SubnetMin', 'SubnetMax', 'Backend', 'EnableIPv6'];

/** What every configuration that is taken keeps to. */
function expectSound(config: NetworkConfig): void {
  const { network, subnetLen, subnetMin, subnetMax, backend } = config;
  expect(network.prefix).toBeGreaterThan(0);
  expect(subnetLen).toBeGreaterThanOrEqual(network.prefix + 2);
  expect(subnetLen).toBeLessThanOrEqual(30);
  expect(subnetMin).toBeLessThanOrEqual(subnetMax);
  for (const bound of [subnetMin, subnetMax]) {
    expect(contains(network, bound)).toBe(true);
    expect(bound % subnetSize(subnetLen)).toBe(0);
    expect(isSubnetInRange(config, { network: bound, prefix: subnetLen })).toBe(true);
  }
  expect(subnetMax + subnetSize(subnetLen) - 1).toBeLessThanOrEqual(broadcast(network));
  expect(backend.type).toBe(backend.type.toLowerCase());
}

describe('any text', () => {
  it('is a sound configuration or an error in one line', () => {
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      objectOf(KEYS).map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(text, (given) => {
        const config = valueOrError('input', () => parseNetworkConfig(given));
        if (config === undefined) return;
        expectSound(config);
        expect(() => unknownKeys(given, ['Port'])).not.toThrow();
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('a configuration that makes sense', () => {
  const given = fc
    .tuple(cidr(1, 28), fc.double({ min: 0, max: 1, noNaN: true }))
    .chain(([network, part]) => {
      const subnetLen = network.prefix + 2 + Math.floor(part * (30 - network.prefix - 2));
      const count = 2 ** (subnetLen - network.prefix);
      const at = (index: number) => network.network + index * subnetSize(subnetLen);
      return fc
        .tuple(fc.integer({ min: 1, max: count - 1 }), fc.integer({ min: 1, max: count - 1 }))
        .map(([a, b]) => ({
          network,
          subnetLen,
          subnetMin: at(Math.min(a, b)),
          subnetMax: at(Math.max(a, b)),
        }));
    });

  it('is read as it was written, its keys in any case', () => {
    const names = fc.tuple(...KEYS.slice(0, 4).map(inAnyCase));
    fc.assert(
      fc.property(given, names, (config, [network, subnetLen, subnetMin, subnetMax]) => {
        const text = JSON.stringify({
          [network ?? '']: formatCidr(config.network),
          [subnetLen ?? '']: config.subnetLen,
          [subnetMin ?? '']: formatIpv4(config.subnetMin),
          [subnetMax ?? '']: formatIpv4(config.subnetMax),
        });
        const parsed = parseNetworkConfig(text);
        expect(parsed).toMatchObject(config);
        expectSound(parsed);
      }),
    );
  });
});

describe('subnets as keys and as text', () => {
  it('are what they were', () => {
    fc.assert(
      fc.property(cidr(), (subnet) => {
        expect(parseSubnetKey(subnetKey(subnet))).toEqual(subnet);
        expect(parseCidr('subnet', formatCidr(subnet))).toEqual(subnet);
      }),
    );
  });

  it('have no bits behind their prefix, whatever the key', () => {
    const host = fc.tuple(ipv4().map(formatIpv4), fc.nat(40)).map(([ip, bits]) => `${ip}-${bits}`);
    fc.assert(
      fc.property(fc.oneof(fc.string(), host), (key) => {
        const subnet = parseSubnetKey(key);
        if (subnet === undefined) return;
        expect(subnet.prefix).toBeLessThanOrEqual(32);
        expect(subnet.network % subnetSize(subnet.prefix)).toBe(0);
        expect(parseSubnetKey(subnetKey(subnet))).toEqual(subnet);
      }),
    );
  });
});
