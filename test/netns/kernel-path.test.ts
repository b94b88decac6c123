/**
 * Mode kernel: eBPF programs carry packets inside the kernel, on the same wire, and the daemon's
 * threads carry what the programs leave. Beside it every other mode, faults, and hostile neighbours.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { probeKernel } from '../../src/dataplane/dataplane.js';
import type { DaemonProcess, DaemonSettings } from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { readSnmp } from '../../src/testbed/snmp.js';
import { addHost, hostPlan, removeHost, type HostPlan } from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { transferBothWays } from '../support/exact.js';
import { ipv4Packet } from '../support/packets.js';
import {
  COMMAND,
  counters,
  featureOf,
  LEASE_FILE,
  linkPackets,
  ROOT,
  sendDatagrams,
  TestLab,
  waitForDrops,
} from '../support/test-lab.js';

const BYTES = 8 * 1024 * 1024;
const KERNEL = { mode: 'kernel' } as const;
const GOOD = { source: '100.96.2.3', destination: '100.96.1.2' };
/** Where the decapsulation device listens (native/sys/kernel_path.cc). */
const DEVICE_PORT = 61285;
const features = probeKernel();
/** What UDP_GRO is in once it is wanted; Linux before 5.12 does without. */
const GRO = features.find(({ name }) => name === 'udp-gro')?.state === 'yes' ? 'active' : 'refused';
const missing = features.find(({ name, state }) => name === 'kernel-path' && state !== 'yes');

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

const stateOf = (daemon: DaemonProcess, feature = 'kernel-path') => featureOf(daemon, feature);

/** What the kernel carried out of and into a host. */
async function inKernel(daemon: DaemonProcess): Promise<[number, number]> {
  return [
    (await counters(daemon, 'encapsulate')).kernelPackets,
    (await counters(daemon, 'decapsulate')).kernelPackets,
  ];
}

/** Waits until the hosts have found out what their path takes: those probes are counted as well. */
async function probesEnd(daemon: DaemonProcess): Promise<void> {
  let before = '';
  await waitFor('the end of the path MTU probes', 10_000, async () => {
    const now = String(await inKernel(daemon));
    const same = now === before;
    before = now;
    await delay(1_000);
    return same || undefined;
  });
}

async function pings({ near, far }: TestLab, ...flags: string[]): Promise<string> {
  const argv = ['ping', '-n', '-i', '0.01', '-W', '1', '-c', '10', ...flags, far.containerAddress];
  return (await run(inNamespace(near.container, argv), { accept: [0, 1] })).stdout;
}

async function devices(host: HostPlan): Promise<string[]> {
  const argv = inNamespace(host.host, ['ip', '-br', 'link', 'show', 'type', 'vxlan']);
  const { stdout } = await run(argv, { accept: [0, 1] });
  return stdout.split('\n').flatMap((line) => line.split(/\s+/)[0] || []);
}

describe.skipIf(missing !== undefined)('mode kernel', () => {
  it('carries packets in the kernel alone, with TTL, MTU and fragments as in user space', async () => {
    const now = await setUp();
    expect(await stateOf(now.nearDaemon)).toBe('active');
    expect(await stateOf(now.nearDaemon, 'udp-gro')).toBe('unused');
    await probesEnd(now.nearDaemon);
    const calls = await counters(now.nearDaemon, 'encapsulate');
    const before = await inKernel(now.nearDaemon);
    const said = await pings(now, '-M', 'do', '-s', '1444');
    expect(said).toContain('10 received');
    expect(said).toContain('ttl=60');
    expect((await inKernel(now.nearDaemon)).map((packets, at) => packets - before[at]!)).toEqual([
      10, 10,
    ]);
    expect(await pings(now, '-s', '4000')).toContain('10 received');
    const after = await counters(now.nearDaemon, 'encapsulate');
    expect(after.receivedPackets).toBe(calls.receivedPackets);
    expect(await pings(now, '-M', 'do', '-s', '1445', '-c', '1')).toContain('+1 errors');
  });

  it('counts what comes in as what went out, in packets and not in trains', async () => {
    const { near, far, nearDaemon, farDaemon } = await setUp();
    await new IperfTarget(far).tcp(near, { seconds: 1 });
    const [out] = await inKernel(nearDaemon);
    const [, into] = await inKernel(farDaemon);
    expect(out).toBeGreaterThan(10_000);
    expect(Math.abs(into - out) / out).toBeLessThan(0.05);
  });

  it('leaves to the daemon what has to be answered', async () => {
    const now = await setUp();
    const from = async (...words: string[]): Promise<string> => {
      const argv = ['ping', '-n', '-c', '1', '-W', '2', ...words];
      return (await run(inNamespace(now.near.container, argv), { accept: [1] })).stdout;
    };
    expect(await from('100.96.9.9')).toContain(
      'From 100.96.1.1 icmp_seq=1 Destination Net Unreach',
    );
    // docker0 takes one, this end of the tunnel the second, the other end the third.
    expect(await from('-t', '2', '100.96.2.3')).toContain(
      'From 100.96.1.1 icmp_seq=1 Time to live',
    );
    expect(await from('-t', '3', '100.96.2.3')).toContain(
      'From 100.96.2.0 icmp_seq=1 Time to live',
    );
  });

  it.each(['kernel', 'offload', 'batch', 'basic'] as const)(
    'transfers byte for byte to and from mode %s',
    async (mode) => {
      const { near, far, nearDaemon } = await setUp(KERNEL, { mode });
      await transferBothWays(near, far, BYTES);
      const { gbps } = await new IperfTarget(far).tcp(near, { seconds: 1 });
      expect(gbps).toBeGreaterThan(0);
      const [out, into] = await inKernel(nearDaemon);
      expect(out).toBeGreaterThan(100);
      expect(into).toBeGreaterThan(100);
    },
    120_000,
  );

  it('lets nobody in whom the daemon would not', async () => {
    const now = await setUp();
    const stranger = hostPlan(3);
    await addHost(stranger);
    try {
      const device = await linkPackets(now.near.host, 'flannel0');
      await sendDatagrams(stranger, now.near.address, [ipv4Packet(GOOD)]);
      await waitForDrops(now.nearDaemon, 'decapsulate', 'unknown_source', 1);
      const foreign = { ...GOOD, source: '100.96.7.7' };
      await sendDatagrams(now.far, now.near.address, [ipv4Packet(foreign)]);
      await waitForDrops(now.nearDaemon, 'decapsulate', 'source_mismatch', 1);
      await sendDatagrams(now.far, now.near.address, [
        ipv4Packet({ ...GOOD, destination: '8.8.8.8' }),
      ]);
      await waitForDrops(now.nearDaemon, 'decapsulate', 'foreign_destination', 1);
      expect(await linkPackets(now.near.host, 'flannel0')).toEqual(device);

      // Straight to the decapsulation device, as itself would write it; also when the daemon is dead.
      const gpe = Buffer.concat([Buffer.from('0c00000100000000', 'hex'), ipv4Packet(GOOD)]);
      const container = await ipReceived(now.near);
      await sendTo(stranger, now.near.address, gpe);
      now.nearDaemon.program.kill('SIGKILL');
      await now.nearDaemon.program.ended;
      await sendTo(stranger, now.near.address, gpe);
      expect(await ipReceived(now.near)).toBe(container);
    } finally {
      await removeHost(stranger);
    }
  });

  it('leaves nothing behind, nor does a kill', async () => {
    const now = await setUp();
    const [device] = await devices(now.near);
    expect(device).toBe('fx0aa80002205d');
    now.nearDaemon.program.kill('SIGKILL');
    await now.nearDaemon.program.ended;
    // It goes with the tunnel's device.
    expect(await devices(now.near)).toEqual([]);
    now.daemons.shift();
    await now.startDaemon(now.near, KERNEL);
    now.daemons.reverse();
    expect(await devices(now.near)).toEqual([device]);
    await waitFor('the way back', 5_000, async () =>
      (await pings(now)).includes(' 0% packet loss') ? true : undefined,
    );
    expect((await inKernel(now.nearDaemon))[0]).toBeGreaterThanOrEqual(10);
    await now.nearDaemon.stop();
    expect(await devices(now.near)).toEqual([]);
  });

  it('is left alone by another daemon that wants the same address and port', async () => {
    const now = await setUp();
    const device = ['ip', '-o', 'link', 'show', 'type', 'vxlan'];
    const { stdout: before } = await run(inNamespace(now.near.host, device));
    const flags = [`--lease-file=${LEASE_FILE}`, '--iface=eth0', '--subnet-file=/run/other.env'];
    const { code, stderr } = await run(
      inNamespace(now.near.host, [...COMMAND, 'run', '--mode=kernel', ...flags]),
      { accept: [0, 1, 2] },
    );
    expect([code, stderr]).toEqual([1, expect.stringContaining('UDP port 8285 is taken')]);
    expect((await run(inNamespace(now.near.host, device))).stdout).toBe(before);
    expect(await pings(now)).toContain('10 received');
  });

  it('makes a deleted device again, and goes on when the external interface comes back', async () => {
    const now = await setUp();
    await run(inNamespace(now.near.host, ['ip', 'link', 'del', 'fx0aa80002205d']));
    await waitFor('the device', 5_000, async () =>
      (await devices(now.near)).length === 1 ? true : undefined,
    );
    const before = await inKernel(now.nearDaemon);
    expect(await pings(now)).toContain('10 received');
    expect((await inKernel(now.nearDaemon))[1] - before[1]).toBe(10);
    await run(inNamespace(now.near.host, ['ip', 'link', 'del', 'flannel0']));
    await waitFor('the tunnel', 5_000, async () =>
      (await pings(now)).includes(' 0% packet loss') ? true : undefined,
    );
    await waitFor('the kernel', 5_000, async () => {
      const [, was] = await inKernel(now.nearDaemon);
      await pings(now);
      return (await inKernel(now.nearDaemon))[1] - was >= 10 ? true : undefined;
    });
  });

  it('gives way to the threads when a firewall drops what it hands over', async () => {
    const now = await setUp();
    const rule = ['-I', 'INPUT', '-p', 'udp', '--dport', String(DEVICE_PORT), '-j', 'DROP'];
    // 4: a kernel without nf_tables. A device that is down drops as well.
    const { code } = await run(inNamespace(now.near.host, ['iptables', ...rule]), {
      accept: [0, 4],
    });
    const down = ['ip', 'link', 'set', 'fx0aa80002205d', 'down'];
    if (code !== 0) await run(inNamespace(now.near.host, down));
    await waitFor('the fallback', 10_000, async () => {
      await pings(now);
      return (await stateOf(now.nearDaemon)) === 'refused' ? true : undefined;
    });
    expect(await pings(now)).toContain('10 received');
    expect(await stateOf(now.nearDaemon, 'udp-gro')).toBe(GRO);
    expect(await devices(now.near)).toEqual([]);
    const { gbps } = await new IperfTarget(now.near).tcp(now.far, { seconds: 1 });
    expect(gbps).toBeGreaterThan(0);
  });

  it('leaves hosts that are reached by another interface to the threads', async () => {
    const now = await setUp();
    // As a VPN would: a route to the other host by another device.
    const commands = [
      'ip link add vpn0 type veth peer name vpn1',
      'ip link set vpn1 up',
      'ip link set vpn0 up',
      `ip route add ${now.far.address}/32 dev vpn0`,
    ];
    for (const command of commands) await run(inNamespace(now.near.host, command.split(' ')));
    await waitFor('the threads', 5_000, async () => {
      const [was] = await inKernel(now.nearDaemon);
      await pings(now, '-c', '1');
      return (await inKernel(now.nearDaemon))[0] === was ? true : undefined;
    });
    await run(inNamespace(now.near.host, ['ip', 'link', 'del', 'vpn0']));
    await waitFor('the kernel', 5_000, async () => {
      const [was] = await inKernel(now.nearDaemon);
      const said = await pings(now);
      return said.includes('10 received') && (await inKernel(now.nearDaemon))[0] - was === 10
        ? true
        : undefined;
    });
  });

  it('is as offload where it is switched off', async () => {
    const { near, far, nearDaemon } = await setUp(
      { ...KERNEL, flags: ['--disable=kernel-path'] },
      KERNEL,
    );
    expect(await stateOf(nearDaemon)).toBe('disabled');
    expect(await stateOf(nearDaemon, 'udp-gro')).toBe(GRO);
    expect((await ping(near, far.containerAddress)).received).toBeGreaterThan(0);
    expect(await inKernel(nearDaemon)).toEqual([0, 0]);
  });
});

/** IPv4 packets that a host's container has received. */
async function ipReceived(host: HostPlan): Promise<number> {
  return (await readSnmp(host.container))('Ip', 'InReceives');
}

async function sendTo(from: HostPlan, address: string, bytes: Buffer): Promise<void> {
  const script = `${ROOT}/test/support/send-datagrams.mjs`;
  const argv = [process.execPath, script, from.address, address, String(DEVICE_PORT)];
  await run(inNamespace(from.host, argv), { input: JSON.stringify([bytes.toString('base64')]) });
}
