/**
 * Two nodes of a Kubernetes cluster: real daemons with --kube-subnet-mgr, their subnets the nodes' podCIDRs.
 *
 *        host-1 10.168.0.2            host-2 10.168.0.3
 *      flannel0 100.96.1.0          flannel0 100.96.128.0 (a /17)
 *              `------ br0 10.168.0.1 ------'
 *              API server (of test/support), the tests
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { GATEWAY, LAB_DIRECTORY, type HostPlan } from '../../src/testbed/topology.js';
import { PingStream } from '../../src/testbed/traffic.js';
import { type EtcdDaemon as DaemonOfHost, subnetFileOf } from '../support/etcd-lab.js';
import { Admin, InProcess } from '../support/kube-cluster.js';
import { NET_CONF, startOnNode, TOKEN, writeClusterFiles } from '../support/kube-lab.js';
import { Pki } from '../support/pki.js';
import { TestLab } from '../support/test-lab.js';

const A = 'flannel.alpha.coreos.com';
const CONFIG = '{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}';
const FAR_TUN = '100.96.128.0';

let lab: TestLab;
let pki: Pki;
let server: InProcess;
let admin: Admin;
const daemons: DaemonOfHost[] = [];

beforeAll(async () => {
  lab = await TestLab.bare(2);
  pki = await Pki.create();
  await pki.authority('ca');
  await pki.authority('other-ca');
  await pki.certificate('apiserver', 'ca', { names: `IP:${GATEWAY}` });
});
afterAll(async () => {
  await pki.end();
  await lab.tearDown();
});
beforeEach(async () => {
  server = await new InProcess(pki, GATEWAY).started();
  admin = new Admin(server);
  await writeClusterFiles(server, pki, CONFIG);
});
afterEach(async () => {
  await Promise.all(daemons.splice(0).map(({ program }) => program.stop()));
  await server.end().catch(() => undefined);
  for (const plan of lab.hosts) {
    await rm(join(LAB_DIRECTORY, plan.host), { recursive: true, force: true });
  }
});

async function start(plan: HostPlan): Promise<DaemonOfHost> {
  const daemon = await startOnNode(plan);
  daemons.push(daemon);
  return daemon;
}

/** Of a service account that no role is bound to. */
async function tokenWithoutRole(): Promise<string> {
  const name = 'nobody';
  await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  const metadata = { name, namespace: name };
  await admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata });
  return admin.token(name, name);
}

async function createNodes(): Promise<void> {
  await admin.createNode(lab.near.host, ['100.96.1.0/24']);
  await admin.createNode(lab.far.host, ['fd00::/64', '100.96.128.0/17']);
}

async function startBoth(): Promise<{ near: DaemonOfHost; far: DaemonOfHost }> {
  await createNodes();
  const near = await start(lab.near);
  const far = await start(lab.far);
  await Promise.all([near.ready(), far.ready()]);
  await reaches(FAR_TUN);
  return { near, far };
}

/** Waits until a ping from host-1 gets through. */
async function reaches(address: string): Promise<void> {
  await waitFor(`a ping to ${address}`, 8_000, async () => {
    const argv = inNamespace(lab.near.host, ['ping', '-q', '-n', '-c1', '-W1', address]);
    return (await run(argv, { accept: [0, 1, 2] })).code === 0 ? true : undefined;
  });
}

describe('two nodes', () => {
  it('carry traffic, are annotated as by flanneld, and told to be up', async () => {
    const { near } = await startBoth();
    expect(await near.subnetEnv()).toBe(
      'FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n',
    );
    expect((await near.status()).routes.map(({ subnet }) => subnet)).toEqual(['100.96.128.0/17']);
    const { metadata } = await admin.node(lab.near.host);
    expect(metadata.annotations).toEqual({
      [`${A}/kube-subnet-manager`]: 'true',
      [`${A}/backend-type`]: '',
      [`${A}/backend-data`]: 'null',
      [`${A}/public-ip`]: '10.168.0.2',
    });
    await near.until('the condition', 5_000, async () => {
      const { status } = await admin.node(lab.near.host);
      return JSON.stringify(status ?? {}).includes('FlannelIsUp');
    });
    expect((await near.status()).store).toMatchObject({
      kind: 'kube',
      location: `${server.url}/api/v1/nodes`,
      error: null,
    });
  });

  it('lose nothing while the API server is away, and start again without it', async () => {
    const { near } = await startBoth();
    const leases = `${subnetFileOf(lab.near)}.leases.json`;
    await waitFor('the remembered leases', 10_000, async () =>
      run(['grep', '-q', '100.96.128.0-17', leases], { accept: [0, 1, 2] }).then(({ code }) =>
        code === 0 ? true : undefined,
      ),
    );
    const stop = new AbortController();
    const stream = new PingStream(lab.near, FAR_TUN, {
      intervalSeconds: 0.01,
      namespace: lab.near.host,
      signal: stop.signal,
    });
    await server.end();
    await near.until(
      'without its store',
      10_000,
      async () => !(await near.readyz()).detail.store.ok,
    );
    await near.until('why', 10_000, async () => {
      const { code, detail } = await near.readyz();
      expect(code).toBe(200);
      return detail.store.error === `${server.url}: connection refused`;
    });
    expect(await near.metric('store_up')).toBe(0);
    await near.logged('cannot follow the lease store; the last known routes stay in force');
    const { sent, received } = await stream.end();
    expect(received).toBe(sent);
    await near.program.stop();
    const again = await start(lab.near);
    await again.ready();
    await reaches(FAR_TUN);
    await again.logged('lease store unreachable; using remembered leases');
    await server.started();
    await again.until('its store', 15_000, async () => (await again.readyz()).detail.store.ok);
  });

  it('follow a node that is created again with another podCIDR', async () => {
    const { near, far } = await startBoth();
    await admin.deleteNode(lab.far.host);
    await far.logged('lease lost; acquiring again');
    await near.until('no route', 5_000, async () => (await near.status()).routes.length === 0);
    await admin.createNode(lab.far.host, ['100.96.77.0/24']);
    await far.until('the new subnet', 15_000, async () =>
      (await far.subnetEnv()).includes('FLANNEL_SUBNET=100.96.77.1/24'),
    );
    await reaches('100.96.77.0');
  });

  it('put back the address that somebody changed in their annotations', async () => {
    await startBoth();
    await admin.annotate(lab.near.host, { [`${A}/public-ip`]: '10.168.0.99' });
    await waitFor('the annotation', 5_000, async () => {
      const { annotations = {} } = (await admin.node(lab.near.host)).metadata;
      return annotations[`${A}/public-ip`] === lab.near.address ? true : undefined;
    });
    await reaches(FAR_TUN);
  });
});

describe('a node', () => {
  it('without a podCIDR waits for one, and says so', async () => {
    await admin.createNode(lab.near.host, []);
    const near = await start(lab.near);
    await near.until('why', 10_000, async () => {
      const { code, detail } = await near.readyz();
      expect(code).toBe(503);
      return detail.store.fault === 'configuration';
    });
    expect((await near.readyz()).detail.store.error).toContain(
      'podCIDR of node host-1: (missing) is not valid: expected an IPv4 subnet',
    );
    const podCIDR = '100.96.1.0/24';
    await admin.patchNode(lab.near.host, { spec: { podCIDR, podCIDRs: [podCIDR] } });
    await near.ready();
  });

  it('is told others under the address its operator annotates', async () => {
    await createNodes();
    await admin.annotate(lab.near.host, { [`${A}/node-public-ip`]: '203.0.113.7' });
    const near = await start(lab.near);
    await near.ready();
    const { metadata } = await admin.node(lab.near.host);
    expect(metadata.annotations?.[`${A}/public-ip`]).toBe('203.0.113.7');
  });

  it.each([
    [
      'a token that is not accepted',
      'kube_credentials',
      'it does not accept the token of /run/flannelette-lab/token: 401 Unauthorized; expected one of this cluster that has not expired',
      () => writeFile(TOKEN, 'expired'),
    ],
    [
      'an account without a role',
      'kube_permission',
      'it does not allow "get" of "nodes": 403 Forbidden',
      async () => writeFile(TOKEN, await tokenWithoutRole()),
    ],
    [
      'the authority of another cluster',
      'kube_tls',
      'its certificate is signed by none of ',
      () => writeClusterFiles(server, pki, CONFIG, 'other-ca'),
    ],
  ])('with %s waits and says so, and goes on when it is put right', async (_, id, line, spoil) => {
    await createNodes();
    await spoil();
    const near = await start(lab.near);
    const problem = `flannelette_problem{problem="${id}"} 1\n`;
    await near.until('the problem', 10_000, async () =>
      (await near.get('/metrics')).body.includes(problem),
    );
    const { code, detail } = await near.readyz();
    expect(code).toBe(503);
    expect(detail.store.error).toContain(line);
    expect(near.program.stderr).toContain(JSON.stringify(line).slice(1, -1));
    await writeClusterFiles(server, pki, CONFIG);
    await near.ready();
    await near.until(
      'no problem',
      10_000,
      async () => !(await near.get('/metrics')).body.includes(problem),
    );
  });

  it.each([
    [
      'a podCIDR outside Network',
      '{"Network":"10.244.0.0/16"}',
      'podCIDR of node host-1: "100.96.1.0/24" is not valid: expected a subnet of Network 10.244.0.0/16',
    ],
    [
      'an unknown backend',
      '{"Network":"100.96.0.0/16","Backend":{"Type":"wirewolf"}}',
      'Backend.Type: "wirewolf" is not valid',
    ],
  ])('with %s ends with one line that says so', async (_, config, line) => {
    await createNodes();
    await writeFile(NET_CONF, config);
    const near = await start(lab.near);
    expect(await near.program.ended).toBe(2);
    const last = near.log().at(-1);
    expect(last).toMatchObject({ level: 60 });
    expect(last?.msg).toContain(line);
  });

  it.each([
    [
      'missing',
      undefined,
      '--net-config-path: "/run/flannelette-lab/net-conf.json" cannot be read',
    ],
    [
      'malformed',
      '{"Network":',
      'network configuration in /run/flannelette-lab/net-conf.json is not valid',
    ],
  ])('whose net-conf.json is %s waits until it is right', async (_, config, line) => {
    await createNodes();
    if (config === undefined) await rm(NET_CONF);
    else await writeFile(NET_CONF, config);
    const near = await start(lab.near);
    await near.until('the line', 10_000, () =>
      near.program.stderr.includes(JSON.stringify(line).slice(1, -1)),
    );
    await writeFile(NET_CONF, CONFIG);
    await near.ready();
  });
});
