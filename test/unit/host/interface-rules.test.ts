/** What a running daemon makes of a host whose interfaces change. */
import { describe, expect, it } from 'vitest';
import { formatIpv4, parseCidr, parseIpv4 } from '../../../src/config/ipv4.js';
import { systemError } from '../../../src/errors.js';
import type { ExternalInterface, HostInterfaceInfo } from '../../../src/host/interface.js';
import { InterfaceRules, type InterfaceFlags } from '../../../src/host/interface-rules.js';

const ip = (text: string) => parseIpv4('test', text);
const OVERLAY = { device: 'flannel0', subnet: parseCidr('test', '100.96.1.0/24') };

/** `eth0@1400` has another MTU than 1500. */
function device(name: string, ...addresses: string[]): HostInterfaceInfo {
  const [plain = '', mtu = '1500'] = name.split('@');
  const list = addresses.map((text) => ({ address: ip(text), prefix: 24 }));
  const loopback = plain === 'lo';
  return { name: plain, index: 2, mtu: Number(mtu), up: true, loopback, addresses: list };
}

const LO = device('lo', '127.0.0.1');
const FLANNEL0 = device('flannel0@1472', '100.96.1.0');
const DOCKER0 = device('docker0', '100.96.1.1');
const TUN0 = device('tun0@1400', '10.8.0.6');
const NONE: InterfaceFlags = { iface: [], ifaceRegex: [] };

/** A host at its start; `change` what becomes of it, `look` what a daemon on it then takes. */
async function host(
  flags: Partial<InterfaceFlags>,
  defaultRoutes: string,
  ...at: HostInterfaceInfo[]
) {
  let interfaces = at;
  let routes = defaultRoutes.split(' ');
  let failure: Error | undefined;
  const rules = new InterfaceRules(
    { ...NONE, ...flags },
    {
      interfaces: () => {
        if (failure !== undefined) throw failure;
        return interfaces;
      },
      defaultInterface: (usable) => Promise.resolve(routes.find((name) => usable(name))),
      sourceAddressTo: () => Promise.reject(systemError('no route', { code: 'ENETUNREACH' })),
    },
  );
  let current = await rules.choose();
  return {
    start: text(current),
    change: (defaultRoutesNow: string, ...now: HostInterfaceInfo[]): void => {
      routes = defaultRoutesNow.split(' ');
      interfaces = now;
    },
    fail: (error: Error): void => {
      failure = error;
    },
    look: async (): Promise<string> => {
      current = await rules.again(current, OVERLAY);
      return text(current);
    },
  };
}

function text({ name, address, publicIp, mtu }: ExternalInterface): string {
  const parts = [
    name,
    formatIpv4(address),
    ...(publicIp === address ? [] : [formatIpv4(publicIp)]),
  ];
  return `${parts.join(' ')} ${mtu}`;
}

const ETH0 = device('eth0', '10.168.0.2');

describe('an address that is there is kept', () => {
  it.each<[string, string, HostInterfaceInfo[], string]>([
    ["a VPN's default route", 'tun0 eth0', [LO, ETH0, TUN0], 'eth0 10.168.0.2 1500'],
    [
      'a default route through our own device',
      'flannel0',
      [LO, ETH0, FLANNEL0],
      'eth0 10.168.0.2 1500',
    ],
    ['no default route', '', [LO, ETH0], 'eth0 10.168.0.2 1500'],
    [
      'an address before it',
      'eth0',
      [device('eth0', '10.168.0.50', '10.168.0.2')],
      'eth0 10.168.0.2 1500',
    ],
    ['a link that is down', 'eth0', [{ ...ETH0, up: false }], 'eth0 10.168.0.2 1500'],
    ['another MTU', 'eth0', [device('eth0@1400', '10.168.0.2')], 'eth0 10.168.0.2 1400'],
    ['another name', '', [device('lan0', '10.168.0.2')], 'lan0 10.168.0.2 1500'],
    [
      'a bridge over it',
      'br0',
      [device('eth0'), device('br0@1400', '10.168.0.2')],
      'br0 10.168.0.2 1400',
    ],
    [
      'a second interface with it',
      'eth1',
      [device('eth1', '10.168.0.2'), ETH0],
      'eth0 10.168.0.2 1500',
    ],
    [
      'deprecated now',
      'eth0',
      [{ ...ETH0, addresses: [{ address: ip('10.168.0.2'), prefix: 24, deprecated: true }] }],
      'eth0 10.168.0.2 1500',
    ],
  ])('%s', async (_what, routes, now, expected) => {
    const { change, look } = await host({}, 'eth0', LO, ETH0);
    change(routes, ...now);
    expect(await look()).toBe(expected);
  });

  it.each<[string, Partial<InterfaceFlags>]>([
    ['--iface', { iface: ['eth1', 'eth0'] }],
    ['--iface-regex', { ifaceRegex: ['^192', '^10'] }],
  ])('a better choice of %s that comes later', async (_flag, flags) => {
    const { start, change, look } = await host(flags, 'eth0', LO, ETH0);
    expect(start).toBe('eth0 10.168.0.2 1500');
    change('eth0', LO, ETH0, device('eth1', '192.0.2.5'));
    expect(await look()).toBe('eth0 10.168.0.2 1500');
  });

  it('an interface of an overlay that the operator chose', async () => {
    const { start, change, look } = await host({ iface: ['docker0'] }, 'eth0', ETH0, DOCKER0);
    expect(start).toBe('docker0 100.96.1.1 1500');
    change('eth0', ETH0, device('docker0@1400', '100.96.1.1'));
    expect(await look()).toBe('docker0 100.96.1.1 1400');
  });
});

describe('an address that is gone', () => {
  it('is replaced by the rules of the start', async () => {
    const { change, look } = await host({}, 'eth0', LO, ETH0);
    change('eth0', LO, device('eth0', '10.168.0.22'));
    expect(await look()).toBe('eth0 10.168.0.22 1500');
  });

  it.each<[string, string, HostInterfaceInfo[]]>([
    ['our own device', 'flannel0', [LO, FLANNEL0]],
    ["another flannel's", 'flannel.1', [LO, device('flannel.1', '10.244.1.0')]],
    ['docker0', 'docker0', [LO, device('docker0', '172.17.0.1')]],
    ['cni0', 'cni0', [LO, device('cni0', '10.244.1.1')]],
    ['the bridge of our containers', 'kube0', [LO, device('kube0', '100.96.1.1')]],
    ['our own device by another name', 'tun7', [LO, device('tun7', '100.96.1.0')]],
    ['nothing', '', [LO, device('eth0')]],
  ])('is not replaced by %s', async (_what, routes, now) => {
    const { change, look } = await host({}, 'eth0', LO, ETH0);
    change(routes, ...now);
    await expect(look()).rejects.toThrow(/no default route|has no IPv4 address/);
  });

  it('moves to the next default route that is no part of the overlay', async () => {
    const { change, look } = await host({}, 'eth0', LO, ETH0);
    change('flannel0 docker0 wlan0', LO, FLANNEL0, DOCKER0, device('wlan0', '192.0.2.9'));
    expect(await look()).toBe('wlan0 192.0.2.9 1500');
  });

  it('is not replaced by what the operator did not choose', async () => {
    const { change, look } = await host({ iface: ['10.168.0.2'] }, 'eth0', LO, ETH0);
    change('eth0', LO, device('eth0', '10.168.0.50'));
    await expect(look()).rejects.toThrow('--iface: "10.168.0.2"');
  });

  it('is taken again when it is back', async () => {
    const { change, look } = await host({}, 'eth0', LO, ETH0);
    const virtual = device('eth0', '10.168.0.50');
    change('eth0', LO, virtual);
    expect(await look()).toBe('eth0 10.168.0.50 1500');
    change('wlan0', LO, device('wlan0', '192.0.2.9'));
    expect(await look()).toBe('wlan0 192.0.2.9 1500');
    change('eth0 wlan0', device('eth0', '10.168.0.50', '10.168.0.2'), device('wlan0', '192.0.2.9'));
    expect(await look()).toBe('eth0 10.168.0.2 1500');
  });

  it('is not taken again from a link that is down', async () => {
    const { change, look } = await host({}, 'eth0', LO, ETH0);
    const wlan0 = device('wlan0', '192.0.2.9');
    change('wlan0', LO, wlan0);
    await look();
    change('wlan0', LO, { ...ETH0, up: false }, wlan0);
    expect(await look()).toBe('wlan0 192.0.2.9 1500');
    change('wlan0', LO, ETH0, wlan0);
    expect(await look()).toBe('eth0 10.168.0.2 1500');
  });

  it('is not taken again from our own device', async () => {
    const { change, look } = await host({}, 'eth0', LO, ETH0);
    change('eth0', LO, device('eth0', '10.168.0.50'));
    await look();
    change('eth0', LO, device('eth0', '10.168.0.50'), device('flannel0', '10.168.0.2'));
    expect(await look()).toBe('eth0 10.168.0.50 1500');
  });

  it('keeps --public-ip', async () => {
    const { start, change, look } = await host({ publicIp: '203.0.113.1' }, 'eth0', LO, ETH0);
    expect(start).toBe('eth0 10.168.0.2 203.0.113.1 1500');
    change('eth0', LO, device('eth0', '10.168.0.22'));
    expect(await look()).toBe('eth0 10.168.0.22 203.0.113.1 1500');
    change('eth0', LO, device('eth0', '10.168.0.22', '10.168.0.2'));
    expect(await look()).toBe('eth0 10.168.0.2 203.0.113.1 1500');
  });
});

describe('an address on the loopback', () => {
  it('follows the MTU of the default route', async () => {
    const lo = device('lo@65536', '127.0.0.1', '192.0.2.77');
    const { start, change, look } = await host(
      { iface: ['lo'] },
      'eth0',
      lo,
      device('eth0', '169.254.0.1'),
    );
    expect(start).toBe('lo 192.0.2.77 1500');
    change('eth0', lo, device('eth0@9000', '169.254.0.1'));
    expect(await look()).toBe('lo 192.0.2.77 9000');
  });
});

describe('at the start', () => {
  it('the default route of an overlay is passed over', async () => {
    const { start } = await host({}, 'flannel0 docker0 eth0', LO, FLANNEL0, DOCKER0, ETH0);
    expect(start).toBe('eth0 10.168.0.2 1500');
  });

  it('the default route of an interface without address is passed over, named when alone', async () => {
    const { start } = await host({}, 'tap9 eth0', LO, device('tap9'), ETH0);
    expect(start).toBe('eth0 10.168.0.2 1500');
    await expect(host({}, 'tap9', LO, device('tap9'))).rejects.toThrow('tap9 has no IPv4 address');
  });

  it('a choice that cannot be reached gives way, unless it is the only one', async () => {
    const flags = { iface: ['eth0'], ifaceCanReach: '10.168.0.3' };
    expect((await host(flags, '', LO, ETH0)).start).toBe('eth0 10.168.0.2 1500');
    await expect(host({ ifaceCanReach: '10.168.0.3' }, 'eth0', ETH0)).rejects.toThrow('no route');
  });
});

it('a kernel that cannot say is told as it is', async () => {
  const { fail, look } = await host({}, 'eth0', LO, ETH0);
  fail(systemError('socket NETLINK_ROUTE: EMFILE', { code: 'EMFILE' }));
  await expect(look()).rejects.toMatchObject({ code: 'EMFILE' });
});
