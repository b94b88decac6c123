/**
 * A cluster changes from another implementation to this one and back, node by node, while containers of all
 * pairs of nodes talk. The other one is a real flanneld where there is one (src/testbed/flanneld.ts), else a
 * daemon in mode basic, which is to flanneld's wire, store and flags what flanneld is.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import type { Program } from '../../src/testbed/programs.js';
import { waitFor } from '../../src/testbed/programs.js';
import {
  addContainer,
  GATEWAY,
  LAB_DIRECTORY,
  removeContainer,
  type HostPlan,
} from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { CONFIG, etcdClient, PREFIX } from '../support/etcd.js';
import { FLANNELD, rememberSubnet, startFlanneld } from '../../src/testbed/flanneld.js';
import { say } from '../support/say.js';
import { type Outage, SteadyPing } from '../support/steady-ping.js';
import { COMMAND, TestLab } from '../support/test-lab.js';

const NODES = 3;
const MTU = 1_472;
/** Between two pings of a pair, in seconds. */
const INTERVAL = 0.02;
/** What one change may take from a pair, in seconds; a start of flanneld's takes one. */
const LIMIT = 8;

let lab: TestLab;
let etcd: EtcdServer;
const running = new Map<HostPlan, Pick<Program, 'stop'>>();

beforeAll(async () => {
  lab = await TestLab.bare(NODES);
  const directory = join(LAB_DIRECTORY, 'etcd');
  etcd = await EtcdServer.start({ directory, address: GATEWAY, port: 2379 });
  const client = etcdClient(etcd);
  await client.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
  client.close();
  for (const plan of lab.hosts) {
    await rememberSubnet(plan);
    await startOther(plan);
    await addContainer(plan, `${plan.bridgeAddress}/24`, MTU);
  }
  for (const [from, to] of pairs()) await meet(from, to);
}, 120_000);

afterAll(async () => {
  for (const daemon of running.values()) await daemon.stop();
  for (const plan of lab?.hosts ?? []) await removeContainer(plan);
  await lab?.tearDown();
  await etcd?.stop();
});

function pairs(): [HostPlan, HostPlan][] {
  const { hosts } = lab;
  return hosts.flatMap((one, index) =>
    hosts.slice(index + 1).map((two): [HostPlan, HostPlan] => [one, two]),
  );
}

async function startOurs(plan: HostPlan, mode: 'offload' | 'basic' = 'offload'): Promise<void> {
  const storeFlags = [`--etcd-endpoints=${etcd.endpoint}`];
  const daemon = new DaemonProcess(plan, { command: COMMAND, mode, storeFlags });
  running.set(plan, daemon.program);
  await daemon.ready();
}

async function startOther(plan: HostPlan): Promise<void> {
  if (FLANNELD === undefined) {
    await startOurs(plan, 'basic');
    return;
  }
  const { program } = await startFlanneld(FLANNELD, plan, [`-etcd-endpoints=${etcd.endpoint}`]);
  running.set(plan, program);
}

async function meet(from: HostPlan, to: HostPlan): Promise<void> {
  await waitFor(`${from.host} and ${to.host}`, 20_000, async () => {
    const { received } = await ping(from, to.containerAddress, { count: 3 });
    return received === 3 ? true : undefined;
  });
}

interface Loss extends Outage {
  readonly pair: string;
}

/** Changes one node under pings of all pairs: what each lost. */
async function change(plan: HostPlan, start: (plan: HostPlan) => Promise<void>): Promise<Loss[]> {
  const streams = await Promise.all(
    pairs().map(async ([from, to]) => ({
      pair: `${from.number}-${to.number}`,
      stream: await SteadyPing.start(from, to.containerAddress, INTERVAL),
    })),
  );
  await running.get(plan)?.stop();
  await start(plan);
  for (const [from, to] of pairs()) await meet(from, to);
  return Promise.all(streams.map(async ({ pair, stream }) => ({ pair, ...(await stream.end()) })));
}

describe.each([
  ['to flannelette', startOurs],
  ['back', startOther],
] as const)('a cluster that changes node by node %s', (way, start) => {
  it('loses only what goes through the node that changes, and keeps its connections', async () => {
    const [first, , last] = lab.hosts;
    if (first === undefined || last === undefined) throw new Error('no hosts');
    // Longer than the changes: a connection that breaks ends it with an error.
    const tcp = new IperfTarget(last).tcp(first, { seconds: 20 });
    for (const plan of lab.hosts) {
      for (const { pair, lost, seconds } of await change(plan, (node) => start(node))) {
        const what = `pair ${pair} while node ${plan.number} changes ${way}`;
        say(`${what}: ${lost} pings lost, at most ${seconds.toFixed(2)} s`);
        const through = pair.split('-').includes(String(plan.number));
        // One ping may be overtaken.
        expect(seconds, what).toBeLessThanOrEqual(through ? LIMIT : INTERVAL);
      }
    }
    expect((await tcp).gbps).toBeGreaterThan(0);
  });
});
