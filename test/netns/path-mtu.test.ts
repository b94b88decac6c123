/**
 * A link of MTU 1400 between hosts whose interfaces have 1500:
 *
 *     host-1 10.168.0.2 -- br0 -- router-1 ===== 1400 ===== router-2 -- br0 -- host-2 10.168.0.3
 *                             10.168.0.251                10.168.0.252
 *
 * The tunnel's MTU is 1472, and 1372 bytes is what gets through in one piece.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { probeKernel } from '../../src/dataplane/dataplane.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { readSnmp } from '../../src/testbed/snmp.js';
import { addHost, hostPlan, ipBatch, removeHost, SWITCH } from '../../src/testbed/topology.js';
import { IperfTarget } from '../../src/testbed/traffic.js';
import { COMMAND, counters, ROOT, TestLab } from '../support/test-lab.js';

const ROUTERS = ['router-1', 'router-2'] as const;
/** Of the path, and what the tunnel's headers leave of it. */
const PATH = 1400;
const INNER = PATH - 28;
/** Payload of an echo in a packet of that many bytes. */
const echo = (bytes: number): string => String(bytes - 28);

let lab: TestLab;
afterEach(async () => {
  await lab.tearDown();
});

/** The routers between the hosts, where the switch alone was. */
async function divide({ near, far }: TestLab): Promise<void> {
  for (const [index, router] of ROUTERS.entries()) {
    await ipBatch(undefined, [
      `netns add ${router}`,
      `link add eth0 netns ${router} type veth peer name r${index}`,
      `link set r${index} master ${SWITCH} up`,
    ]);
  }
  await ipBatch(undefined, [
    `link add middle netns ${ROUTERS[0]} mtu ${PATH} type veth peer name middle mtu ${PATH} netns ${ROUTERS[1]}`,
  ]);
  for (const [index, router] of ROUTERS.entries()) {
    const [here, there] = index === 0 ? [1, 2] : [2, 1];
    const to = index === 0 ? far : near;
    await ipBatch(router, [
      'link set lo up',
      `address add 10.168.0.${251 + index}/24 dev eth0`,
      'link set eth0 up',
      `address add 192.168.77.${here}/30 dev middle`,
      'link set middle up',
      `route add ${to.address}/32 via 192.168.77.${there}`,
    ]);
    await run(inNamespace(router, ['sysctl', '-qw', 'net.ipv4.ip_forward=1']));
  }
  // Not before both routers stand: a packet that asked for the other one in vain holds those behind
  // it back until ARP asks again, a second later.
  await ipBatch(near.host, [`route add ${far.address}/32 via 10.168.0.251`]);
  await ipBatch(far.host, [`route add ${near.address}/32 via 10.168.0.252`]);
}

async function join(): Promise<void> {
  for (const [index, router] of ROUTERS.entries())
    await ipBatch(undefined, [`link delete r${index}`, `netns delete ${router}`]);
}

async function ping(...flags: string[]): Promise<string> {
  const argv = ['ping', '-n', '-i', '0.02', '-W', '1', '-c', '3', ...flags];
  const { stdout, stderr } = await run(
    inNamespace(lab.near.container, [...argv, lab.far.containerAddress]),
    { accept: [0, 1] },
  );
  return stdout + stderr;
}

/** Forgets what the container's kernel has learnt. */
async function flush(): Promise<void> {
  await run(inNamespace(lab.near.container, ['ip', 'route', 'flush', 'cache']));
}

/** Full-size packets with DF, until one is answered with the path's MTU. */
async function learnt(): Promise<void> {
  await waitFor('frag needed', 10_000, async () => {
    const said = await ping('-M', 'do', '-s', echo(1472));
    return said.includes(`mtu = ${INNER}`) || said.includes(`mtu=${INNER}`) ? true : undefined;
  });
}

/** Fragments that the first router made. */
async function fragments(): Promise<number> {
  return (await readSnmp(ROUTERS[0]))('Ip', 'FragCreates');
}

const withoutKernel = probeKernel().find(
  ({ name, state }) => name === 'kernel-path' && state !== 'yes',
);

describe.each([
  ['basic', []],
  ['batch', []],
  ['offload', []],
  // Paths are looked at from the start on, when the other host is not there yet; so again soon.
  ['kernel', ['--path-mtu-age=1']],
] as const)('a link of MTU 1400, mode %s', (mode, flags) => {
  beforeEach(async ({ skip }) => {
    skip(mode === 'kernel' && withoutKernel !== undefined, 'needs eBPF');
    lab = await TestLab.setUp({ mode, flags: [...flags, '--healthz-port=9470'] });
    await divide(lab);
  });
  afterEach(join);

  it('is learnt to the byte, without a packet lost before', async () => {
    // Late on a busy machine is not lost.
    const first = await ping('-M', 'do', '-s', echo(1472), '-c', '1', '-W', '5');
    expect(first).toContain('1 received');
    await learnt();
    expect(await ping('-M', 'do', '-s', echo(INNER))).toContain('3 received');
    await flush();
    const said = await ping('-M', 'do', '-s', echo(INNER + 1), '-c', '1');
    expect(said).toContain(`From ${lab.near.bridgeAddress} icmp_seq=1 Frag needed`);
    expect(said).toContain(`mtu = ${INNER}`);
    const { drops, icmpFragNeeded } = await counters(lab.nearDaemon, 'encapsulate');
    expect(drops.path_mtu).toBeGreaterThan(0);
    expect(icmpFragNeeded).toBeGreaterThan(0);
  });

  it('is what status and metrics say of that host, since when, and the log', async () => {
    const before = Date.now();
    await learnt();
    const pathMtu = await waitFor('the status', 5_000, async () => {
      const [route] = (await lab.nearDaemon.status()).routes;
      return route?.pathMtu;
    });
    expect(pathMtu.bytes).toBe(INNER);
    expect(Date.parse(pathMtu.since)).toBeGreaterThanOrEqual(before - 2_000);
    expect(Date.parse(pathMtu.since)).toBeLessThanOrEqual(Date.now());
    const { subnetFile } = lab.nearDaemon;
    const { stdout } = await run([...COMMAND, 'status', `--subnet-file=${subnetFile}`]);
    expect(stdout).toMatch(new RegExp(`10\\.168\\.0\\.3 +tunnel, path MTU ${INNER} for \\d+ s`));
    const ask = "fetch('http://127.0.0.1:9470/metrics').then((r) => r.text()).then(console.log)";
    const metrics = await run(inNamespace(lab.near.host, [process.execPath, '-e', ask]));
    expect(metrics.stdout).toContain(`flannelette_path_mtu_bytes{host="10.168.0.3"} ${INNER}\n`);
    expect(lab.nearDaemon.program.stderr).toContain(
      'the path to a host takes packets of another length',
    );
  });

  it('is what tracepath shows', async () => {
    await learnt();
    await flush();
    const argv = inNamespace(lab.near.container, ['tracepath', '-n', lab.far.containerAddress]);
    const { stdout } = await run(argv);
    expect(stdout).toContain(`pmtu ${INNER}`);
    expect(stdout).toMatch(new RegExp(`Resume: pmtu ${INNER} `));
  });

  it('carries what has no DF in inner fragments, and nothing in outer ones', async () => {
    await learnt();
    const before = await fragments();
    expect(await ping('-M', 'dont', '-s', '1444')).toContain('3 received');
    expect(await ping('-M', 'dont', '-s', '9000')).toContain('3 received');
    await flush();
    const { gbps } = await new IperfTarget(lab.far).tcp(lab.near, { seconds: 1 });
    expect(gbps).toBeGreaterThan(0);
    expect(await fragments()).toBe(before);
  });

  it('is learnt where ICMP is filtered too', async () => {
    for (const router of ROUTERS) {
      const rule = ['iptables', '-A', 'OUTPUT', '-p', 'icmp', '-j', 'DROP'];
      await run(inNamespace(router, rule));
    }
    expect(await ping('-M', 'do', '-s', echo(1472))).toContain('3 received');
    await learnt();
    expect(await ping('-M', 'do', '-s', echo(INNER))).toContain('3 received');
  });
});

describe('a path MTU', () => {
  it('that grew is found after its time, and one that shrank', async () => {
    lab = await TestLab.setUp({ mode: 'offload', flags: ['--path-mtu-age=1'] });
    await divide(lab);
    try {
      await learnt();
      await setLink(1500);
      await waitFor('full-size packets in one piece', 15_000, async () => {
        await flush();
        const before = await fragments();
        const said = await ping('-M', 'do', '-s', echo(1472));
        return said.includes('3 received') && (await fragments()) === before ? true : undefined;
      });
      await setLink(PATH);
      await learnt();
    } finally {
      await join();
    }
  });

  it.each(['batch', 'offload'] as const)(
    'is not what a forged ICMP error says, mode %s',
    async (mode) => {
      lab = await TestLab.setUp({ mode });
      const stranger = hostPlan(3);
      await addHost(stranger);
      try {
        expect(await ping('-M', 'do', '-s', echo(1472))).toContain('3 received');
        const argv = ['python3', `${ROOT}/test/support/forge-frag-needed.py`];
        await run(
          inNamespace(stranger.host, [...argv, lab.near.address, lab.far.address, '8285', '576']),
        );
        const icmp = await readIcmp(lab.near.host);
        expect(icmp).toBeGreaterThan(0);
        expect(await ping('-M', 'do', '-s', echo(1472))).toContain('3 received');
        const { gbps } = await new IperfTarget(lab.far).tcp(lab.near, { seconds: 1 });
        expect(gbps).toBeGreaterThan(0);
        expect((await readSnmp(lab.near.host))('Ip', 'FragCreates')).toBe(0);
        expect((await counters(lab.nearDaemon, 'encapsulate')).icmpFragNeeded).toBe(0);
      } finally {
        await removeHost(stranger);
      }
    },
  );
});

async function setLink(mtu: number): Promise<void> {
  for (const router of ROUTERS) await ipBatch(router, [`link set middle mtu ${mtu}`]);
}

/** ICMP messages of type destination unreachable that arrived. */
async function readIcmp(namespace: string): Promise<number> {
  return (await readSnmp(namespace))('Icmp', 'InDestUnreachs');
}
