/**
 * The teaching tunnel (bench/js-tunnel) at one end, a daemon in mode basic at the other: the wire is the
 * same, so pings and exact transfers pass both ways; and what is wrong with its input it says.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCounters, startJsTunnel } from '../../bench/overlays/peers/js.js';
import type { Program } from '../../src/testbed/programs.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { LEASE_FILE } from '../../src/testbed/daemon-process.js';
import { addContainer, removeContainer } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { transfer } from '../support/exact.js';
import { ROOT, TestLab } from '../support/test-lab.js';

const JS_TUNNEL = [process.execPath, join(ROOT, 'dist', 'bench', 'js-tunnel', 'js-tunnel.js')];
const MTU = 1_472;
const MIB = 1024 * 1024;

let lab: TestLab;
const programs: Program[] = [];
const tunnel = (): Program => {
  const [program] = programs;
  if (program === undefined) throw new Error('the tunnel does not run');
  return program;
};

beforeAll(async () => {
  lab = await TestLab.bare(2);
  const far = await lab.startDaemon(lab.far, { mode: 'basic' });
  await lab.attachContainer(far);
  // Else the kernel sends router solicitations into the TUN, which are counted as dropped.
  const quiet = ['sysctl', '-qew', 'net.ipv6.conf.default.disable_ipv6=1'];
  await run(inNamespace(lab.near.host, quiet));
  await startJsTunnel(lab.near, MTU, programs, JS_TUNNEL);
  await addContainer(lab.near, `${lab.near.bridgeAddress}/24`, MTU);
});

afterAll(async () => {
  for (const program of programs) await program.stop();
  await removeContainer(lab.near);
  await lab.tearDown();
});

describe('beside a daemon in mode basic', () => {
  it('carries pings of every size both ways, two hops less each', async () => {
    for (const size of [0, 56, MTU - 28]) {
      const options = { count: 5, intervalSeconds: 0.02, size, dontFragment: true };
      const there = await ping(lab.near, lab.far.containerAddress, options);
      expect(there).toMatchObject({ sent: 5, received: 5 });
      const back = await ping(lab.far, lab.near.containerAddress, options);
      expect(back).toMatchObject({ sent: 5, received: 5 });
    }
    const argv = ['ping', '-n', '-c', '1', '-W', '2', lab.far.containerAddress];
    const { stdout } = await run(inNamespace(lab.near.container, argv));
    // 64, less one at each host's routing and at each end of the tunnel.
    expect(stdout).toContain('ttl=60');
  });

  it('carries transfers exactly both ways', async () => {
    await transfer(lab.near, lab.far, 8 * MIB);
    await transfer(lab.far, lab.near, 8 * MIB);
  });

  it("carries the far node's answers from its own address", async () => {
    const options = { count: 3, intervalSeconds: 0.02 };
    const off = ['all', 'flannel0'].map((name) => `net.ipv4.conf.${name}.rp_filter=0`);
    await run(inNamespace(lab.near.host, ['sysctl', '-qw', ...off]));
    expect(await ping(lab.near, lab.far.address, options)).toMatchObject({ received: 3 });
  });

  it('counts each packet, with a call and a copy on either side of it', async () => {
    const before = await readCounters(tunnel());
    await ping(lab.near, lab.far.containerAddress, { count: 10, intervalSeconds: 0.02 });
    const after = await readCounters(tunnel());
    const since = (key: keyof typeof after): number => after[key] - before[key];
    expect(since('encapsulated')).toBe(10);
    expect(since('decapsulated')).toBe(10);
    expect(since('dropped')).toBe(0);
    expect(since('copiedBytes')).toBe(20 * 2 * 84);
    expect(since('systemCalls')).toBeGreaterThanOrEqual(20 * 2);
  });

  it('drops what has no route, what has no hop left and what comes from a stranger', async () => {
    const before = await readCounters(tunnel());
    const unanswered = async (...argv: string[]): Promise<void> => {
      const twice = ['ping', '-n', '-c', '2', '-i', '0.02', '-W', '0.5'];
      await run(inNamespace(lab.near.container, [...twice, ...argv]), { accept: [1] });
    };
    await unanswered('100.96.77.1');
    await unanswered('-t', '2', lab.far.containerAddress);
    const after = await readCounters(tunnel());
    expect(after.dropped - before.dropped).toBe(4);
    // A sound packet of the far host's subnet, sent by a host without lease: the switch.
    const stranger = `
      import socket, struct
      header = bytearray(struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20, 0, 0, 64, 1, 0,
          socket.inet_aton('${lab.far.containerAddress}'), socket.inet_aton('${lab.near.containerAddress}')))
      total = sum(struct.unpack('>10H', header))
      total = (total & 0xffff) + (total >> 16)
      header[10:12] = struct.pack('>H', ~total & 0xffff)
      socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(header, ('${lab.near.address}', 8285))`;
    await run(['python3', '-c', stranger.replaceAll(/^ {6}/gm, '')]);
    // It has been dealt with when a later packet has.
    await ping(lab.near, lab.far.containerAddress, { count: 2, intervalSeconds: 0.02 });
    const last = await readCounters(tunnel());
    expect(last.dropped - after.dropped).toBe(1);
  });

  it('ends well when asked to, and its device with it', async () => {
    expect(await tunnel().stop()).toBe(0);
    const links = await run(inNamespace(lab.near.host, ['ip', '-br', 'link']));
    expect(links.stdout).toContain('docker0');
    expect(links.stdout).not.toContain('flannel0');
  });
});

describe('wrong input', () => {
  const start = async (...flags: string[]): Promise<{ code: number; stderr: string }> =>
    run(inNamespace(lab.near.host, [...JS_TUNNEL, ...flags]), { accept: [0, 1, 2] });
  const file = `--lease-file=${LEASE_FILE}`;

  it.each([
    [[], 2, "required option '--lease-file <path>' not specified"],
    [[file, '--public-ip=10.168.0'], 2, '--public-ip: "10.168.0" is not valid'],
    [[file, '--public-ip=10.168.0.9'], 2, '--public-ip: "10.168.0.9" is not valid: expected an ad'],
    [[file, '--public-ip=10.168.0.2', '--mtu=60'], 2, 'expected an integer from 68 to 65507'],
    [[file, '--public-ip=10.168.0.2', '--fast'], 2, "unknown option '--fast'"],
    [['--lease-file=/nowhere', '--public-ip=10.168.0.2'], 1, '--lease-file: "/nowhere" cannot be'],
  ])('%j is refused', async (flags, code, text) => {
    const result = await start(...flags);
    expect(result.stderr).toContain(text);
    expect(result.code).toBe(code);
  });
});
