/** The vxlan backend's settings and leases, and its routes over a kernel that the test plays. */
import { describe, expect, it } from 'vitest';
import { formatCidr, formatIpv4, parseCidr, parseIpv4 } from '../../../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../../../src/config/network.js';
import type {
  GatewayRoute,
  KernelRoute,
  KernelRoutes,
} from '../../../../src/dataplane/kernel-routes.js';
import type { Vtep, VxlanKernel } from '../../../../src/dataplane/vxlan.js';
import { canStandBeside } from '../../../../src/network/registry.js';
import { VxlanRoutes } from '../../../../src/forward/vxlan/vxlan-routes.js';
import {
  formatMac,
  macOf,
  parseMac,
  parseVxlanSettings,
  vtepMacOf,
} from '../../../../src/forward/vxlan/vxlan-settings.js';

const ip = (text: string) => parseIpv4('test', text);
const settings = (backend: object) =>
  parseVxlanSettings(
    parseNetworkConfig(
      JSON.stringify({ Network: '100.96.0.0/16', Backend: { Type: 'vxlan', ...backend } }),
    ).backend,
  );

describe('settings', () => {
  it("are flannel's defaults, and 0 is one of them", () => {
    const wanted = {
      vni: 1,
      port: 8472,
      gbp: false,
      learning: false,
      directRouting: false,
      mtu: undefined,
    };
    expect(settings({})).toEqual(wanted);
    expect(settings({ VNI: 0, Port: 0, MTU: 0, GBP: null })).toEqual(wanted);
    expect(settings({ vni: 7, port: 4789, DIRECTROUTING: true, MTU: 1400 })).toMatchObject({
      vni: 7,
      port: 4789,
      directRouting: true,
      mtu: 1400,
    });
  });

  it.each([
    [{ VNI: -1 }, 'Backend.VNI: -1 is not valid: expected a whole number from 1 to 16777215'],
    [{ VNI: 1.5 }, 'Backend.VNI: 1.5'],
    [{ VNI: '1' }, 'Backend.VNI: "1"'],
    [{ Port: 65_536 }, 'Backend.Port: 65536'],
    [{ MTU: 100 }, 'Backend.MTU: 100 is not valid: expected a whole number from 118 to 65535'],
    [{ Learning: 1 }, 'Backend.Learning: 1 is not valid: expected true or false'],
  ])('%j is refused', (backend, words) => {
    expect(() => settings(backend)).toThrow(words);
  });
});

describe('a MAC address', () => {
  it('is the same at every start, another for another host or VNI, and no group of hosts', () => {
    const mac = macOf(ip('10.168.0.2'), 1);
    expect(macOf(ip('10.168.0.2'), 1)).toBe(mac);
    expect(macOf(ip('10.168.0.3'), 1)).not.toBe(mac);
    expect(macOf(ip('10.168.0.2'), 2)).not.toBe(mac);
    expect(formatMac(mac)).toMatch(/^.[26ae]:/);
    expect(parseMac(formatMac(mac))).toBe(mac);
    expect(formatMac(0x020000000001)).toBe('02:00:00:00:00:01');
  });

  it.each([
    [undefined, 'BackendType is missing, as in a lease of udp'],
    ['host-gw', 'BackendType is "host-gw"'],
  ])('is not there in a lease of backend %s', (backendType, words) => {
    const attributes = { publicIp: 1, ...(backendType === undefined ? {} : { backendType }) };
    expect(vtepMacOf(attributes, 1)).toContain(words);
  });

  it.each([
    [undefined],
    ['text'],
    [{}],
    [{ VtepMAC: 5 }],
    [{ VtepMAC: '02:00:00:00:00' }],
    [{ VtepMAC: '01:00:5e:00:00:01' }],
    [{ VtepMAC: '00:00:00:00:00:00' }],
  ])('is not taken from %j', (backendData) => {
    const found = vtepMacOf({ publicIp: 1, backendType: 'vxlan', backendData }, 1);
    expect(found).toMatch(/^BackendData\.VtepMAC: .* is not valid: expected a MAC address/);
  });
});

describe('a VNI', () => {
  const lease = (VNI?: unknown) => ({
    publicIp: 1,
    backendType: 'vxlan',
    backendData: { ...(VNI === undefined ? {} : { VNI }), VtepMAC: '02:00:00:00:00:01' },
  });

  it('in a lease has to be the own one, where it is told', () => {
    expect(vtepMacOf(lease(7), 7)).toBe(0x020000000001);
    expect(vtepMacOf(lease(), 7)).toBe(0x020000000001);
    expect(vtepMacOf(lease(1), 7)).toBe(
      'BackendData.VNI: 1 is not valid: expected 7, the VNI of this host',
    );
  });

  it.each([
    [{ VNI: 2 }, {}, true],
    [{ VNI: 1 }, {}, false],
    [{ Port: 4789 }, {}, false],
    [{ VNI: 2, Port: 4789 }, { VNI: 3 }, true],
  ])('lets %j stand beside %j: %s', (one, other, expected) => {
    const backend = (keys: object) => ({ type: 'vxlan', raw: { Type: 'vxlan', ...keys } });
    expect(canStandBeside(backend(one), backend(other))).toBe(expected);
  });

  it('is none of another type: those stand beside it', () => {
    const [vxlan, udp] = ['vxlan', 'udp'].map((type) => ({ type, raw: { Type: type } }));
    if (vxlan === undefined || udp === undefined) throw new Error('no backends');
    expect(canStandBeside(vxlan, udp)).toBe(true);
    expect(canStandBeside(udp, { ...udp, raw: { Type: 'udp', Port: 9 } })).toBe(false);
  });
});

const ETH0 = 2;
const DEVICE = 9;
const PEER = { subnet: parseCidr('test', '100.96.2.0/24'), host: ip('10.168.0.3'), mac: 0x02aa };
const OFF = { subnet: parseCidr('test', '100.96.7.0/24'), host: ip('192.0.2.7'), mac: 0x02bb };

class FakeKernel implements KernelRoutes {
  routes: (GatewayRoute & { metric: number })[] = [];
  vteps: Vtep[] = [];
  list = (): readonly KernelRoute[] => this.routes;
  put(route: GatewayRoute): void {
    this.delete(route);
    this.routes.push({ ...route, metric: 0 });
  }
  delete({ destination, gateway, interfaceIndex }: GatewayRoute): void {
    this.routes = this.routes.filter(
      (one) =>
        one.destination.network !== destination.network ||
        one.gateway !== gateway ||
        one.interfaceIndex !== interfaceIndex,
    );
  }
  readonly vxlan: VxlanKernel = {
    hold: () => () => undefined,
    make: () => DEVICE,
    delete: () => undefined,
    put: (_, vtep) => {
      this.vxlan.remove(DEVICE, vtep);
      this.vteps.push(vtep);
    },
    remove: (_, { address }) => {
      this.vteps = this.vteps.filter((one) => one.address !== address);
    },
    list: () => this.vteps,
  };
  show(): string[] {
    return [
      ...this.routes.map(
        ({ destination, gateway, interfaceIndex, onlink }) =>
          `${formatCidr(destination)} via ${formatIpv4(gateway)} dev ${interfaceIndex}${onlink === true ? ' onlink' : ''}`,
      ),
      ...this.vteps.map(
        ({ address, mac, host }) =>
          `${formatIpv4(address)} ${mac.toString(16)} ${formatIpv4(host)}`,
      ),
    ];
  }
}

function routesOver(kernel: FakeKernel, direct: boolean): VxlanRoutes {
  return new VxlanRoutes({
    routes: kernel,
    kernel: kernel.vxlan,
    device: () => DEVICE,
    restoredDevice: () => DEVICE,
    external: () => ETH0,
    macOf: ({ network }) => [PEER, OFF].find(({ subnet }) => subnet.network === network)?.mac,
    isDirect: (host) => direct && host === PEER.host,
  });
}

const plain = ({ subnet, host }: typeof PEER): GatewayRoute => ({
  destination: subnet,
  gateway: host,
  interfaceIndex: ETH0,
});

describe('routes by the device', () => {
  it('are a route, a neighbour and a forwarding entry, and are listed when all are there', () => {
    const kernel = new FakeKernel();
    const routes = routesOver(kernel, false);
    routes.put(plain(PEER));
    expect(kernel.show()).toEqual([
      '100.96.2.0/24 via 100.96.2.0 dev 9 onlink',
      '100.96.2.0 2aa 10.168.0.3',
    ]);
    expect(routes.list()).toMatchObject([{ ...plain(PEER), metric: 0 }]);
    const [vtep] = kernel.vteps;
    kernel.vteps = [];
    expect(routes.list()).toEqual([]);
    kernel.vteps = vtep === undefined ? [] : [{ ...vtep, mac: 0x02cc }];
    expect(routes.list()).toEqual([]);
    routes.put(plain(PEER));
    expect(routes.list()).toHaveLength(1);
    routes.delete(plain(PEER));
    expect(kernel.show()).toEqual([]);
  });

  it('of hosts on the segment are plain with DirectRouting, and change when a host moves', () => {
    const kernel = new FakeKernel();
    routesOver(kernel, false).put(plain(PEER));
    const routes = routesOver(kernel, true);
    expect(routes.list()).toEqual([]);
    routes.put(plain(PEER));
    routes.put(plain(OFF));
    expect(kernel.show()).toEqual([
      '100.96.2.0/24 via 10.168.0.3 dev 2',
      '100.96.7.0/24 via 100.96.7.0 dev 9 onlink',
      '100.96.7.0 2bb 192.0.2.7',
    ]);
    expect(routes.list()).toHaveLength(2);
    for (const peer of [PEER, OFF]) routes.delete(plain(peer));
    expect(kernel.show()).toEqual([]);
  });
});
