import { describe, expect, it } from 'vitest';
import { parseInterfaceRegex } from '../../../src/host/interface-regex.js';

describe('--iface-regex', () => {
  it.each([
    ['eth|ens', 'ens3', 'wlan0'],
    ['^10\\.168\\.0\\.\\d+$', '10.168.0.2', '10.168.0.2x'],
    ['(?i)^ETH1$', 'eth1', 'eth11'],
    ['(?s)a.b', 'a\nb', 'ab'],
    // Go's spelling of what JavaScript spells otherwise, or not at all.
    ['eth\\-0', 'eth-0', 'eth0'],
    ['eth\\_0', 'eth_0', 'eth0'],
    ['br\\:1', 'br:1', 'br1'],
    ['\\Aeth0\\z', 'eth0', 'xeth0'],
    ['\\Q10.1\\E', '10.1', '10x1'],
    ['\\Q10.', '10.', '10x'],
    ['(?P<kind>eth|ens)\\d', 'eth0', 'wlan0'],
    ['^[[:alpha:]]+[[:digit:]]$', 'eth0', 'eth00'],
    ['^[^[:digit:]]+$', 'eth', 'eth0'],
    ['^[[:upper:]_]+$', 'A_B', 'a_b'],
    ['^[a\\-z]+$', 'a-z', 'abz'],
    ['^[\\w.-]+$', 'eth0.1-a', 'eth0:1'],
    ['^[]a]+$', ']a', 'b'],
    ['^[^]a]+$', 'b', ']'],
    ['^[[a]+$', '[a', 'b'],
    ['^a]$', 'a]', 'a'],
    ['^a}$', 'a}', 'a'],
    ['^a{b$', 'a{b', 'ab'],
    ['^a{2}$', 'aa', 'a'],
    ['^a{1,2}$', 'aa', 'aaa'],
    ['^a\\{2\\}$', 'a{2}', 'aa'],
    ['^en[ps]\\d+s?\\d*$', 'enp3s0', 'eth0'],
  ])('%s fits %j and not %j', (expression, good, bad) => {
    const regex = parseInterfaceRegex(expression);
    expect(regex.test(good)).toBe(true);
    expect(regex.test(bad)).toBe(false);
  });

  it.each(['[', '(', '*', 'a)', '(?P<n', '[z-a]', '[[:nope:]]', '(?q)a', '\\'])(
    '%s is refused in one line',
    (expression) => {
      expect(() => parseInterfaceRegex(expression)).toThrow(
        /^--iface-regex: ".*" is not valid: expected a regular expression \(.*\)$/,
      );
    },
  );
});
