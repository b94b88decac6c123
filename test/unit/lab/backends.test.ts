/** What the lab counts on a host with each backend, and what it says of leases and configuration. */
import { describe, expect, it } from 'vitest';
import type { LabBackend } from '../../../src/lab/backends/backend.js';
import type { Counter, DaemonCounts, HostCounts } from '../../../src/lab/backends/counts.js';
import { byFou } from '../../../src/lab/backends/fou.js';
import { labBackend, networkConfig } from '../../../src/lab/backends/registry.js';
import { showRoute } from '../../../src/lab/backends/route.js';
import { hostPlan } from '../../../src/testbed/topology.js';

const [ONE, TWO] = [hostPlan(1), hostPlan(2)];

function counter(passes: number): Counter {
  return { passes, bytes: passes * 100 };
}

function links(...names: string[]): HostCounts['host'] {
  const link = { rx: counter(1), tx: counter(2), txDropped: 3 };
  return new Map(names.map((name) => [name, link]));
}

const DAEMON: DaemonCounts = {
  kernelPath: false,
  sent: (direction) => counter(direction === 'encapsulate' ? 4 : 5),
  inKernel: (direction) => counter(direction === 'encapsulate' ? 6 : 7),
  drops: [{ direction: 'encapsulate', reason: 'no_route', packets: 8 }],
};

function host(device: string, daemon?: DaemonCounts): HostCounts {
  return {
    plan: ONE,
    host: links('docker0', device, 'eth0'),
    container: links('eth0'),
    daemon,
    socketDrops: 9,
  };
}

/** Passes towards the wire and from it, at each place. */
function passes(counts: HostCounts, type: Parameters<typeof labBackend>[0], direct = false) {
  return passesOf(labBackend(type, direct), counts);
}

function passesOf(backend: LabBackend, counts: HostCounts) {
  return backend
    .counts(counts)
    .map(({ where, device, out, in: into }) => [`${where} ${device}`, out?.passes, into?.passes]);
}

describe('the counts from container to wire', () => {
  it('are those of devices, daemon and programs with udp', () => {
    expect(passes(host('flannel0', DAEMON), 'udp')).toEqual([
      ['container-1 eth0', 2, 1],
      ['host-1 docker0', 1, 2],
      ['host-1 flannel0', 2, 1],
      ['host-1 daemon', 4, 5],
      ['host-1 eBPF', 6, 7],
      ['host-1 eth0', 2, 1],
    ]);
  });

  it('are not known at flannel0 where programs carry packets past it', () => {
    const found = passes(host('flannel0', { ...DAEMON, kernelPath: true }), 'udp');
    expect(found[2]).toEqual(['host-1 flannel0', undefined, undefined]);
  });

  it('are those of devices where the kernel carries all by FOU', () => {
    expect(passesOf(byFou(labBackend('udp')), host('flannel0', DAEMON))).toEqual([
      ['container-1 eth0', 2, 1],
      ['host-1 docker0', 1, 2],
      ['host-1 flannel0', 2, 1],
      ['host-1 eth0', 2, 1],
    ]);
  });

  it('are not known without the daemon that counts, or the device', () => {
    const found = passes(host('other'), 'udp');
    expect(found.slice(2, 5)).toEqual([
      ['host-1 flannel0', undefined, undefined],
      ['host-1 daemon', undefined, undefined],
      ['host-1 eBPF', undefined, undefined],
    ]);
  });

  it.each([
    ['vxlan', false, ['docker0', 'flannel.1', 'eth0']],
    ['vxlan', true, ['docker0', 'eth0']],
    ['udp', true, ['docker0', 'eth0']],
    ['host-gw', false, ['docker0', 'eth0']],
  ] as const)(
    "are the kernel's devices alone with %s, DirectRouting %s",
    (type, direct, devices) => {
      const found = passes(host('flannel.1', DAEMON), type, direct);
      expect(found.slice(1).map(([place]) => place)).toEqual(
        devices.map((name) => `host-1 ${name}`),
      );
    },
  );
});

describe('the drops of a host', () => {
  it('are of queue, socket and daemon with udp', () => {
    const drops = labBackend('udp').drops(host('flannel0', DAEMON));
    expect(drops.map(({ where, packets }) => [where, packets])).toEqual([
      ['host-1 flannel0', 3],
      ['host-1 UDP socket', 9],
      ['host-1 daemon, encapsulate', 8],
    ]);
    expect(drops.at(-1)?.reason).toBe('no route');
  });

  it('are of the device with vxlan, and none are known of where there is no device', () => {
    const vxlan = labBackend('vxlan');
    expect(vxlan.drops(host('flannel.1'))).toMatchObject([
      { where: 'host-1 flannel.1', packets: 3 },
    ]);
    expect(vxlan.drops(host('other'))).toMatchObject([{ packets: undefined }]);
    expect(labBackend('host-gw').drops(host('other'))).toEqual([]);
  });
});

describe('configuration and routes', () => {
  it.each([
    ['udp', false, { Type: 'udp', Port: 8285 }],
    ['udp', true, { Type: 'udp', Port: 8285, DirectRouting: true }],
    ['vxlan', false, { Type: 'vxlan' }],
    ['vxlan', true, { Type: 'vxlan', DirectRouting: true }],
    ['host-gw', false, { Type: 'host-gw' }],
  ] as const)('of %s, DirectRouting %s, is flannel’s', (type, direct, object) => {
    const expected = { Network: '100.96.0.0/16', Backend: object };
    expect(networkConfig(labBackend(type, direct))).toEqual(expected);
  });

  it('have a lease value of their own', async () => {
    expect(await labBackend('udp').leaseValue(TWO)).toBe(
      '{"PublicIP":"10.168.0.3","PublicIPv6":null}',
    );
    expect(await labBackend('host-gw').leaseValue(TWO)).toBe(
      '{"PublicIP":"10.168.0.3","PublicIPv6":null,"BackendType":"host-gw"}',
    );
  });

  it.each([
    ['udp', false, ['100.96.0.0/16 dev flannel0']],
    ['udp', true, ['100.96.0.0/16 dev flannel0', '100.96.2.0/24 via 10.168.0.3 dev eth0']],
    ['vxlan', false, ['100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink']],
    ['vxlan', true, ['100.96.2.0/24 via 10.168.0.3 dev eth0']],
    ['host-gw', false, ['100.96.2.0/24 via 10.168.0.3 dev eth0']],
  ] as const)('of %s, DirectRouting %s, leads to the others', (type, direct, routes) => {
    const found = labBackend(type, direct).routes(ONE, [TWO]);
    expect(
      found.map(({ dst, gateway, dev, flags = [] }) =>
        [dst, ...(gateway === undefined ? [] : ['via', gateway]), 'dev', dev, ...flags].join(' '),
      ),
    ).toEqual(routes);
  });
});

describe('mode kernel by FOU', () => {
  const lines = (direct: boolean) =>
    byFou(labBackend('udp', direct)).routes(ONE, [TWO]).map(showRoute);

  it('has a route to each host by the tunnel, and refuses the rest of the network', () => {
    expect(lines(false)).toEqual([
      'unreachable 100.96.0.0/16',
      '100.96.2.0/24 via 10.168.0.3 dev flannel0 onlink',
    ]);
  });

  it('has them by the segment with DirectRouting', () => {
    expect(lines(true)).toEqual([
      'unreachable 100.96.0.0/16',
      '100.96.2.0/24 via 10.168.0.3 dev eth0',
    ]);
  });
});
