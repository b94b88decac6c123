import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatIpv4, parseIpv4 } from '../../../src/config/ipv4.js';
import {
  parseDefaultInterface,
  readDefaultGateway,
  readDefaultInterface,
} from '../../../src/host/default-route.js';
import {
  isOverlayName,
  selectExternalInterface,
  sourceAddressTo,
  type HostInterfaceInfo,
  type InterfaceChoice,
} from '../../../src/host/interface.js';

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

function select(choice: Partial<InterfaceChoice>, interfaces = INTERFACES): string {
  const chosen = selectExternalInterface(interfaces, {
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
    // Every address of an interface.
    [{ ifaceRegex: ['\\.0\\.20$'] }, 'eth0 10.168.0.20 10.168.0.20 1500'],
    [{ ifaceRegex: ['^169\\.254'] }, 'eth0 169.254.7.7 169.254.7.7 1500'],
    [{ ifaceRegex: ['10\\.168\\.0\\.\\d+'] }, 'eth0 10.168.0.2 10.168.0.2 1500'],
    // One after another, as flanneld: a choice that fits nothing gives way to the next.
    [{ iface: ['lo', 'eth0'] }, 'eth0 10.168.0.2 10.168.0.2 1500'],
    [{ iface: ['127.0.0.1', 'eth1'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ iface: ['lo'], ifaceRegex: ['eth1'] }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [{ iface: ['eth7'], canReach: reach('10.168.0.20') }, 'eth0 10.168.0.20 10.168.0.20 1500'],
    [{ ifaceRegex: ['zzz'], canReach: reach('192.0.2.5') }, 'eth1 192.0.2.5 192.0.2.5 9000'],
    [
      { iface: ['tap9'], ifaceRegex: ['^7'], canReach: reach('192.0.2.5') },
      'eth1 192.0.2.5 192.0.2.5 9000',
    ],
    [{ ifaceRegex: ['.'] }, 'eth0 10.168.0.2 10.168.0.2 1500'],
    [{ iface: ['lo', 'eth0'], publicIp: '203.0.113.1' }, 'eth0 10.168.0.2 203.0.113.1 1500'],
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
    [{ canReach: { destination: '1.2.3.4', source: new Error('no way') } }, /^no way$/],
    [
      { iface: ['eth7'], canReach: { destination: '1.2.3.4', source: new Error('no way') } },
      /^--iface: "eth7"/,
    ],
    [{ iface: ['lo'], canReach: reach('10.9.9.9') }, /^--iface: "lo \(127.0.0.1\)" .*loopback/],
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

describe("flannel's look-ups on an interface of several addresses", () => {
  const several = [
    device('lo', 1, 65536, '127.0.0.1'),
    device('eth0', 2, 1500, '10.168.0.2'),
    ...[
      device('dummy0', 3, 1500, '1.10.100.1', '192.168.200.128', '172.16.30.18', '172.16.31.200'),
    ],
    device('dummy1', 4, 1500, '172.16.32.100'),
  ];

  it.each<[string, Partial<InterfaceChoice>, string]>([
    ['regex for an address', { ifaceRegex: ['192\\.168\\.200\\.\\d+'] }, '192.168.200.128'],
    ['regex for a name', { ifaceRegex: ['dummy\\d+'] }, '1.10.100.1'],
    ['name', { iface: ['dummy0'] }, '1.10.100.1'],
    ['address', { iface: ['172.16.30.18'] }, '172.16.30.18'],
    [
      'regex for an address, another as PublicIP',
      { ifaceRegex: ['172\\.16\\.30\\.\\d+'], publicIp: '172.16.31.200' },
      '172.16.30.18 172.16.31.200',
    ],
    [
      'reach',
      { canReach: { destination: '172.16.32.254', source: parseIpv4('test', '172.16.31.200') } },
      '172.16.31.200',
    ],
  ])('by %s', (_by, choice, addresses) => {
    const [address = '', publicIp = address] = addresses.split(' ');
    expect(select(choice, several)).toBe(`dummy0 ${address} ${publicIp} 1500`);
  });
});

describe('of the addresses of an interface', () => {
  const ip = (text: string) => parseIpv4('test', text);
  const at = (...addresses: HostInterfaceInfo['addresses']): HostInterfaceInfo[] => [
    { ...device('eth0', 2, 1500), addresses },
  ];
  const first = (interfaces: HostInterfaceInfo[]) => select({}, interfaces).split(' ')[1];
  const own = { address: ip('10.168.0.2'), prefix: 24 };
  const virtual = { address: ip('10.168.0.50'), prefix: 32 };

  it('the first counts, permanent before leased, global before link-local', () => {
    expect(first(at(own, virtual))).toBe('10.168.0.2');
    expect(first(at(virtual, own))).toBe('10.168.0.50');
    expect(first(at({ ...own, permanent: false }, virtual))).toBe('10.168.0.50');
    const local = { address: ip('169.254.1.1'), prefix: 16 };
    expect(first(at(local, { ...own, permanent: false }))).toBe('10.168.0.2');
    expect(first(at(local))).toBe('169.254.1.1');
  });

  it('a deprecated one counts when there is no other', () => {
    expect(first(at({ ...own, deprecated: true }, virtual))).toBe('10.168.0.50');
    expect(first(at({ ...own, deprecated: true }))).toBe('10.168.0.2');
  });
});

describe('an address on the loopback', () => {
  const host = [
    device('lo', 1, 65536, '127.0.0.1', '192.0.2.77'),
    device('eth0', 2, 1500, '169.254.1.1'),
    device('eth1', 3, 9000, '169.254.2.1'),
    device('flannel.1', 4, 1450, '100.96.1.0'),
  ];

  it('is taken, with the MTU of the way to it', () => {
    const byEth1 = { iface: ['lo'], defaultInterface: 'eth1' };
    expect(select({ iface: ['lo'] }, host)).toBe('lo 192.0.2.77 192.0.2.77 1500');
    expect(select(byEth1, host)).toBe('lo 192.0.2.77 192.0.2.77 9000');
    const none = { iface: ['192.0.2.77'], defaultInterface: undefined };
    expect(select(none, host)).toBe('lo 192.0.2.77 192.0.2.77 1500');
    expect(select({ canReach: reach('192.0.2.77') }, host)).toBe('lo 192.0.2.77 192.0.2.77 1500');
    expect(select({ ifaceRegex: ['^192'] }, host)).toBe('lo 192.0.2.77 192.0.2.77 1500');
  });
});

describe('devices of an overlay', () => {
  it('are known by their names', () => {
    for (const name of ['flannel0', 'flannel12', 'flannel.1', 'flannel-v6.1', 'docker0', 'cni0']) {
      expect(isOverlayName(name)).toBe(true);
    }
    for (const name of ['eth0', 'flannel', 'flannels', 'docker1', 'br0', 'xcni0']) {
      expect(isOverlayName(name)).toBe(false);
    }
  });

  it('are taken by an expression when nothing else fits, by name always', () => {
    const host = [device('docker0', 2, 1500, '10.1.0.1'), device('eth0', 3, 1500, '10.168.0.2')];
    expect(select({ ifaceRegex: ['^10'] }, host)).toContain('eth0');
    expect(select({ ifaceRegex: ['docker'] }, host)).toContain('docker0');
    expect(select({ iface: ['docker0', 'eth0'] }, host)).toContain('docker0');
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

  it('is refused where there is no way', async () => {
    await expect(sourceAddressTo('255.255.255.255')).rejects.toThrow(
      /^--iface-can-reach: no route to 255.255.255.255 .*--iface$/,
    );
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
      const any = () => true;
      expect(await readDefaultInterface(any, join(directory, 'route'))).toBe('eth0');
      const notEth0 = (name: string) => name !== 'eth0';
      expect(await readDefaultInterface(notEth0, join(directory, 'route'))).toBe('wlan0');
      expect(await readDefaultInterface(() => false, join(directory, 'route'))).toBeUndefined();
      await expect(readDefaultInterface(any, join(directory, 'none'))).rejects.toThrow(/ENOENT/);
      const gateway = await readDefaultGateway('eth0', join(directory, 'route'));
      expect(formatIpv4(gateway ?? 0)).toBe('10.168.0.1');
      expect(await readDefaultGateway('eth7', join(directory, 'route'))).toBeUndefined();
    } finally {
      await rm(directory, { recursive: true });
    }
    const real = await readDefaultInterface();
    expect(real === undefined || real.length > 0).toBe(true);
  });
});
