/**
 * Hosts of different modes in one cluster on a real etcd, every host with every other: what one sends
 * the others must take, whoever carries it. Where there is a flanneld (src/testbed/flanneld.ts), that is a
 * host as well:
 *
 *   host-1 kernel (where the kernel can)   host-2 offload   host-3 basic   host-4 flanneld
 *        10.168.0.2                        10.168.0.3       10.168.0.4     10.168.0.5
 *              `------------------------ br0 10.168.0.1, etcd ----------------'
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DaemonMode } from '../../src/daemon/options.js';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import type { Program } from '../../src/testbed/programs.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import {
  addContainer,
  containerPort,
  GATEWAY,
  hostPlan,
  LAB_DIRECTORY,
  removeContainer,
  type HostPlan,
} from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { CONFIG, etcdClient, PREFIX } from '../support/etcd.js';
import { FLANNELD, rememberSubnet, startFlanneld } from '../../src/testbed/flanneld.js';
import { sendNumberedBothWays, transferBothWays } from '../support/exact.js';
import { counters, TestLab } from '../support/test-lab.js';
import { canKernel } from '../support/can-kernel.js';

const MODES: readonly DaemonMode[] = [
  ...(canKernel ? (['kernel'] as const) : []),
  ...(['offload', 'basic'] as const),
];
const KINDS: readonly string[] = [...MODES, ...(FLANNELD === undefined ? [] : ['flanneld'])];
const HOSTS = KINDS.map((kind, index) => ({ kind, plan: hostPlan(index + 1) }));
/** Each host with each other, once. */
const PAIRS = HOSTS.flatMap((one, index) =>
  HOSTS.slice(index + 1).map((two) => ({ name: `${one.kind} and ${two.kind}`, one, two })),
);
/** Of the tunnel on an Ethernet of 1500, and what IPv4 and ICMP take of it. */
const MTU = 1_472;
const IP_ICMP_BYTES = 28;
const MIB = 1024 * 1024;
const ETCD_PORT = 2379;

let lab: TestLab;
let etcd: EtcdServer;
let flanneld: Program | undefined;
/** Containers that the lab does not know of. */
const strangers: HostPlan[] = [];

beforeAll(async () => {
  lab = await TestLab.bare(HOSTS.length);
  const directory = join(LAB_DIRECTORY, 'etcd');
  etcd = await EtcdServer.start({ directory, address: GATEWAY, port: ETCD_PORT });
  const client = etcdClient(etcd);
  await client.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
  client.close();
  for (const [index, mode] of MODES.entries()) {
    const plan = planAt(index);
    await rememberSubnet(plan);
    const storeFlags = [`--etcd-endpoints=${etcd.endpoint}`];
    await lab.attachContainer(await lab.startDaemon(plan, { mode, storeFlags }));
  }
  if (FLANNELD !== undefined) await joinFlanneld(FLANNELD, planAt(MODES.length));
  // A network card cuts trains of datagrams; a veth would pass them whole, and a host in mode kernel leaves
  // those to its daemon, where packets behind them overtake (docs/kernel-mode.md).
  for (const { plan } of HOSTS) {
    const argv = ['ethtool', '-K', 'eth0', 'tx-udp-segmentation', 'off'];
    // A kernel without the feature has no trains either.
    await run(inNamespace(plan.host, argv), { accept: [0, 1, 92] });
  }
  for (const { one, two } of PAIRS) await meet(one.plan, two.plan);
}, 120_000);

afterAll(async () => {
  await flanneld?.stop();
  for (const plan of strangers) await removeContainer(plan);
  await lab?.tearDown();
  await etcd?.stop();
});

function planAt(index: number): HostPlan {
  const found = HOSTS[index];
  if (found === undefined) throw new Error(`there is no host ${index + 1}`);
  return found.plan;
}

async function joinFlanneld(command: string, plan: HostPlan): Promise<void> {
  const { program, mtu } = await startFlanneld(command, plan, [`-etcd-endpoints=${etcd.endpoint}`]);
  flanneld = program;
  await addContainer(plan, `${plan.bridgeAddress}/24`, mtu);
  strangers.push(plan);
  if (!canKernel) return;
  // flanneld does not know checksums that are left to a device (docs/kernel-mode.md).
  await run(inNamespace(planAt(0).host, ['ethtool', '-K', 'eth0', 'tx', 'off']));
}

async function meet(one: HostPlan, two: HostPlan): Promise<void> {
  await waitFor(`${one.host} and ${two.host}`, 20_000, async () => {
    const { received } = await ping(one, two.containerAddress, { count: 1 });
    return received === 1 ? true : undefined;
  });
}

/** What ping says; any outcome. */
async function pinged(from: HostPlan, to: HostPlan, ...flags: string[]): Promise<string> {
  const argv = ['ping', '-n', '-c', '3', '-i', '0.05', '-W', '2', ...flags, to.containerAddress];
  const { stdout, stderr } = await run(inNamespace(from.container, argv), { accept: [0, 1] });
  return stdout + stderr;
}

const size = (bytes: number): string[] => ['-s', String(bytes - IP_ICMP_BYTES)];

it('has a host of each kind', () => {
  expect(KINDS.length).toBeGreaterThanOrEqual(2);
  expect(new Set(KINDS).size).toBe(KINDS.length);
});

describe.each(PAIRS)('$name', ({ one, two }) => {
  const ways = [
    [one.plan, two.plan],
    [two.plan, one.plan],
  ] as const;

  it('have the same TTL both ways', async () => {
    for (const [from, to] of ways) expect(await pinged(from, to)).toMatch(/ttl=60 .*\n(.*\n)*3 /);
  });

  it('carry TCP both ways, and each byte of it', async () => {
    for (const [from, to] of ways) {
      const { gbps } = await new IperfTarget(to).tcp(from, { seconds: 1 });
      expect(gbps).toBeGreaterThan(0);
    }
    await transferBothWays(one.plan, two.plan, 4 * MIB);
  });

  it('carry UDP both ways, nothing lost, doubled or out of order', async () => {
    await sendNumberedBothWays(one.plan, two.plan, 256, 1_200);
  });

  it('carry fragments both ways', async () => {
    await sendNumberedBothWays(one.plan, two.plan, 64, 4_000);
    for (const [from, to] of ways)
      expect(await pinged(from, to, '-s', '9000')).toMatch(/3 received/);
  });

  it(`pass ${MTU} bytes with DF, and refuse one more with the MTU`, async () => {
    for (const [from, to] of ways) {
      expect(await pinged(from, to, '-M', 'do', ...size(MTU))).toMatch(/3 received/);
      const refused = await pinged(from, to, '-M', 'do', ...size(MTU + 1));
      expect(refused).toMatch(new RegExp(`message too long, mtu[=:] ?${MTU}`));
      expect(refused).toMatch(/ 0 received/);
      // Without DF it goes as fragments.
      expect(await pinged(from, to, '-M', 'dont', ...size(MTU + 1))).toMatch(/3 received/);
    }
  });
});

it.skipIf(!canKernel)(
  'has carried in the kernel what the host in mode kernel sent and got',
  async () => {
    const out = await counters(lab.nearDaemon, 'encapsulate');
    const into = await counters(lab.nearDaemon, 'decapsulate');
    expect(out.kernelPackets).toBeGreaterThan(1_000);
    expect(into.kernelPackets).toBeGreaterThan(1_000);
  },
);

/** A container that does not know the MTU of the tunnel learns it of its host. */
describe('containers with an MTU of 1500', () => {
  beforeAll(async () => {
    for (const { plan } of HOSTS) {
      for (const [namespace, device] of [
        [plan.host, containerPort(plan)],
        [plan.container, 'eth0'],
      ] as const) {
        const argv = ['ip', 'link', 'set', 'dev', device, 'mtu', '1500'];
        await run(inNamespace(namespace, argv));
      }
    }
  });

  it.each(PAIRS)(
    '$name: one byte too many with DF is answered with the MTU',
    async ({ one, two }) => {
      for (const [from, to] of [
        [one.plan, two.plan],
        [two.plan, one.plan],
      ] as const) {
        await run(inNamespace(from.container, ['ip', 'route', 'flush', 'cache']));
        expect(await pinged(from, to, '-M', 'do', ...size(MTU))).toMatch(/3 received/);
        const refused = await pinged(from, to, '-M', 'do', ...size(MTU + 1));
        expect(refused).toMatch(new RegExp(`^From ${from.bridgeAddress} .*mtu = ${MTU}\\)`, 'm'));
        expect(refused).toMatch(/ 0 received/);
        await run(inNamespace(from.container, ['ip', 'route', 'flush', 'cache']));
      }
    },
  );

  it.each(PAIRS)('$name: TCP finds its way all the same', async ({ one, two }) => {
    await transferBothWays(one.plan, two.plan, MIB);
  });
});
