/**
 * Mode kernel by FOU: the kernel's own tunnel on udp's wire, set up and kept by the daemon, which carries
 * nothing. Where the kernel has none (most do not: docs/kernels.md), that is said, and packets go another
 * way; the rest is run by `npm test -- --stage old-kernel`, under a kernel built with it.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { probeKernel } from '../../src/dataplane/dataplane.js';
import { Capture } from '../../src/testbed/capture.js';
import type { DaemonProcess, DaemonSettings } from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { readSnmp } from '../../src/testbed/snmp.js';
import { addHost, hostPlan, removeHost, type HostPlan } from '../../src/testbed/topology.js';
import { IperfTarget, PingStream } from '../../src/testbed/traffic.js';
import { decodePacket } from '../../src/testbed/wire/packet.js';
import { sendNumbered, transfer } from '../support/exact.js';
import { ipv4Packet } from '../support/packets.js';
import {
  COMMAND,
  counters,
  featureOf,
  LEASE_FILE,
  sendDatagrams,
  TestLab,
} from '../support/test-lab.js';

const KERNEL = { mode: 'kernel' } as const;
const BYTES = 1024 * 1024;
/** Outer and inner IPv4 header behind Ethernet and UDP. */
const ETHERNET = 14;
const INNER = ETHERNET + 20 + 8;
/** 10.168.0.2 */
const NEAR = 0x0aa80002;
const GOOD = { source: '100.96.2.3', destination: '100.96.1.2' };
const features = probeKernel();
const probed = (feature: string) => features.find(({ name }) => name === feature);
const fou = probed('fou');

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

async function setUp(
  near: Partial<DaemonSettings> = KERNEL,
  far: Partial<DaemonSettings> = KERNEL,
): Promise<TestLab> {
  lab = await TestLab.pair(near, far);
  return lab;
}

const stateOf = (daemon: DaemonProcess, feature = 'fou') => featureOf(daemon, feature);

/** `ping` from the near container; what it said. */
async function pings({ near, far }: TestLab, ...flags: string[]): Promise<string> {
  const argv = ['ping', '-n', '-i', '0.01', '-W', '1', '-c', '10', ...flags, far.containerAddress];
  return (await run(inNamespace(near.container, argv), { accept: [0, 1] })).stdout;
}

const forwards = (now: TestLab, ms = 8_000): Promise<true> =>
  waitFor('the way', ms, async () =>
    (await pings(now)).includes(' 0% packet loss') ? true : undefined,
  );

async function said(plan: HostPlan, ...argv: string[]): Promise<string> {
  return (await run(inNamespace(plan.host, argv), { accept: [0, 1, 2, 255] })).stdout;
}

/** What of a tunnel there is: its device, its port, its table, its routes. */
async function parts(plan: HostPlan): Promise<string[]> {
  const device = await said(plan, 'ip', '-br', 'link', 'show', 'dev', 'flannel0');
  const port = await said(plan, 'ip', 'fou', 'show');
  const table = await said(plan, 'nft', 'list', 'tables');
  const routes = await said(plan, 'ip', 'route');
  return [
    ...(device === '' ? [] : ['device']),
    ...(port.includes('8285') ? ['port'] : []),
    ...(table.includes('flannelette-fou') ? ['table'] : []),
    ...(routes.includes('unreachable 100.96.0.0/16') ? ['overlay'] : []),
    ...(routes.includes('onlink') ? ['route'] : []),
  ];
}
const ALL = ['device', 'port', 'table', 'overlay', 'route'];

async function received(host: HostPlan): Promise<number> {
  return (await readSnmp(host.container))('Ip', 'InReceives');
}

function withoutFou(): void {
  it('is said to be one, and packets go another way', async () => {
    const now = await setUp();
    expect(fou?.detail).toMatch(/CONFIG_NET_(FOU|IPIP|FOU_IP_TUNNELS)|CONFIG_NF_TABLES|nf_tables/);
    expect(await stateOf(now.nearDaemon)).toBe('refused');
    expect(now.nearDaemon.program.stderr).toMatch(/no tunnel by FOU; trying eBPF/);
    await forwards(now);
    expect(await parts(now.near)).toEqual(['device']);
  });

  it('goes over to eBPF at run time, with nothing left of what was tried', async () => {
    // Of what it gives up at the start in mode offload, eBPF needs some.
    const now = await setUp({ mode: 'offload', flags: ['--drop-privileges=false'] });
    await forwards(now);
    await now.nearDaemon.changeMode('kernel');
    expect(await stateOf(now.nearDaemon)).toBe('refused');
    const programs = probed('kernel-path')?.state === 'yes' ? 'active' : 'refused';
    expect(await stateOf(now.nearDaemon, 'kernel-path')).toBe(programs);
    await forwards(now);
    expect(await parts(now.near)).toEqual(['device']);
    expect(await said(now.near, 'ip', '-br', 'link')).not.toContain('fltry');
  });
}

/** One CPU, which also starts every program. */
const LIMIT = { timeout: 300_000 };

function withFou(): void {
  it('has the kernel alone carry packets, with MTU, DF and fragments as in user space', async () => {
    const now = await setUp();
    expect(await stateOf(now.nearDaemon)).toBe('active');
    expect(await stateOf(now.nearDaemon, 'kernel-path')).toBe('unused');
    await forwards(now);
    expect(await parts(now.near)).toEqual(ALL);
    const before = await counters(now.nearDaemon, 'encapsulate');
    const answered = await pings(now, '-M', 'do', '-s', '1444');
    expect(answered).toContain('10 received');
    // Each end forwards once; no daemon takes one more.
    expect(answered).toContain('ttl=62');
    const after = await counters(now.nearDaemon, 'encapsulate');
    expect(after.kernelPackets - before.kernelPackets).toBe(10);
    expect([after.receivedPackets, after.sentPackets]).toEqual([0, 0]);
    expect(await pings(now, '-s', '4000')).toContain('10 received');
    expect(await pings(now, '-M', 'do', '-s', '1445', '-c', '1')).toContain('+1 errors');
    const env = await now.nearDaemon.readSubnetFile();
    expect(env.FLANNEL_MTU).toBe('1472');
  });

  it('answers for subnets that nobody holds, and for the TTL', async () => {
    const now = await setUp();
    await forwards(now);
    const from = async (...words: string[]): Promise<string> => {
      const argv = ['ping', '-n', '-c', '1', '-W', '2', ...words];
      return (await run(inNamespace(now.near.container, argv), { accept: [1] })).stdout;
    };
    expect(await from('100.96.9.9')).toContain(
      'From 100.96.1.1 icmp_seq=1 Destination Host Unreach',
    );
    expect(await from('-t', '1', now.far.containerAddress)).toContain(
      'From 100.96.1.1 icmp_seq=1 Time to live',
    );
    // As forwarded by the other end, whose tunnel has that address.
    expect(await from('-t', '2', now.far.containerAddress)).toContain(
      'From 100.96.2.0 icmp_seq=1 Time to live',
    );
  });

  it('passes on what a path takes less of as the kernel learns it', async () => {
    const now = await setUp();
    await forwards(now);
    await run(
      inNamespace(now.near.host, [
        'ip',
        'route',
        'replace',
        `${now.far.address}/32`,
        'dev',
        'eth0',
        'mtu',
        '1400',
      ]),
    );
    const argv = [
      'ping',
      '-n',
      '-c',
      '2',
      '-W',
      '1',
      '-i',
      '0.2',
      '-M',
      'do',
      '-s',
      '1444',
      now.far.containerAddress,
    ];
    const { stdout } = await run(inNamespace(now.near.container, argv), { accept: [0, 1] });
    expect(stdout).toContain('mtu = 1372');
    // Without DF the datagram is cut on the way.
    expect(await pings(now, '-M', 'dont', '-s', '1444')).toContain('10 received');
  });

  it.each(['kernel', 'offload', 'batch', 'basic'] as const)(
    'transfers byte for byte to and from mode %s, by TCP, UDP and in fragments',
    async (mode) => {
      const now = await setUp(KERNEL, { mode });
      await forwards(now);
      // One after the other: one CPU starts all the programs.
      for (const [from, to] of [
        [now.near, now.far],
        [now.far, now.near],
      ] as const) {
        await transfer(from, to, BYTES);
        await sendNumbered(from, to, 200, 1_200);
        await sendNumbered(from, to, 50, 4_000);
      }
      const { gbps } = await new IperfTarget(now.far).tcp(now.near, { seconds: 1 });
      expect(gbps).toBeGreaterThan(0);
      expect((await counters(now.nearDaemon, 'decapsulate')).kernelPackets).toBeGreaterThan(100);
    },
  );

  it('sends packets whose checksums are finished, in datagrams with one', async () => {
    const now = await setUp(KERNEL, { mode: 'basic' });
    await forwards(now);
    const capture = await Capture.start({ namespace: now.near.host, filter: 'udp port 8285' });
    await new IperfTarget(now.far).tcp(now.near, { seconds: 1 });
    const frames = await capture.stop();
    const inner = frames
      .filter((frame) => frame.length > INNER + 20)
      .map((frame) => decodePacket(frame.subarray(INNER))?.transport);
    const tcp = inner.filter((one) => one?.protocol === 'tcp');
    expect(tcp.length).toBeGreaterThan(10);
    expect(new Set(tcp.map((one) => one?.checksumState))).toEqual(new Set(['right']));
    expect(frames.every((frame) => frame.readUInt16BE(ETHERNET + 20 + 6) !== 0)).toBe(true);
    const sent = frames.filter((frame) => frame.readUInt32BE(ETHERNET + 12) === NEAR);
    const outer = sent.map((frame) => ({
      port: frame.readUInt16BE(ETHERNET + 20),
      ttl: frame.readUInt8(ETHERNET + 8),
      dscp: frame.readUInt8(ETHERNET + 1) >> 2,
      // The outer's and the packet's own.
      dontFragment: [ETHERNET, INNER].map((at) => (frame.readUInt8(at + 6) & 0x40) !== 0),
    }));
    const seen = new Set(outer.map((one) => JSON.stringify(one)));
    expect([...seen]).toEqual([
      JSON.stringify({ port: 8285, ttl: 64, dscp: 0, dontFragment: [true, true] }),
    ]);
  });

  it('lets nobody in whom the daemon would not', async () => {
    const now = await setUp();
    await forwards(now);
    const stranger = hostPlan(3);
    await addHost(stranger);
    try {
      // What a lease holder sends arrives.
      const before = await received(now.near);
      await sendDatagrams(now.far, now.near.address, [ipv4Packet(GOOD)]);
      await waitFor('a good packet', 5_000, async () =>
        (await received(now.near)) > before ? true : undefined,
      );
      const count = await received(now.near);
      const own = { ...GOOD, source: stranger.address };
      await sendDatagrams(stranger, now.near.address, [ipv4Packet(GOOD), ipv4Packet(own)]);
      const sources = ['100.96.7.7', '100.96.1.9', stranger.address, '8.8.8.8'];
      await sendDatagrams(now.far, now.near.address, [
        ...sources.map((source) => ipv4Packet({ ...GOOD, source })),
        ipv4Packet({ ...GOOD, destination: '100.96.9.9' }),
      ]);
      // Plain ipip, which the device would take as well.
      await sendIpip(now.far, now.near.address, ipv4Packet(GOOD));
      await sendIpip(stranger, now.near.address, ipv4Packet(GOOD));
      // Also when the daemon is dead.
      now.nearDaemon.program.kill('SIGKILL');
      await now.nearDaemon.program.ended;
      await sendDatagrams(stranger, now.near.address, [ipv4Packet(GOOD)]);
      // Behind all of them: what comes by the same way is let in.
      await sendDatagrams(now.far, now.near.address, [ipv4Packet(GOOD)]);
      await waitFor('the last packet', 5_000, async () =>
        (await received(now.near)) > count ? true : undefined,
      );
      expect(await received(now.near)).toBe(count + 1);
    } finally {
      await removeHost(stranger);
    }
  });

  it('lets in what the check is switched off for', async () => {
    const now = await setUp({ ...KERNEL, flags: ['--source-check=false'] }, KERNEL);
    await forwards(now);
    expect(await parts(now.near)).not.toContain('table');
    const before = await received(now.near);
    await sendDatagrams(now.far, now.near.address, [ipv4Packet({ ...GOOD, source: '100.96.7.7' })]);
    await waitFor('the packet', 5_000, async () =>
      (await received(now.near)) > before ? true : undefined,
    );
  });

  it.each([
    ['the device deleted', ['ip', 'link', 'del', 'flannel0']],
    ['the device set down', ['ip', 'link', 'set', 'flannel0', 'down']],
    ['the port closed', ['ip', 'fou', 'del', 'port', '8285', 'local', '10.168.0.2']],
    ['the rules flushed', ['nft', 'flush', 'ruleset']],
    ['a route deleted', ['ip', 'route', 'del', '100.96.2.0/24']],
    ['the rest of the overlay deleted', ['ip', 'route', 'del', 'unreachable', '100.96.0.0/16']],
    ['its address deleted', ['ip', 'address', 'flush', 'dev', 'flannel0']],
    ['checksums left to others', ['ethtool', '-K', 'flannel0', 'tx', 'on']],
  ])('puts back what others took away: %s', async (_, argv) => {
    const now = await setUp();
    await forwards(now);
    await run(inNamespace(now.near.host, argv));
    await waitFor('everything', 8_000, async () => {
      const switches = await said(now.near, 'ethtool', '-k', 'flannel0');
      const addresses = await said(
        now.near,
        'ip',
        '-4',
        '-br',
        'address',
        'show',
        'dev',
        'flannel0',
      );
      const whole =
        (await parts(now.near)).length === ALL.length &&
        switches.includes('tx-checksumming: off') &&
        addresses.includes('100.96.1.0/32');
      return whole ? true : undefined;
    });
    await forwards(now);
    expect((await now.nearDaemon.status()).dataPlane?.error).toBe(null);
  });

  it('takes away what it did not put there', async () => {
    const now = await setUp();
    await forwards(now);
    const stale = ['ip', 'route', 'add', '100.96.77.0/24', 'via', '10.168.0.9', 'dev', 'flannel0'];
    await run(inNamespace(now.near.host, [...stale, 'onlink']));
    await waitFor('the stale route to go', 8_000, async () =>
      (await said(now.near, 'ip', 'route')).includes('100.96.77.0') ? undefined : true,
    );
    const table = 'flannelette-fou-0aa80002205d';
    const element = ['add', 'element', 'ip', table, 'hosts24', '{ 10.168.0.9 . 100.96.77.0 }'];
    await run(inNamespace(now.near.host, ['nft', ...element]));
    await waitFor('the stale element to go', 8_000, async () =>
      (await said(now.near, 'nft', 'list', 'table', 'ip', table)).includes('100.96.77.0')
        ? undefined
        : true,
    );
  });

  it('leaves nothing behind, and clears up after a kill in whatever mode', async () => {
    const now = await setUp();
    await forwards(now);
    await now.nearDaemon.stop();
    expect(await parts(now.near)).toEqual([]);
    now.daemons.shift();
    const again = await now.startDaemon(now.near, KERNEL);
    await forwards(now);
    again.program.kill('SIGKILL');
    await again.program.ended;
    expect(await parts(now.near)).toEqual(ALL);
    // The kernel goes on by itself.
    await forwards(now);
    const basic = await now.startDaemon(now.near, { mode: 'basic' });
    await forwards(now);
    expect(await parts(now.near)).toEqual(['device']);
    expect(await stateOf(basic)).toBe('unused');
  });

  it('takes over from the daemon at run time and gives back, for a few packets', async () => {
    const now = await setUp({ mode: 'offload' });
    await forwards(now);
    const stream = new PingStream(now.near, now.far.containerAddress, { intervalSeconds: 0.02 });
    await now.nearDaemon.changeMode('kernel');
    expect(await stateOf(now.nearDaemon)).toBe('active');
    expect(await parts(now.near)).toEqual(ALL);
    expect(await said(now.near, 'ip', '-br', 'link')).not.toContain('fltry');
    expect(await said(now.near, 'ip', 'fou', 'show')).toMatch(/^port 8285 [^\n]*\n?$/m);
    await forwards(now);
    const { dataPlane } = await now.nearDaemon.status();
    expect(dataPlane?.mode).toBe('kernel');
    await now.nearDaemon.changeMode('batch');
    expect(await stateOf(now.nearDaemon)).toBe('unused');
    expect(await parts(now.near)).toEqual(['device']);
    await forwards(now);
    const { sent, received: answered } = await stream.end();
    expect(sent).toBeGreaterThan(20);
    expect(sent - answered).toBeLessThanOrEqual(10);
  });

  it('goes on without a daemon, and with the next one, by --keep-forwarding', async () => {
    const keep = { ...KERNEL, flags: ['--keep-forwarding'] };
    const now = await setUp(keep, KERNEL);
    await forwards(now);
    const index = await said(now.near, 'cat', '/sys/class/net/flannel0/ifindex');
    const stream = new PingStream(now.near, now.far.containerAddress, { intervalSeconds: 0.02 });
    await now.nearDaemon.stop();
    expect(await parts(now.near)).toEqual(ALL);
    // Of a host that went meanwhile.
    const stale = ['ip', 'route', 'add', '100.96.77.0/24', 'via', '10.168.0.9', 'dev', 'flannel0'];
    await run(inNamespace(now.near.host, [...stale, 'onlink']));
    now.daemons.shift();
    const next = await now.startDaemon(now.near, keep);
    await waitFor('the stale route to go', 8_000, async () =>
      (await said(now.near, 'ip', 'route')).includes('100.96.77.0') ? undefined : true,
    );
    const { sent, received: answered } = await stream.end();
    expect(sent).toBeGreaterThan(20);
    expect(sent - answered).toBeLessThanOrEqual(1);
    expect(await said(now.near, 'cat', '/sys/class/net/flannel0/ifindex')).toBe(index);
    expect(await stateOf(next)).toBe('active');
  });

  it('is left alone by another daemon that wants the same address and port', async () => {
    const now = await setUp();
    await forwards(now);
    const flags = [`--lease-file=${LEASE_FILE}`, '--iface=eth0', '--subnet-file=/run/other.env'];
    for (const mode of ['kernel', 'basic']) {
      const argv = [...COMMAND, 'run', `--mode=${mode}`, ...flags];
      const { code, stderr } = await run(inNamespace(now.near.host, argv), {
        accept: [0, 1, 2],
        timeoutMs: 60_000,
      });
      expect([code, stderr]).toEqual([1, expect.stringContaining('UDP port 8285 is taken')]);
    }
    expect(await parts(now.near)).toEqual(ALL);
    expect(await pings(now)).toContain('10 received');
  });

  it('is by eBPF where FOU is switched off, and by the daemon where there is neither', async () => {
    // The verifier of the kernel built for this, 6.1.192, wants CAP_PERFMON besides.
    const flags = ['--disable=fou', '--drop-privileges=false'];
    const now = await setUp({ ...KERNEL, flags }, KERNEL);
    expect(await stateOf(now.nearDaemon)).toBe('disabled');
    const programs = probed('kernel-path')?.state === 'yes' ? 'active' : 'refused';
    expect(await stateOf(now.nearDaemon, 'kernel-path')).toBe(programs);
    await forwards(now);
  });
}

if (fou?.state === 'yes') describe('mode kernel by FOU', LIMIT, withFou);
else describe('a kernel without FOU', withoutFou);

/** A packet in plain ipip, without UDP. */
async function sendIpip(from: HostPlan, to: string, packet: Buffer): Promise<void> {
  const script =
    'import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 4); ' +
    's.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 0))';
  const argv = ['python3', '-c', script, to, packet.toString('hex')];
  await run(inNamespace(from.host, argv), { timeoutMs: 30_000 });
}
