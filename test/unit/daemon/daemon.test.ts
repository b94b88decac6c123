import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { pause } from '../../../src/abort.js';
import { parseIpv4 } from '../../../src/config/ipv4.js';
import { requestJson } from '../../../src/daemon/status-client.js';
import { Daemon } from '../../../src/daemon/daemon.js';
import {
  resolveDaemonOptions,
  validateDaemonOptions,
  type DaemonOptions,
} from '../../../src/daemon/options.js';
import type { DaemonStatus } from '../../../src/daemon/status.js';
import { FlannelletteError, systemError } from '../../../src/errors.js';
import { silentLogger } from '../../../src/log.js';
import { FakeFirewall } from '../../support/fake-firewall.js';
import type { HostInterfaceInfo } from '../../../src/host/interface.js';
import { STORE_AWAY, STORE_MISCONFIGURED, STORE_REFUSES } from '../../../src/lease/store-errors.js';
import type { Problem } from '../../../src/problems.js';
import { counters, fakeDataPlanes } from '../../support/fake-dataplane.js';
import { CONFIG_TEXT, FakeStore, lease, OWN_IP, OWN_SUBNET } from '../../support/fake-store.js';

const OWN = lease(OWN_SUBNET, OWN_IP, Date.now() + 86_400_000);
const PEER = lease('100.96.2.0/24', '10.168.0.3');
const EBADFD = 77;

let directory: string;
let options: DaemonOptions & { readonly subnetFile: string };
const stops: (() => Promise<void>)[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-daemon-'));
  options = {
    store: { kind: 'file', path: 'unused' },
    subnetFile: join(directory, 'subnet.env'),
    healthzIp: '127.0.0.1',
  };
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
  await rm(directory, { recursive: true });
});

function setUp(more: Partial<DaemonOptions> = {}) {
  const store = new FakeStore();
  store.next = OWN;
  const planes = fakeDataPlanes();
  const firewalls = {
    iptables: new FakeFirewall('iptables'),
    nftables: new FakeFirewall('nftables'),
  };
  const told: string[] = [];
  const reports: ((problems: readonly Problem[]) => void)[] = [];
  const host: HostInterfaceInfo[] = [
    {
      name: 'eth0',
      index: 2,
      mtu: 1500,
      up: true,
      loopback: false,
      addresses: [{ address: parseIpv4('test', OWN_IP), prefix: 24 }],
    },
  ];
  let looked = 0;
  const daemon = new Daemon({ ...options, ...more }, silentLogger(), {
    openStore: (_options, _log, told) => {
      reports.push(told);
      return Promise.resolve(store);
    },
    openDataPlane: planes.open,
    hostInterfaces: () => {
      looked += 1;
      return host;
    },
    pause: hurried,
    defaultInterface: () => Promise.resolve('eth0'),
    probeKernel: () => [{ name: 'tun', state: 'yes', since: '2.4', detail: 'tried' }],
    createFirewall: (kind) => firewalls[kind],
    serviceManager: {
      ready: (text) => told.push(`ready ${text ?? ''}`),
      stopping: () => told.push('stopping'),
    },
  });
  const controller = new AbortController();
  const start = () => {
    const done = daemon.run(controller.signal);
    stops.push(async () => {
      controller.abort();
      await done.catch(() => undefined);
    });
    return done;
  };
  const looks = () => looked;
  return { store, planes, daemon, controller, start, firewalls, told, reports, host, looks };
}

/** A daemon's seconds pass ten times as fast. */
const hurried = (ms: number, signal: AbortSignal) => pause(ms / 10, signal);

const subnetEnv = () => readFile(options.subnetFile, 'utf8');
const askDaemon = async () =>
  (await requestJson(`${options.subnetFile}.sock`, '/status', 1_000)) as DaemonStatus;

const askHttp = (socketPath: string, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    get({ socketPath, path, agent: false }, (response) => {
      response.resume().on('end', resolve);
    }).on('error', reject);
  });

describe('a daemon', () => {
  it('takes one look at the data plane for each answer, none for readiness', async () => {
    const { store, planes, daemon, start } = setUp();
    void start();
    store.snapshot(OWN, PEER);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    const [plane] = planes.opened;
    const looks = async (path: string): Promise<number> => {
      const before = plane?.snapshots ?? 0;
      await askHttp(`${options.subnetFile}.sock`, path);
      return (plane?.snapshots ?? 0) - before;
    };
    expect([await looks('/metrics'), await looks('/status'), await looks('/readyz')]).toEqual([
      1, 1, 0,
    ]);
  });

  it('tells the store once traffic can flow', async () => {
    const { store, daemon, start } = setUp();
    const phases: string[] = [];
    Object.assign(store, {
      announce: () => {
        phases.push(daemon.readiness().phase);
        return Promise.resolve();
      },
    });
    void start();
    await vi.waitFor(async () => {
      expect((await askDaemon()).ready).toBe(false);
    });
    expect(phases).toEqual([]);
    store.snapshot(OWN, PEER);
    await vi.waitFor(() => {
      expect(phases).toEqual([expect.stringMatching(/^running$|^putting the firewall/)]);
    });
  });

  it('becomes ready after the first publication, tells of itself, and leaves only subnet.env', async () => {
    const { store, planes, daemon, controller, start } = setUp();
    const done = start();
    await vi.waitFor(async () => {
      expect((await askDaemon()).ready).toBe(false);
    });
    await expect(subnetEnv()).rejects.toThrow('ENOENT');
    expect(daemon.readiness()).toMatchObject({ ready: false, phase: 'waiting for the leases' });

    store.snapshot(OWN, PEER);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    expect(await subnetEnv()).toBe(
      'FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n',
    );
    const status = await askDaemon();
    expect(status).toMatchObject({
      pid: process.pid,
      mode: 'auto',
      ready: true,
      store: { kind: 'fake', location: 'memory', error: null },
      network: '100.96.0.0/16',
      lease: { subnet: '100.96.1.0/24', lost: null },
      external: { name: 'eth0', address: OWN_IP, publicIp: OWN_IP, mtu: 1500 },
      device: 'flannel0',
      mtu: 1472,
      routes: [{ subnet: '100.96.2.0/24', nextHop: '10.168.0.3' }],
      rejected: [],
      features: [{ name: 'tun', state: 'yes' }],
    });
    expect(status.dataPlane?.threads).toHaveLength(2);

    controller.abort();
    await done;
    expect(await readdir(directory)).toEqual(['subnet.env']);
    expect(planes.live()).toBe(0);
    expect(store.closed).toBe(true);
  });

  it('tells of a container bridge that is not in its subnet', async () => {
    const { store, daemon, start, host } = setUp();
    host.push({
      name: 'docker0',
      index: 3,
      mtu: 1500,
      up: true,
      loopback: false,
      addresses: [{ address: parseIpv4('test', '172.17.0.1'), prefix: 16 }],
    });
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness()).toMatchObject({
        ready: true,
        problems: [{ id: 'container_bridge_outside_subnet' }],
      });
    });
    expect((await askDaemon()).problems).toHaveLength(1);
  });

  it('stays ready with a degraded store or a failed data plane, and says so', async () => {
    const { store, planes, daemon, start } = setUp();
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    store.send({ type: 'degraded', error: new Error('torn') });
    planes.opened[0]?.emit('event', { type: 'fault', errno: EBADFD, operation: 'tun' });
    await vi.waitFor(() => {
      expect(daemon.readiness()).toMatchObject({
        ready: true,
        store: { ok: false, error: 'torn' },
        dataPlane: { ok: false },
      });
    });
    await vi.waitFor(() => {
      expect(daemon.readiness().dataPlane.ok).toBe(true);
    });
    expect(daemon.status().dataPlane?.restarts).toBe(1);
  });

  it('asks for the configuration until it is there', async () => {
    const { store, daemon, start } = setUp();
    store.config = undefined;
    void start();
    await vi.waitFor(() => {
      expect(store.configReads).toBeGreaterThanOrEqual(1);
    });
    expect(daemon.status().phase).toBe('waiting for the network configuration');
    store.config = CONFIG_TEXT;
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    }, 3_000);
    expect(store.configReads).toBe(2);
  });

  it('ends at once while it waits for the configuration', async () => {
    const { store, controller, start } = setUp();
    store.config = undefined;
    const done = start();
    await vi.waitFor(() => {
      expect(store.configReads).toBe(1);
    });
    controller.abort();
    await done;
    expect(await readdir(directory)).toEqual([]);
  });

  it('asks for the subnet of its earlier run', async () => {
    await writeFile(options.subnetFile, 'FLANNEL_SUBNET=100.96.7.1/24\n');
    const { store, start } = setUp();
    void start();
    await vi.waitFor(() => {
      expect(store.requests).toHaveLength(1);
    });
    expect(store.requests[0]?.previousSubnet).toEqual({
      network: parseIpv4('test', '100.96.7.0'),
      prefix: 24,
    });
  });

  it('goes on untouched when a lost lease comes back with the same subnet', async () => {
    const { store, planes, daemon, start } = setUp();
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    store.send({ type: 'delete', subnet: OWN.subnet });
    await vi.waitFor(() => {
      expect(store.requests).toHaveLength(2);
    });
    await vi.waitFor(() => {
      expect(daemon.status().lease?.lost).toBeNull();
    });
    expect(planes.opened).toHaveLength(1);
    expect(daemon.readiness().ready).toBe(true);
  });

  it('registers again on another subnet; server and counters go on', async () => {
    const { store, planes, daemon, start } = setUp();
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    const [first] = planes.opened;
    if (first !== undefined) first.threads = [counters('encapsulate', 5)];
    const other = lease('100.96.9.0/24', OWN_IP, Date.now() + 86_400_000);
    store.next = other;
    store.send({ type: 'put', lease: lease(OWN_SUBNET, '10.168.0.9') });
    await vi.waitFor(() => {
      expect(planes.opened).toHaveLength(2);
    });
    store.snapshot(other);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    expect(planes.live()).toBe(1);
    expect(await subnetEnv()).toContain('FLANNEL_SUBNET=100.96.9.1/24');
    const status = await askDaemon();
    expect(status.lease?.subnet).toBe('100.96.9.0/24');
    expect(status.dataPlane?.threads[0]?.sentPackets).toBe(5);
  });

  it('fails, closed, when a lost lease cannot be acquired again', async () => {
    const { store, planes, daemon, start } = setUp();
    const done = start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    store.acquireError = systemError('no free subnet in 100.96.0.0/16');
    const outcome = expect(done).rejects.toThrow('no free subnet');
    store.send({ type: 'delete', subnet: OWN.subnet });
    await outcome;
    expect(planes.live()).toBe(0);
    expect(await readdir(directory)).toEqual(['subnet.env']);
  });
});

describe('a store that is away', () => {
  const away = () => systemError('etcd does not answer', { code: STORE_AWAY });

  it('is asked again for the configuration and for the lease, and that is visible', async () => {
    const { store, daemon, start } = setUp();
    store.configErrors.push(away());
    store.acquireErrors.push(away());
    void start();
    await vi.waitFor(() => {
      expect(daemon.readiness().store).toEqual({
        ok: false,
        error: 'etcd does not answer',
        leasesAgeSeconds: null,
      });
    });
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    }, 4_000);
    expect(daemon.readiness().store).toEqual({ ok: true, error: null, leasesAgeSeconds: 0 });
    expect(store.requests).toHaveLength(2);
  });

  it.each([
    ['configuration', STORE_MISCONFIGURED],
    ['refused', STORE_REFUSES],
  ])('is waited for at the start as well when the fault is one of kind %s', async (fault, code) => {
    const { store, daemon, start } = setUp();
    store.configErrors.push(away(), systemError('put it right', { code }));
    void start();
    await vi.waitFor(() => {
      expect(daemon.readiness().store).toMatchObject({ ok: false, error: 'put it right', fault });
    }, 4_000);
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    }, 4_000);
    store.send({ type: 'degraded', error: systemError('again', { code }) });
    await vi.waitFor(() => {
      expect(daemon.readiness().store).toMatchObject({ ok: false, error: 'again', fault });
    });
    expect(daemon.readiness().ready).toBe(true);
  });

  it('shows what the store reports among the problems', async () => {
    const { daemon, start, reports } = setUp();
    const problem = { id: 'etcd_tls', message: 'the certificate expired' };
    void start();
    await vi.waitFor(() => {
      expect(reports).toHaveLength(1);
    });
    reports[0]?.([problem]);
    expect(daemon.readiness().problems).toContainEqual(problem);
    expect(daemon.status().problems).toContainEqual(problem);
    reports[0]?.([]);
    expect(daemon.readiness().problems).not.toContainEqual(problem);
  });

  it('does not end a daemon whose lease was lost', async () => {
    const { store, daemon, start } = setUp();
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    store.acquireErrors.push(away());
    store.send({ type: 'delete', subnet: OWN.subnet });
    await vi.waitFor(() => {
      expect(store.requests).toHaveLength(3);
      expect(daemon.status().lease?.lost).toBeNull();
    }, 4_000);
    expect(daemon.readiness().ready).toBe(true);
  });

  it('shows the age of remembered leases', async () => {
    const { store, daemon, start } = setUp();
    void start();
    const asOf = Date.now() - 60_000;
    store.send({ type: 'snapshot', leases: [OWN, PEER], rejected: [], asOf });
    store.send({ type: 'degraded', error: away() });
    await vi.waitFor(() => {
      const { leasesAgeSeconds } = daemon.readiness().store;
      expect(leasesAgeSeconds).toBeGreaterThanOrEqual(60);
    });
    expect(daemon.status().store?.leasesAsOf).toBe(new Date(asOf).toISOString());
    expect(daemon.status().routes).toHaveLength(1);
    store.send({ type: 'recovered' });
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().store.leasesAgeSeconds).toBe(0);
    });
  });
});

describe('the external interface', () => {
  it('with another address: the same subnet, bound and told anew', async () => {
    const { store, planes, daemon, start, host } = setUp();
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    const moved = lease(OWN_SUBNET, '10.168.0.77', Date.now() + 86_400_000);
    store.next = moved;
    const [eth0] = host;
    if (eth0 === undefined) throw new Error('no eth0');
    const address = parseIpv4('test', '10.168.0.77');
    host[0] = { ...eth0, mtu: 1400, addresses: [{ address, prefix: 24 }] };
    await vi.waitFor(() => {
      expect(planes.opened).toHaveLength(2);
    }, 5_000);
    store.snapshot(moved);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    expect(store.requests[1]).toMatchObject({
      attributes: { publicIp: address },
      formerPublicIp: parseIpv4('test', OWN_IP),
      previousSubnet: OWN.subnet,
    });
    expect(planes.opened[1]?.options).toMatchObject({ bindAddress: address, mtu: 1372 });
    expect(planes.live()).toBe(1);
    expect(store.reconnects).toBe(1);
    expect(await subnetEnv()).toContain('FLANNEL_MTU=1372\n');
    expect(daemon.status().external?.address).toBe('10.168.0.77');
  });

  it('that is gone for a while changes nothing', async () => {
    const { store, planes, daemon, start, host, looks } = setUp();
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    const all = host.splice(0);
    const before = looks();
    await vi.waitFor(() => {
      expect(looks()).toBeGreaterThan(before + 4);
    });
    host.push(...all);
    expect(planes.opened).toHaveLength(1);
    expect(daemon.readiness().ready).toBe(true);
  });
});

describe('the firewall', () => {
  it('has to be in place before a daemon is ready, and gets the plan of the flags', async () => {
    const { store, daemon, start, firewalls, told } = setUp({ ipMasq: true });
    firewalls.iptables.hangs = true;
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness()).toMatchObject({
        ready: false,
        subnetFileWritten: true,
        phase: 'putting the firewall rules in place',
        firewall: { ok: false, error: null },
      });
    });
    expect(told).toEqual([]);
    expect(firewalls.iptables.plan).toMatchObject({
      subnet: OWN.subnet,
      masquerade: true,
      forward: true,
      randomFully: true,
    });
    expect(firewalls.nftables.cleaned).toBe(1);
  });

  it('that refuses keeps /readyz at 503, but no unit waiting', async () => {
    const { store, daemon, controller, start, firewalls, told } = setUp();
    firewalls.iptables.next = new Error('iptables is not installed');
    const done = start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(told).toEqual(['ready forwarding for 100.96.1.0/24']);
    });
    expect(daemon.readiness()).toMatchObject({
      ready: false,
      firewall: { ok: false, error: 'iptables is not installed' },
    });
    controller.abort();
    await done;
    expect(told.at(-1)).toBe('stopping');
  });

  it('is nftables where the network says so', async () => {
    const { store, daemon, start, firewalls } = setUp();
    store.config = '{"Network":"100.96.0.0/16","EnableNFTables":true,"Backend":{"Type":"udp"}}';
    void start();
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
    expect(firewalls.nftables.applied).toBe(1);
    expect(firewalls.iptables.applied).toBe(0);
  });
});

describe('a network configuration that is not valid', () => {
  it('is waited for, shown meanwhile, and taken when it is corrected', async () => {
    const { start, store, daemon, planes } = setUp();
    store.config = '{"Network":"100.96.0.0/16","SubnetLen":17}';
    void start();
    await vi.waitFor(async () => {
      expect((await askDaemon()).problems).toMatchObject([{ id: 'config_invalid' }]);
    });
    expect(daemon.readiness()).toMatchObject({
      ready: false,
      phase: 'waiting for the network configuration',
      problems: [{ message: expect.stringContaining('SubnetLen: 17 is not valid') as string }],
    });
    expect(planes.opened).toEqual([]);
    store.config = CONFIG_TEXT;
    store.snapshot(OWN);
    await vi.waitFor(
      () => {
        expect(daemon.readiness()).toMatchObject({ ready: true, problems: [] });
      },
      { timeout: 5_000 },
    );
  });
});

describe('a directory that takes no status socket', () => {
  it('keeps nobody from forwarding; the socket comes when it can, and goes at the end', async () => {
    // A file stands where the directory would be made: so for root, too.
    const blocked = join(directory, 'run');
    await writeFile(blocked, '');
    const subnetFile = join(blocked, 'flannel', 'subnet.env');
    const { start, store, daemon, planes, controller } = setUp({ subnetFile });
    const done = start();
    store.snapshot(OWN, PEER);
    await vi.waitFor(() => {
      expect(planes.opened[0]?.started).toBe(true);
    });
    expect(daemon.readiness()).toMatchObject({
      ready: false,
      synced: true,
      subnetFileWritten: false,
      problems: [
        {
          id: 'status_socket_missing',
          message: expect.stringMatching(/cannot create the status socket .*ENOTDIR/) as string,
        },
      ],
    });
    await rm(blocked);
    await vi.waitFor(
      () => {
        expect(daemon.readiness()).toMatchObject({ ready: true, problems: [] });
      },
      { timeout: 10_000 },
    );
    expect((await readdir(join(blocked, 'flannel'))).sort()).toEqual([
      'subnet.env',
      'subnet.env.sock',
    ]);
    controller.abort();
    await done;
    expect(await readdir(join(blocked, 'flannel'))).toEqual(['subnet.env']);
  });

  it('does not outlive a start that fails', async () => {
    const subnetFile = join(directory, 'run', 'subnet.env');
    await writeFile(join(directory, 'run'), '');
    const { start } = setUp({ subnetFile, iface: ['eth9'] });
    await expect(start()).rejects.toMatchObject({ field: '--iface' });
  });
});

describe('a failed start leaves nothing behind', () => {
  it.each([
    ['no such interface', { iface: ['eth9'] }, '--iface'],
    ['bad resync', { firewallResyncSeconds: 0 }, '--iptables-resync'],
  ] as const)('%s', async (_name, more, field) => {
    const { start, planes, store } = setUp(more);
    await expect(start()).rejects.toMatchObject({ kind: 'input', field });
    expect(planes.opened).toEqual([]);
    expect(store.requests).toEqual([]);
    expect(await readdir(directory)).toEqual([]);
  });

  it('bad network configuration in a lease file', async () => {
    const { start, store } = setUp();
    store.kind = 'file';
    store.config = '{"Network":"100.96.0.0/16","SubnetLen":31,"Backend":{"Type":"udp"}}';
    const error: unknown = await start().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FlannelletteError);
    expect(String(error)).toContain('SubnetLen');
    expect(store.closed).toBe(true);
  });

  it('another backend', async () => {
    const { start, store } = setUp();
    store.config = '{"Network":"100.96.0.0/16","Backend":{"Type":"ipip"}}';
    await expect(start()).rejects.toThrow('Backend.Type: "ipip" is not valid: expected "udp"');
  });

  it('port taken', async () => {
    const { start, planes, store } = setUp();
    planes.failures.push(systemError('UDP port 8285 is taken (EADDRINUSE)'));
    await expect(start()).rejects.toThrow('UDP port 8285 is taken');
    expect(store.closed).toBe(true);
    expect(await readdir(directory)).toEqual([]);
  });

  it('a live daemon beside the same subnet file', async () => {
    const first = setUp();
    void first.start();
    await vi.waitFor(askDaemon);
    const second = setUp();
    await expect(second.start()).rejects.toThrow(`another daemon (pid ${process.pid}) answers on`);
    expect(second.planes.opened).toEqual([]);
    expect((await askDaemon()).pid).toBe(process.pid);
  });

  it('health port taken', async () => {
    const first = setUp();
    void first.start();
    await vi.waitFor(askDaemon);
    // Its own status socket is taken away again when the TCP port is refused.
    const { createServer } = await import('node:net');
    const blocker = createServer().listen(0, '127.0.0.1');
    await vi.waitFor(() => {
      expect(blocker.listening).toBe(true);
    });
    const address = blocker.address();
    const healthzPort = typeof address === 'object' && address !== null ? address.port : 0;
    const subnetFile = join(directory, 'second.env');
    const second = setUp({ subnetFile, healthzPort });
    await expect(second.start()).rejects.toThrow('--healthz-port');
    expect(await readdir(directory)).toEqual(['subnet.env.sock']);
    expect(second.planes.live()).toBe(0);
    blocker.close();
  });
});

describe('validateDaemonOptions', () => {
  it.each([
    [{ store: { kind: 'file', path: '' } }, '--lease-file'],
    [{ store: { kind: 'memory' } }, 'store'],
    [{ store: undefined }, 'store'],
    [{ store: { kind: 'etcd', endpoints: ['ftp://a'] } }, '--etcd-endpoints'],
    [{ publicIp: '10.168.0' }, '--public-ip'],
    [{ subnetFile: `/run/${'x'.repeat(98)}` }, '--subnet-file'],
    [{ subnetFile: '/run/flannel/' }, '--subnet-file'],
    [{ healthzIp: 'local host' }, '--healthz-ip'],
    [{ healthzPort: 65_536 }, '--healthz-port'],
    [{ leaseRenewMarginMinutes: 0 }, '--subnet-lease-renew-margin'],
    [{ leaseRenewMarginMinutes: 1440 }, '--subnet-lease-renew-margin'],
    [{ firewallResyncSeconds: 86_401 }, '--iptables-resync'],
    [{ ifaceRegex: ['['] }, '--iface-regex'],
    [{ ifaceCanReach: 'x' }, '--iface-can-reach'],
  ])('refuses %o', (more, field) => {
    const check = () => {
      validateDaemonOptions(resolveDaemonOptions({ ...options, ...more } as DaemonOptions));
    };
    expect(check).toThrow(expect.objectContaining({ kind: 'input', field }) as Error);
  });

  it('accepts the longest path a socket can have', () => {
    const subnetFile = `/${'x'.repeat(101)}`;
    expect(Buffer.byteLength(`${subnetFile}.sock`)).toBe(107);
    expect(() => {
      validateDaemonOptions(resolveDaemonOptions({ ...options, subnetFile }));
    }).not.toThrow();
  });
});
