/**
 * Two nodes of one cluster, the first with another implementation, the second with this one, and the change
 * of the first to this one and back while their pods talk. The API server is kube-apiserver where it was
 * built; the other implementation is a real flanneld where the environment's FLANNELD names it, else ours.
 *
 *   container-1 100.96.1.2 --- host-1 flanneld, 10.168.0.2 --+
 *                                                            br0 10.168.0.1, kube-apiserver
 *   container-2 100.96.2.3 --- host-2 ours, 10.168.0.3 ------+
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Program } from '../../src/testbed/programs.js';
import { waitFor } from '../../src/testbed/programs.js';
import { GATEWAY, type HostPlan } from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import type { EtcdDaemon } from '../support/etcd-lab.js';
import { FLANNELD, startFlanneld } from '../../src/testbed/flanneld.js';
import { Admin, startApiServer, type ApiServer } from '../support/kube-cluster.js';
import { KUBE_FLAGS, startOnNode, writeClusterFiles } from '../support/kube-lab.js';
import { Pki } from '../support/pki.js';
import { say } from '../support/say.js';
import { SteadyPing } from '../support/steady-ping.js';
import { TestLab } from '../support/test-lab.js';

const A = 'flannel.alpha.coreos.com';
/** A node has some of its kubelet; flanneld 0.28 panics over one that has none. */
const KUBELET = { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' };
/** Between two pings, in seconds. */
const INTERVAL = 0.02;
/** What one change may take, in seconds; a start of flanneld's takes a second. */
const LIMIT = 8;

describe.each([
  ['udp', 1_472, ''],
  ['vxlan', 1_450, 'vxlan'],
] as const)('backend %s', (type, mtu, backendType) => {
  let lab: TestLab;
  let pki: Pki;
  let server: ApiServer;
  let admin: Admin;
  let ours: EtcdDaemon;
  let changing: Pick<Program, 'stop'>;

  beforeAll(async () => {
    lab = await TestLab.bare(2);
    pki = await Pki.create();
    await pki.authority('ca');
    await pki.certificate('apiserver', 'ca', { names: `IP:${GATEWAY}` });
    server = await startApiServer(pki, GATEWAY);
    admin = new Admin(server);
    const config = { Network: '100.96.0.0/16', Backend: { Type: type } };
    await writeClusterFiles(server, pki, JSON.stringify(config));
    for (const plan of lab.hosts) {
      await admin.createNode(plan.host, [plan.subnet], KUBELET);
      await lab.addContainer(plan, mtu);
    }
    await startOther(lab.near);
    ours = await startOnNode(lab.far);
    await ours.ready();
    await meet();
  }, 120_000);

  afterAll(async () => {
    await changing?.stop();
    await ours?.program.stop();
    await lab?.tearDown();
    await server?.end();
    await pki?.end();
  });

  async function startOther(plan: HostPlan): Promise<void> {
    if (FLANNELD === undefined) {
      await startOurs(plan);
      return;
    }
    const flanneld = await startFlanneld(FLANNELD, plan, KUBE_FLAGS, { NODE_NAME: plan.host });
    expect(flanneld.mtu).toBe(mtu);
    changing = flanneld.program;
  }

  async function startOurs(plan: HostPlan): Promise<void> {
    const daemon = await startOnNode(plan);
    changing = daemon.program;
    await daemon.ready();
  }

  const ways = (): (readonly [HostPlan, HostPlan])[] => [
    [lab.near, lab.far],
    [lab.far, lab.near],
  ];

  async function meet(): Promise<void> {
    for (const [from, to] of ways()) {
      await waitFor(`${from.host} and ${to.host}`, 20_000, async () => {
        const { received } = await ping(from, to.containerAddress, { count: 3 });
        return received === 3 ? true : undefined;
      });
    }
  }

  /** What the node says of itself; the MAC address of a VTEP is whoever's made it. */
  async function annotations(plan: HostPlan): Promise<Record<string, string>> {
    const found = (await admin.node(plan.host)).metadata.annotations ?? {};
    const data = found[`${A}/backend-data`]?.replace(/(?<="VtepMAC":")[0-9a-f:]{17}/, 'MAC') ?? '';
    return { ...found, [`${A}/backend-data`]: data };
  }

  const expected = (plan: HostPlan) => ({
    ...KUBELET,
    [`${A}/kube-subnet-manager`]: 'true',
    [`${A}/backend-type`]: backendType,
    [`${A}/backend-data`]: type === 'udp' ? 'null' : '{"VNI":1,"VtepMAC":"MAC"}',
    [`${A}/public-ip`]: plan.address,
  });

  it('has the same annotations on both nodes, and each has the other as a lease', async () => {
    for (const plan of lab.hosts) expect(await annotations(plan)).toEqual(expected(plan));
    const { routes, rejected } = await ours.status();
    expect(routes.map(({ subnet, nextHop }) => [subnet, nextHop])).toEqual([
      [lab.near.subnet, lab.near.address],
    ]);
    expect(rejected).toEqual([]);
  });

  it('carries TCP both ways, and full packets', async () => {
    for (const [from, to] of ways()) {
      expect((await new IperfTarget(to).tcp(from, { seconds: 1 })).gbps).toBeGreaterThan(0);
      const full = await ping(from, to.containerAddress, {
        count: 3,
        size: mtu - 28,
        dontFragment: true,
      });
      expect(full.received).toBe(3);
    }
  });

  it('loses little while a node changes to flannelette and back, and keeps its connections', async () => {
    // Longer than the changes: a connection that breaks ends it with an error.
    const tcp = new IperfTarget(lab.far).tcp(lab.near, { seconds: 15 });
    for (const [what, start] of [
      ['to flannelette', startOurs],
      ['back', startOther],
    ] as const) {
      const pings = await Promise.all(
        ways().map(([from, to]) => SteadyPing.start(from, to.containerAddress, INTERVAL)),
      );
      await changing.stop();
      await start(lab.near);
      await meet();
      for (const one of pings) {
        const { lost, seconds } = await one.end();
        say(`${type}, ${what}: ${lost} pings lost, at most ${seconds.toFixed(2)} s`);
        expect(seconds).toBeLessThanOrEqual(LIMIT);
      }
      expect(await annotations(lab.near)).toEqual(expected(lab.near));
      expect((await ours.status()).routes.map(({ subnet }) => subnet)).toEqual([lab.near.subnet]);
    }
    expect((await tcp).gbps).toBeGreaterThan(0);
  });
});
