import { describe, expect, it } from 'vitest';
import { formatBytes, formatCount, formatDuration } from '../../../src/text.js';
import { formatStatus } from '../../../src/cli/status-command.js';
import type { DaemonStatus } from '../../../src/daemon/status.js';
import { counters } from '../../support/fake-dataplane.js';

const NOW = Date.parse('2026-01-01T00:00:00Z');

const STATUS: DaemonStatus = {
  version: '1.2.3',
  pid: 7,
  mode: 'batch',
  ready: true,
  phase: 'running',
  uptimeSeconds: 93_784,
  store: { kind: 'file', location: '/srv/leases.json', error: null, leasesAsOf: null },
  network: '100.96.0.0/16',
  lease: { subnet: '100.96.1.0/24', expiresAt: '2026-01-01T23:30:00.000Z', lost: null },
  external: { name: 'eth0', address: '10.168.0.2', publicIp: '10.168.0.2', mtu: 1500 },
  backend: 'udp',
  device: 'flannel0',
  mtu: 1472,
  routes: [
    { subnet: '100.96.2.0/24', nextHop: '10.168.0.3', way: 'tunnel' },
    {
      subnet: '100.96.3.0/24',
      nextHop: '10.168.0.4',
      way: 'direct',
      why: 'on the segment of eth0',
    },
  ],
  rejected: [],
  firewall: { enabled: true, inPlace: true, error: null, repairs: 0 },
  problems: [],
  dataPlane: {
    mode: 'batch',
    error: null,
    restarts: 0,
    features: [],
    queues: { tunPackets: 1_000, socketReceiveBytes: 8_388_608, socketSendBytes: 4_194_304 },
    threads: [
      counters('encapsulate', 12_345, { queueDrops: 70, drops: { no_route: 3, short: 0 } }),
      counters('decapsulate', 1, { drops: { no_route: 0, short: 9 } }),
    ],
  },
  features: [],
};

describe('formatStatus', () => {
  it('prints lease, routes, counters and drops, what happened first', () => {
    expect(formatStatus(STATUS, NOW)).toBe(`daemon     flannelette 1.2.3, pid 7, up 1 d 2 h, ready
network    100.96.0.0/16
lease      100.96.1.0/24, expires 2026-01-01T23:30:00.000Z (in 23 h 30 min)
device     flannel0, MTU 1472, mode batch
external   eth0 10.168.0.2, MTU 1500
store      file /srv/leases.json
firewall   rules in place
queues     device 1,000 packets, socket 8.0 MiB in, 4.0 MiB out

Routes
  subnet         host        by
  ---------------------------------------------------------
  100.96.2.0/24  10.168.0.3  tunnel
  100.96.3.0/24  10.168.0.4  direct: on the segment of eth0

Counters
  direction    received    bytes    sent    bytes  dropped  ICMP errors  system calls
  -----------------------------------------------------------------------------------
  encapsulate    12,345  1.2 MiB  12,345  1.2 MiB        3            0        24,690
  decapsulate         1    100 B       1    100 B        9            0             2

Drops
  reason                 direction    packets
  -------------------------------------------
  (queue of the device)  encapsulate       70
  short                  decapsulate        9
  no_route               encapsulate        3
`);
  });

  it('says of a firewall that was not asked for that it is off', () => {
    const firewall = { enabled: false, inPlace: true, error: null, repairs: 0 };
    expect(formatStatus({ ...STATUS, firewall }, NOW)).toContain(
      'firewall   rules off: neither --ip-masq nor --iptables-forward-rules\n',
    );
  });

  it('says which privileges the daemon has left', () => {
    const shown = (capabilities: readonly string[], noNewPrivileges: boolean | null) =>
      /^privileges (.*)$/m.exec(
        formatStatus({ ...STATUS, privileges: { capabilities, noNewPrivileges } }, NOW),
      )?.[1];
    expect(shown(['NET_ADMIN', 'NET_RAW'], true)).toBe('CAP_NET_ADMIN, CAP_NET_RAW');
    expect(shown([], null)).toBe('none, may gain others');
    const many = Array.from({ length: 41 }, (_, number) => String(number));
    expect(shown(many, false)).toBe('41 capabilities, may gain others');
  });

  it('does not let what others wrote speak to the terminal', () => {
    const evil = '\u001b]0;title\u0007\u009b31m\nnext';
    const text = formatStatus(
      {
        ...STATUS,
        rejected: [{ key: evil, reason: 'bad' }],
        problems: [{ id: 'x', message: evil }],
      },
      NOW,
    );
    expect(text.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
    expect(text).toContain('\\u001b]0;title\\u0007\\u009b31m\\nnext');
  });

  it('prints 50 routes of a large network and how many more there are', () => {
    const routes = Array.from({ length: 65_535 }, (_, index) => ({
      subnet: `10.${index >> 8}.${index & 255}.0/24`,
      nextHop: '192.168.77.3',
      way: 'tunnel' as const,
    }));
    const lines = formatStatus({ ...STATUS, routes }, NOW).split('\n');
    expect(lines.filter((line) => line.includes('192.168.77.3'))).toHaveLength(50);
    expect(lines).toContain('  and 65,485 more of 65,535: see --json');
  });

  it('says what is wrong', () => {
    const text = formatStatus(
      {
        ...STATUS,
        ready: false,
        phase: 'waiting for the leases',
        store: {
          kind: 'file',
          location: '/srv/leases.json',
          error: 'torn',
          leasesAsOf: '2025-12-31T23:58:00.000Z',
        },
        firewall: { enabled: true, inPlace: false, error: 'iptables is not installed', repairs: 2 },
        lease: { subnet: '100.96.1.0/24', expiresAt: null, lost: 'taken over' },
        external: { name: 'eth0', address: '10.168.0.2', publicIp: '203.0.113.7', mtu: 1500 },
        routes: [],
        rejected: [{ key: '10.0.0.0-24', reason: 'outside Network' }],
        dataPlane: {
          mode: 'batch',
          error: 'ENETDOWN',
          restarts: 2,
          features: [],
          threads: [],
          queues: null,
        },
      },
      NOW,
    );
    for (const line of [
      'not ready: waiting for the leases',
      'DEGRADED: torn',
      'as of 2025-12-31T23:58:00.000Z, 2 min ago',
      'rules not in place, repaired 2 times, FAILING: iptables is not installed',
      'LOST: taken over',
      'public 203.0.113.7',
      'DOWN: ENETDOWN',
      '2 of the data plane',
      'no other host holds a lease',
      '10.0.0.0-24  outside Network',
    ]) {
      expect(text).toContain(line);
    }
  });

  it('tells a reservation from a lease that ended', () => {
    const withExpiry = (expiresAt: string | null) =>
      formatStatus({ ...STATUS, lease: { subnet: '100.96.1.0/24', expiresAt, lost: null } }, NOW);
    expect(withExpiry(null)).toContain('100.96.1.0/24, reserved');
    expect(withExpiry('2025-12-31T00:00:00.000Z')).toContain('EXPIRED 2025-12-31');
  });

  it('prints a daemon that has only begun', () => {
    const text = formatStatus(
      {
        ...STATUS,
        ready: false,
        phase: 'starting',
        store: null,
        network: null,
        lease: null,
        external: null,
        device: null,
        mtu: null,
        routes: [],
        dataPlane: null,
      },
      NOW,
    );
    expect(text).toContain('lease      none yet');
    expect(text).toContain('no data plane yet');
  });
});

describe('numbers', () => {
  it('counts, sizes and durations', () => {
    expect(formatCount(1_234_567)).toBe('1,234,567');
    expect([0, 1023, 1536, 5 * 1024 ** 4].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1.5 KiB',
      '5.0 TiB',
    ]);
    expect([0, 59, 60, 3_601, 90_000].map(formatDuration)).toEqual([
      '0 s',
      '59 s',
      '1 min',
      '1 h',
      '1 d 1 h',
    ]);
  });
});
