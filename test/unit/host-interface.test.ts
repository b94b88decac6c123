import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatIpv4, parseIpv4 } from '../../src/config/ipv4.js';
import {
  parseDefaultInterface,
  readDefaultInterface,
  selectExternalInterface,
  sourceAddressTo,
  type HostInterfaceInfo,
  type InterfaceChoice,
} from '../../src/host/interface.js';

function device(
  name: string,
  index: number,
  mtu: number,
  ...addresses: string[]
): HostInterfaceInfo {
  return {
    name,
    index,
    mtu,
    up: true,
    loopback: name === 'lo',
    addresses: addresses.map((text) => ({ address: parseIpv4('test', text), prefix: 24 })),
  };
}

const INTERFACES = [
  device('lo', 1, 65536, '127.0.0.1'),
  device('eth0', 2, 1500, '169.254.7.7', '10.168.0.2', '10.168.0.20'),
  device('eth1', 3, 9000, '192.0.2.5'),
  device('tap9', 4, 1400),
];

const reach = (source: string) => ({
  destination: '10.168.0.3',
  source: parseIpv4('test', source),
});

function select(choice: Partial<InterfaceChoice>): string {
  const chosen = selectExternalInterface(INTERFACES, {
    iface: [],
    defaultInterface: 'eth0',
    ...choice,
  });
  return `${chosen.name} ${formatIpv4(chosen.address)} ${formatIpv4(chosen.publicIp)} ${chosen.mtu}`;
}

describe('choice of the external interface', () => {
  it.each<[Partial<InterfaceChoice>, string]>([
    [{}, 'eth0 10.168.0.2 10.168.0.2 1500'],
    [{ iface: ['eth1'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ iface: ['10.168.0.20'] }, 'eth0 10.168.0.20 10.168.0.20 1500'],
    [{ iface: ['169.254.7.7'] }, 'eth0 169.254.7.7 169.254.7.7 1500'],
    [{ iface: ['nope', '1.2.3.4', 'eth1', 'eth0'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ iface: ['tap9', 'eth0'] }, 'eth0 10.168.0.2 10.168.0.2 1500'],
    [{ publicIp: '203.0.113.1' }, 'eth0 10.168.0.2 203.0.113.1 1500'],
    [{ iface: ['lo'], publicIp: '203.0.113.1' }, 'lo 127.0.0.1 203.0.113.1 65536'],
    [{ iface: ['eth1'], defaultInterface: undefined }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ ifaceRegex: ['^eth[1-9]$'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ ifaceRegex: ['^192\\.'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    // An address is looked for on every interface before a name is.
    [{ ifaceRegex: ['^192|eth0'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ ifaceRegex: ['nope', 'eth'] }, 'eth0 10.168.0.2 10.168.0.2 1500'],
    [{ iface: ['eth1'], ifaceRegex: ['eth0'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ iface: ['eth7'], ifaceRegex: ['eth1'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ ifaceRegex: ['(?i)^ETH1$'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ publicIp: '192.0.2.5' }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ publicIp: '192.0.2.5', iface: ['eth0'] }, 'eth0 10.168.0.2 192.0.2.5 1500'],
    [{ canReach: reach('10.168.0.20') }, 'eth0 10.168.0.20 10.168.0.20 1500'],
    [{ iface: ['eth1'], canReach: reach('10.168.0.20') }, 'eth1 192.0.2.5 192.0.2.5 9000'],
  ])('%j', (choice, expected) => {
    expect(select(choice)).toBe(expected);
  });

  it.each<[Partial<InterfaceChoice>, RegExp]>([
    [
      { iface: ['eth7'] },
      /^--iface: "eth7" .* lo \(127.0.0.1\), eth0 \(.*10.168.0.2.*\), .*tap9 \(no IPv4 address\)/,
    ],
    [{ iface: ['10.168.0.99'] }, /^--iface: "10.168.0.99" .*eth0/],
    [{ iface: ['tap9'] }, /^--iface: "tap9"/],
    [{ iface: ['a', 'b'] }, /^--iface: \["a","b"\]/],
    [{ iface: ['lo'] }, /^--iface: "lo \(127.0.0.1\)" .*loopback.*--public-ip/],
    [{ ifaceRegex: ['zzz'] }, /^--iface-regex: "zzz" .*to match the name or address.*eth0/],
    [{ ifaceRegex: ['tap'] }, /^--iface-regex: "tap"/],
    [{ ifaceRegex: ['['] }, /^--iface-regex: "\[" .*a regular expression/],
    [{ canReach: reach('10.9.9.9') }, /^--iface-can-reach: 10.168.0.3 .*10.9.9.9.*eth0/],
    [{ defaultInterface: undefined }, /^no default route.*--iface.*eth0/],
    [{ defaultInterface: 'tap9' }, /tap9 has no IPv4 address.*--iface/],
    [{ publicIp: 'example.org' }, /^--public-ip: "example.org"/],
    [{ publicIp: '0.0.0.0' }, /^--public-ip: "0.0.0.0"/],
    [{ publicIp: '127.0.0.1' }, /^--public-ip: .*loopback/],
    [{ publicIp: '224.0.0.1' }, /^--public-ip: .*multicast/],
    [{ publicIp: '255.255.255.255' }, /^--public-ip: .*broadcast/],
  ])('refuses %j', (choice, message) => {
    expect(() => select(choice)).toThrow(message);
  });
});

const HEADER = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT';
const ROUTES = [
  HEADER,
  'tun1\t00000000\t0100A80A\t0003\t0\t0\t50\t00000080\t0\t0\t0',
  'down0\t00000000\t0100A80A\t0002\t0\t0\t1\t00000000\t0\t0\t0',
  '*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0',
  'wlan0\t00000000\t0100A80A\t0003\t0\t0\t600\t00000000\t0\t0\t0',
  'eth0\t00000000\t0100A80A\t0003\t0\t0\t100\t00000000\t0\t0\t0',
  'eth0\t0000A80A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0',
  '',
].join('\n');

describe('the address a destination is reached from', () => {
  it('is the one the kernel would send by', async () => {
    expect(formatIpv4(await sourceAddressTo('127.0.0.5'))).toBe('127.0.0.1');
  });

  it('is refused for what is no address', async () => {
    await expect(sourceAddressTo('example.org')).rejects.toThrow('--iface-can-reach');
  });
});

describe('default route', () => {
  it('is the one of the lowest metric, up and not a refusal', () => {
    expect(parseDefaultInterface(ROUTES)).toBe('eth0');
    expect(parseDefaultInterface(`${HEADER}\n`)).toBeUndefined();
    expect(parseDefaultInterface('')).toBeUndefined();
  });

  it('is read from the kernel', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
    try {
      await writeFile(join(directory, 'route'), ROUTES);
      expect(await readDefaultInterface(join(directory, 'route'))).toBe('eth0');
      await expect(readDefaultInterface(join(directory, 'none'))).rejects.toThrow(/ENOENT/);
    } finally {
      await rm(directory, { recursive: true });
    }
    const real = await readDefaultInterface();
    expect(real === undefined || real.length > 0).toBe(true);
  });
});
