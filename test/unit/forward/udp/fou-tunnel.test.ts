/** The tunnel by FOU with a kernel that is played: what is put there, put back and taken away, and when. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import * as addresses from '../../../../src/config/ipv4.js';
import { DEFAULT_RESOURCES, type HostInterface } from '../../../../src/dataplane/dataplane.js';
import type { FouAdmission, FouKernel } from '../../../../src/dataplane/fou.js';
import { claimEnd, FouTunnel } from '../../../../src/forward/udp/fou-tunnel.js';
import { silentLogger } from '../../../../src/log.js';
import type { Route } from '../../../../src/network/route-table.js';
import { FakeKernelRoutes } from '../../../support/fake-kernel-routes.js';

const parseIpv4 = (text: string) => addresses.parseIpv4('test', text);
const parseCidr = (text: string) => addresses.parseCidr('test', text);
const LOCAL = parseIpv4('10.168.0.2');
const END = { local: LOCAL, port: 8285 };
const ETH0 = 2;
const route = (subnet: string, host: string): Route => ({
  subnet: parseCidr(subnet),
  nextHop: parseIpv4(host),
});
const FAR = route('100.96.2.0/24', '10.168.0.3');

class FakeFou implements FouKernel {
  held = false;
  index = 0;
  next = 7;
  up = false;
  port = false;
  overlay = false;
  admission: FouAdmission | undefined;
  refuses: Partial<Record<'make' | 'admit' | 'openPort', string>> = {};
  sent = 0;

  hold = (): (() => void) => {
    if (this.held) throw Object.assign(new Error('bind'), { code: 'EADDRINUSE' });
    this.held = true;
    return () => {
      this.held = false;
    };
  };
  find = (): number => this.index;
  make = (): number => {
    this.#check('make');
    this.index = this.next++;
    this.sent = 0;
    return this.index;
  };
  restore = (): boolean => {
    const was = this.up;
    this.up = true;
    return !was;
  };
  openPort = (): boolean => {
    this.#check('openPort');
    const was = this.port;
    this.port = true;
    return !was;
  };
  putOverlay = (): boolean => {
    const was = this.overlay;
    this.overlay = true;
    return !was;
  };
  admit = (_index: number, _end: unknown, admission: FouAdmission): void => {
    this.#check('admit');
    this.admission = admission;
  };
  admits = (_index: number, _end: unknown, { hosts }: FouAdmission): boolean =>
    this.admission !== undefined && String(this.admission.hosts) === String(hosts);
  remove = (): void => {
    this.index = 0;
    this.up = this.port = this.overlay = false;
    this.admission = undefined;
  };
  statistics = () => ({
    receivedPackets: 0,
    receivedBytes: 0,
    sentPackets: this.sent,
    sentBytes: 0,
  });

  #check(step: 'make' | 'admit' | 'openPort'): void {
    const code = this.refuses[step];
    if (code !== undefined) throw Object.assign(new Error(`${step}: ${code}`), { code });
  }
}

const routes = new FakeKernelRoutes();
const kernel = new FakeFou();
afterEach(() => {
  routes.routes = [];
  kernel.remove();
  kernel.held = false;
  kernel.next = 7;
  kernel.refuses = {};
  vi.useRealTimers();
});

function interfaces(): HostInterface[] {
  const one = { mtu: 1500, up: true, loopback: false };
  const own = { address: LOCAL, prefix: 24, permanent: true, deprecated: false };
  return [
    { ...one, name: 'eth0', index: ETH0, addresses: [own] },
    { ...one, name: 'flannel0', index: kernel.index, addresses: [] },
  ];
}

function open(options: { directRouting?: boolean; sourceCheck?: boolean } = {}): FouTunnel {
  vi.useFakeTimers();
  return new FouTunnel({
    kernel,
    routes,
    interfaces,
    external: { name: 'eth0', address: LOCAL, publicIp: LOCAL, mtu: 1500 },
    options: {
      ...DEFAULT_RESOURCES,
      tunName: 'flannel%d',
      tunAddress: parseIpv4('100.96.1.0'),
      network: parseIpv4('100.96.0.0'),
      networkPrefix: 16,
      subnet: parseIpv4('100.96.1.0'),
      subnetPrefix: 24,
      mtu: 1472,
      bindAddress: LOCAL,
      port: 8285,
      mode: 'kernel',
      disabled: [],
      sourceCheck: options.sourceCheck ?? true,
    },
    directRouting: options.directRouting ?? false,
    log: silentLogger(),
    problems: undefined,
  });
}

const wait = (): void => {
  vi.advanceTimersByTime(3_000);
};

describe('the tunnel by FOU', () => {
  it('admits a host before it is sent to, and takes everything away at the end', () => {
    const tunnel = open();
    expect(tunnel.device).toBe('flannel0');
    expect(kernel.admission?.hosts).toEqual(Uint32Array.of());
    tunnel.apply([{ type: 'add', route: FAR }]);
    expect(routes.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 7']);
    expect([...(kernel.admission?.hosts ?? [])]).toEqual([
      parseIpv4('100.96.2.0'),
      24,
      parseIpv4('10.168.0.3'),
    ]);
    tunnel.apply([{ type: 'remove', route: FAR }]);
    expect([routes.show(), kernel.admission?.hosts.length]).toEqual([[], 0]);
    tunnel.close();
    tunnel.close();
    expect([kernel.index, kernel.port, kernel.held]).toEqual([0, false, false]);
  });

  it('puts back what is missing, and takes away what is not wanted', () => {
    const tunnel = open();
    tunnel.apply([{ type: 'add', route: FAR }]);
    routes.put({ destination: parseCidr('100.96.7.0/24'), gateway: 9, interfaceIndex: 7 });
    kernel.up = kernel.port = kernel.overlay = false;
    kernel.admission = undefined;
    wait();
    expect(routes.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 7']);
    expect([kernel.up, kernel.port, kernel.overlay]).toEqual([true, true, true]);
    expect(kernel.admission).toBeDefined();

    kernel.sent = 5;
    expect(tunnel.snapshot().threads[0]?.kernelPackets).toBe(5);
    kernel.index = 0;
    routes.routes = [];
    wait();
    expect(routes.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 8']);
    expect(tunnel.health()).toEqual({ error: undefined, restarts: 1 });
    // What the device before counted stays.
    expect(tunnel.snapshot().threads[0]?.kernelPackets).toBe(5);
    tunnel.close();
  });

  it('says what cannot be kept, until it can', () => {
    const tunnel = open();
    tunnel.apply([{ type: 'add', route: FAR }]);
    kernel.port = false;
    kernel.refuses.openPort = 'EADDRINUSE';
    wait();
    expect(tunnel.health().error).toContain('openPort: EADDRINUSE');
    kernel.refuses = {};
    wait();
    expect(tunnel.health().error).toBeUndefined();
    tunnel.close();
  });

  it.each(['make', 'admit', 'openPort'] as const)('leaves nothing when %s is refused', (step) => {
    kernel.refuses[step] = 'EOPNOTSUPP';
    expect(() => open()).toThrow('EOPNOTSUPP');
    expect([kernel.index, kernel.port, kernel.held]).toEqual([0, false, false]);
  });

  it('leaves the port to another FOU that has it', () => {
    kernel.port = true;
    expect(() => open()).toThrow('UDP port 8285 is taken (EADDRINUSE) by another FOU');
  });

  it('stays when it is to, and the next one goes on with it', () => {
    const tunnel = open();
    tunnel.apply([{ type: 'add', route: FAR }]);
    const { index } = kernel;
    tunnel.close(true);
    expect([kernel.index, kernel.port, kernel.held]).toEqual([index, true, false]);
    expect(routes.show()).toHaveLength(1);
    const next = open();
    expect(kernel.index).toBe(index);
    // Nobody is shut out until the first leases are there.
    expect(kernel.admission?.hosts.length).toBe(3);
    next.apply([{ type: 'add', route: FAR }]);
    expect(routes.show()).toEqual([`100.96.2.0/24 via 10.168.0.3 dev ${index}`]);
    next.close();
  });

  it('sends to hosts on the segment without the tunnel where it is told to', () => {
    const tunnel = open({ directRouting: true, sourceCheck: false });
    const away = route('100.96.3.0/24', '10.99.0.3');
    tunnel.apply([
      { type: 'add', route: FAR },
      { type: 'add', route: away },
    ]);
    expect(routes.show()).toEqual([
      `100.96.3.0/24 via 10.99.0.3 dev ${kernel.index}`,
      '100.96.2.0/24 via 10.168.0.3 dev 2',
    ]);
    wait();
    expect(routes.show()).toHaveLength(2);
    expect([tunnel.reach(FAR).way, tunnel.reach(away).way]).toEqual(['direct', 'tunnel']);
    expect(kernel.admission).toBeUndefined();
    tunnel.close();
    expect(routes.show()).toEqual([]);
  });
});

describe('the end that other hosts send to', () => {
  it('is refused to a second daemon, and cleared of what a killed one left', () => {
    kernel.index = 7;
    const letGo = claimEnd(END, false, kernel);
    expect(kernel.index).toBe(0);
    expect(() => claimEnd(END, false, kernel)).toThrow('UDP port 8285 is taken (EADDRINUSE)');
    letGo();
    kernel.index = 7;
    claimEnd(END, true, kernel)();
    expect([kernel.index, kernel.held]).toEqual([7, false]);
  });
});
