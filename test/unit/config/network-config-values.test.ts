import { describe, expect, it } from 'vitest';
import { formatCidr, formatIpv4, parseCidr } from '../../../src/config/ipv4.js';
import { isSubnetInRange, isUnsupported, parseNetworkConfig } from '../../../src/config/network.js';
import { FlannelletteError } from '../../../src/errors.js';
import { parseUdpSettings } from '../../../src/forward/udp/udp-settings.js';
import { parseConfig } from '../../../src/network/registry.js';

function summary(config: object): string {
  const c = parseConfig(JSON.stringify(config));
  const port = c.backend.type === 'udp' ? parseUdpSettings(c.backend).port : '';
  const range = `${formatIpv4(c.subnetMin)}..${formatIpv4(c.subnetMax)}`;
  return `${formatCidr(c.network)} /${c.subnetLen} ${range} ${c.backend.type}:${port}`;
}

describe('defaults and accepted values', () => {
  it.each<[object, string]>([
    [{ Network: '100.96.0.0/16' }, '100.96.0.0/16 /24 100.96.1.0..100.96.255.0 udp:8285'],
    [{ Network: '10.0.0.0/8' }, '10.0.0.0/8 /24 10.0.1.0..10.255.255.0 udp:8285'],
    [{ Network: '10.0.0.0/22' }, '10.0.0.0/22 /24 10.0.1.0..10.0.3.0 udp:8285'],
    [{ Network: '10.0.0.0/23' }, '10.0.0.0/23 /25 10.0.0.128..10.0.1.128 udp:8285'],
    [{ Network: '10.0.0.0/28' }, '10.0.0.0/28 /30 10.0.0.4..10.0.0.12 udp:8285'],
    [{ Network: '10.5.72.1/16' }, '10.5.0.0/16 /24 10.5.1.0..10.5.255.0 udp:8285'],
    [{ Network: '255.255.0.0/16' }, '255.255.0.0/16 /24 255.255.1.0..255.255.255.0 udp:8285'],
    [{ Network: '10.0.0.0/16', SubnetLen: 18 }, '10.0.0.0/16 /18 10.0.64.0..10.0.192.0 udp:8285'],
    [{ Network: '10.0.0.0/16', SubnetLen: 30 }, '10.0.0.0/16 /30 10.0.0.4..10.0.255.252 udp:8285'],
    [{ Network: '10.0.0.0/16', SubnetLen: 0 }, '10.0.0.0/16 /24 10.0.1.0..10.0.255.0 udp:8285'],
    [{ Network: '10.0.0.0/16', SubnetLen: null }, '10.0.0.0/16 /24 10.0.1.0..10.0.255.0 udp:8285'],
    [
      { Network: '10.0.0.0/16', SubnetMin: '10.0.16.0', SubnetMax: '10.0.32.0' },
      '10.0.0.0/16 /24 10.0.16.0..10.0.32.0 udp:8285',
    ],
    [
      { Network: '10.0.0.0/16', SubnetMin: '10.0.0.0', SubnetMax: '0.0.0.0' },
      '10.0.0.0/16 /24 10.0.0.0..10.0.255.0 udp:8285',
    ],
    [
      { network: '10.0.0.0/16', backend: { TYPE: 'UDP', port: 1 } },
      '10.0.0.0/16 /24 10.0.1.0..10.0.255.0 udp:1',
    ],
    [
      { Network: '10.0.0.0/16', Backend: { Type: 'udp', Port: 65535 } },
      '10.0.0.0/16 /24 10.0.1.0..10.0.255.0 udp:65535',
    ],
    [
      { Network: '10.0.0.0/16', Backend: { Type: 'vxlan', Port: 0 } },
      '10.0.0.0/16 /24 10.0.1.0..10.0.255.0 vxlan:',
    ],
    [
      { Network: '10.0.0.0/16', Backend: { Type: 'warp' } },
      '10.0.0.0/16 /24 10.0.1.0..10.0.255.0 warp:',
    ],
    [{ Network: '10.0.0.0/16', Unknown: [1] }, '10.0.0.0/16 /24 10.0.1.0..10.0.255.0 udp:8285'],
  ])('%j', (config, expected) => {
    expect(summary(config)).toBe(expected);
  });

  it('keeps the switches and the whole Backend', () => {
    const backend = { Type: 'udp', Port: 9000, Extra: { a: 1 } };
    const config = parseNetworkConfig(
      JSON.stringify({ Network: '10.0.0.0/16', EnableNFTables: true, Backend: backend }),
    );
    expect(config).toMatchObject({ enableIPv4: true, enableIPv6: false, enableNFTables: true });
    expect(config.backend.raw).toEqual(backend);
  });
});

describe('refusals name field, value and expectation', () => {
  const network = { Network: '10.0.0.0/16' };
  it.each<[object, RegExp]>([
    [{}, /^Network: \(missing\) .* expected an IPv4 subnet/],
    [{ Network: null }, /^Network: \(missing\)/],
    [{ Network: '' }, /^Network: ""/],
    [{ Network: 16 }, /^Network: 16 .* expected an IPv4 subnet/],
    [{ Network: '10.0.0.0' }, /^Network: "10.0.0.0" .* expected an IPv4 subnet/],
    [{ Network: '10.0.0.0/33' }, /^Network: "10.0.0.0\/33"/],
    [{ Network: '0.0.0.0/0' }, /^Network: "0.0.0.0\/0"/],
    [{ Network: '10.0.0.0/29' }, /^Network: "10.0.0.0\/29" .* at most \/28/],
    [{ Network: '10.0.0.0/29', SubnetLen: 30 }, /^SubnetLen: 30 .* 10.0.0.0\/29 is not/],
    [{ ...network, SubnetLen: 17 }, /^SubnetLen: 17 .* from 18 .* to 30/],
    [{ ...network, SubnetLen: 31 }, /^SubnetLen: 31 .* to 30/],
    [{ ...network, SubnetLen: -1 }, /^SubnetLen: -1/],
    [{ ...network, SubnetLen: 24.5 }, /^SubnetLen: 24.5 .* whole number/],
    [{ ...network, SubnetLen: '24' }, /^SubnetLen: "24" .* whole number/],
    [{ ...network, SubnetMin: '10.1.0.0' }, /^SubnetMin: "10.1.0.0" .* in 10.0.0.0\/16/],
    [
      { ...network, SubnetMin: '10.0.1.5' },
      /^SubnetMin: "10.0.1.5" .* start of a \/24 subnet, e.g. 10.0.1.0/,
    ],
    [{ ...network, SubnetMin: 'x' }, /^SubnetMin: "x"/],
    [{ ...network, SubnetMin: 5 }, /^SubnetMin: 5/],
    [{ ...network, SubnetMax: '11.0.0.0' }, /^SubnetMax: "11.0.0.0" .* in 10.0.0.0\/16/],
    [{ ...network, SubnetMax: '10.0.1.128' }, /^SubnetMax: "10.0.1.128"/],
    [
      { ...network, SubnetMin: '10.0.9.0', SubnetMax: '10.0.8.0' },
      /^SubnetMin: "10.0.9.0" .* at most SubnetMax 10.0.8.0/,
    ],
    [{ ...network, Backend: {} }, /^Backend.Type: \(missing\)/],
    [{ ...network, Backend: { Type: '' } }, /^Backend.Type: ""/],
    [{ ...network, Backend: { Type: 7 } }, /^Backend.Type: 7/],
    [{ ...network, Backend: null }, /^Backend: null .* object with Type/],
    [{ ...network, Backend: 'udp' }, /^Backend: "udp" .* object with Type/],
    [{ ...network, Backend: { Type: 'udp', Port: 0 } }, /^Backend.Port: 0 .* 1 to 65535/],
    [{ ...network, Backend: { Type: 'udp', Port: 65536 } }, /^Backend.Port: 65536/],
    [{ ...network, Backend: { Type: 'udp', Port: '8285' } }, /^Backend.Port: "8285"/],
    [{ ...network, EnableIPv4: false }, /^EnableIPv4: false .* only IPv4/],
    [{ ...network, EnableIPv6: true }, /^EnableIPv6: true .* IPv6 is not supported/],
    [{ ...network, EnableIPv6: 'no' }, /^EnableIPv6: "no" .* true or false/],
    [{ ...network, EnableNFTables: 1 }, /^EnableNFTables: 1 .* true or false/],
  ])('%j', (config, message) => {
    let thrown: unknown;
    try {
      parseConfig(JSON.stringify(config));
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(FlannelletteError);
    expect((thrown as FlannelletteError).kind).toBe('input');
    expect((thrown as FlannelletteError).message).toMatch(message);
    expect((thrown as FlannelletteError).message).not.toContain('\n');
  });

  it.each(['', '{', 'null', '[]', '"x"', '7'])('text %j is no configuration', (text) => {
    expect(() => parseNetworkConfig(text, '--net-config-path')).toThrow(/^--net-config-path: /);
  });
});

it('knows which subnets a host may hold', () => {
  const config = parseNetworkConfig('{"Network":"100.96.0.0/16","SubnetMax":"100.96.200.0"}');
  const inRange = (text: string): boolean => isSubnetInRange(config, parseCidr('x', text));
  expect(inRange('100.96.1.0/24')).toBe(true);
  expect(inRange('100.96.200.0/24')).toBe(true);
  expect(inRange('100.96.0.0/24')).toBe(false);
  expect(inRange('100.96.201.0/24')).toBe(false);
  expect(inRange('100.96.1.0/25')).toBe(false);
});

describe("flannel's own cases (pkg/subnet/config_test.go, fuzz_test.go)", () => {
  it.each([
    ['{ "network": "10.3.0.0/16" }', '10.3.0.0/16 /24 10.3.1.0..10.3.255.0 udp:8285'],
    [
      '{ "Network": "10.3.0.0/16", "SubnetMin": "10.3.5.0", "SubnetMax": "10.3.8.0", "SubnetLen": 28 }',
      '10.3.0.0/16 /28 10.3.5.0..10.3.8.0 udp:8285',
    ],
    ['{"Network":"10.0.0.0/8"}', '10.0.0.0/8 /24 10.0.1.0..10.255.255.0 udp:8285'],
    [
      '{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}',
      '10.0.0.0/8 /24 10.0.1.0..10.255.255.0 vxlan:',
    ],
    [
      '{"Network":"10.0.0.0/8","SubnetMin":"10.0.1.0","SubnetMax":"10.0.20.0"}',
      '10.0.0.0/8 /24 10.0.1.0..10.0.20.0 udp:8285',
    ],
    [
      '{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0","Backend":{"Type":"udp","Port":7890}}',
      '10.0.0.0/8 /20 10.10.0.0..10.99.0.0 udp:7890',
    ],
  ])('%s', (text, expected) => {
    expect(summary(JSON.parse(text) as object)).toBe(expected);
  });

  it.each([
    '{ "enableIPv6": true, "ipv6Network": "fc00::/48", "enableIPv4": false }',
    '{ "EnableIPv6": true, "IPv6Network": "fc00::/48", "IPv6SubnetMin": "fc00:0:0:1::", "IPv6SubnetMax": "fc00:0:0:f::", "IPv6SubnetLen": 124, "enableIPv4": false }',
    '{"EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"host-gw"}}',
  ])('%s is what flannelette does not do, not a slip', (text) => {
    const outcome = outcomeOf(text);
    expect(outcome).toBeInstanceOf(FlannelletteError);
    expect(isUnsupported(outcome)).toBe(true);
  });

  it.each(['', '{}', 'x', '{"Network":"10.0.0.0/16","SubnetLen":17}'])(
    '%j is a slip, told as an input error',
    (text) => {
      const outcome = outcomeOf(text);
      expect(outcome).toMatchObject({ kind: 'input' });
      expect(isUnsupported(outcome)).toBe(false);
    },
  );
});

function outcomeOf(text: string): unknown {
  try {
    return parseNetworkConfig(text);
  } catch (error) {
    return error;
  }
}
