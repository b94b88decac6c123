/**
 * The store in the Kubernetes API, against the API server of test/support and against kube-apiserver:
 * annotations as flannel's, watches, faults. One file, so that both servers are held to the same.
 */
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { formatCidr, formatIpv4, parseIpv4 } from '../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../src/config/network.js';
import { KUBE_DEFAULTS, type KubeOptions } from '../../src/lease/kube/kube-options.js';
import { KubeStore } from '../../src/lease/kube/kube-store.js';
import { LEASE_LOST, STORE_MISCONFIGURED, STORE_REFUSES } from '../../src/lease/store-errors.js';
import type { Lease, LeaseRequest } from '../../src/lease/store.js';
import { silentLogger } from '../../src/log.js';
import type { Problem } from '../../src/problems.js';
import { waitFor } from '../../src/testbed/programs.js';
import { Admin, Cut, SERVERS, type ApiServer } from '../support/kube-cluster.js';
import { Pki } from '../support/pki.js';
import { Watcher } from '../support/watcher.js';

const never = new AbortController().signal;
const OWN = '10.168.0.2';
const CONFIG = parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}');
const A = 'flannel.alpha.coreos.com';
const NAMESPACE = 'kube-flannel';

/** As flanneld with backend udp leaves a node. */
const flannel = (publicIp: string, more: Record<string, string> = {}) => ({
  [`${A}/kube-subnet-manager`]: 'true',
  [`${A}/backend-type`]: '',
  [`${A}/backend-data`]: 'null',
  [`${A}/public-ip`]: publicIp,
  ...more,
});

const text = ({ subnet, attributes }: Lease): string =>
  `${formatCidr(subnet)} ${formatIpv4(attributes.publicIp)}`;

const request = (publicIp = OWN, more: Partial<LeaseRequest> = {}): LeaseRequest => ({
  config: CONFIG,
  attributes: { publicIp: parseIpv4('PublicIP', publicIp) },
  previousSubnet: undefined,
  ...more,
});

let pki: Pki;
beforeAll(async () => {
  pki = await Pki.create();
  await pki.authority('ca');
  await pki.authority('other-ca');
  await pki.certificate('apiserver', 'ca');
});
afterAll(() => pki.end());

describe.each(SERVERS)('$name', ({ missing, start }) => {
  if (missing !== undefined) {
    it.skip(`is not there: ${missing}`, () => undefined);
    return;
  }
  let server: ApiServer;
  let admin: Admin;
  let cut: Cut;
  let directory: string;
  const stores: KubeStore[] = [];
  const watchers: Watcher[] = [];
  let problems: readonly Problem[] = [];

  beforeAll(async () => {
    server = await start(pki);
    admin = new Admin(server);
    cut = await Cut.to(server.url);
    directory = await mkdtemp(join(tmpdir(), 'flannelette-account-'));
    await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
    await account('flannel');
    const rules = [
      { apiGroups: [''], resources: ['pods'], verbs: ['get'] },
      { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] },
      { apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] },
    ];
    const rbac = 'rbac.authorization.k8s.io';
    const metadata = { name: 'flannel' };
    await admin.create({ apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata, rules });
    await admin.create({
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRoleBinding',
      metadata,
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'flannel' },
      subjects: [{ kind: 'ServiceAccount', name: 'flannel', namespace: NAMESPACE }],
    });
    await mount('flannel');
    // Roles reach the authorizer of kube-apiserver a moment later.
    const probe = await open();
    await waitFor('the role', 20_000, () =>
      probe.acquireLease(request(), never).then(
        () => true as const,
        (error: Error) => (/no node/.test(error.message) ? (true as const) : undefined),
      ),
    );
  });
  afterAll(async () => {
    await cut.end();
    await server.end();
    await rm(directory, { recursive: true });
  });
  beforeEach(async () => {
    problems = [];
    cut.open();
    await admin.deleteNodes();
    await admin.createNode('node-1', ['10.244.1.0/24']);
  });
  afterEach(async () => {
    for (const watcher of watchers.splice(0)) await watcher.end();
    for (const store of stores.splice(0)) await store.close();
  });

  const account = (name: string) =>
    admin.create({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name, namespace: NAMESPACE },
    });

  /** What the kubelet mounts into a pod of the service account. */
  async function mount(name: string, ca = 'ca', into = directory): Promise<string> {
    await mkdir(into, { recursive: true });
    await writeFile(join(into, 'token'), `${await admin.token(NAMESPACE, name)}\n`);
    await copyFile(pki.file(`${ca}.pem`), join(into, 'ca.crt'));
    return into;
  }

  async function open(
    more: Partial<KubeOptions> = {},
    named: 'by the node' | 'by the pod' = 'by the node',
  ): Promise<KubeStore> {
    const options = {
      ...KUBE_DEFAULTS,
      apiUrl: cut.url,
      ...(named === 'by the node' ? { nodeName: 'node-1' } : {}),
      serviceAccountPath: directory,
      ...more,
    };
    const store = await KubeStore.open(options, {
      log: silentLogger(),
      report: (found) => {
        problems = found;
      },
    });
    stores.push(store);
    return store;
  }

  function watch(store: KubeStore): Watcher {
    const watcher = new Watcher(store);
    watchers.push(watcher);
    return watcher;
  }

  async function annotationsOf(name: string): Promise<Record<string, string>> {
    return (await admin.node(name)).metadata.annotations ?? {};
  }

  describe('a lease', () => {
    it('is not told under what is no address: that is waited for', async () => {
      await admin.annotate('node-1', { [`${A}/public-ip-overwrite`]: 'nat.example.com' });
      const store = await open();
      await expect(store.acquireLease(request(), never)).rejects.toMatchObject({
        code: STORE_MISCONFIGURED,
        message: `${A}/public-ip-overwrite of node node-1: "nat.example.com" is not valid: expected an IPv4 address of four decimal parts such as 10.168.0.2`,
      });
    });

    it('is the podCIDR, and annotations to the byte as flanneld writes them', async () => {
      await admin.annotate('node-1', { 'example.com/other': 'kept' });
      const store = await open();
      const lease = await store.acquireLease(request(), never);
      expect(text(lease)).toBe('10.244.1.0/24 10.168.0.2');
      expect(lease.expiresAt).toBeUndefined();
      const { 'example.com/other': other, ...ours } = await annotationsOf('node-1');
      expect(ours).toEqual(flannel(OWN));
      expect(other).toBe('kept');
    });

    it('that is written already costs no write', async () => {
      const store = await open();
      await store.acquireLease(request(), never);
      const { resourceVersion } = (await admin.node('node-1')).metadata;
      await store.acquireLease(request(), never);
      expect((await admin.node('node-1')).metadata.resourceVersion).toBe(resourceVersion);
    });

    it('of vxlan has its type and data, under the prefix that is asked for', async () => {
      const store = await open({ annotationPrefix: 'net.example.com/blue' });
      const backendData = { VNI: 1, VtepMAC: '0a:00:00:00:00:01' };
      const publicIp = parseIpv4('PublicIP', OWN);
      await store.acquireLease(
        request(OWN, { attributes: { publicIp, backendType: 'vxlan', backendData } }),
        never,
      );
      expect(await annotationsOf('node-1')).toEqual({
        'net.example.com/blue-kube-subnet-manager': 'true',
        'net.example.com/blue-backend-type': 'vxlan',
        'net.example.com/blue-backend-data': '{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}',
        'net.example.com/blue-public-ip': OWN,
      });
    });

    it('is told others under public-ip-overwrite, and this host under its own address', async () => {
      await admin.annotate('node-1', { [`${A}/public-ip-overwrite`]: '203.0.113.7' });
      const store = await open();
      const lease = await store.acquireLease(request(), never);
      expect(text(lease)).toBe('10.244.1.0/24 10.168.0.2');
      expect((await annotationsOf('node-1'))[`${A}/public-ip`]).toBe('203.0.113.7');
      expect((await watch(store).until('snapshot')).leases.map(text)).toEqual([text(lease)]);
      const other = await open({ nodeName: 'node-2' });
      await admin.createNode('node-2', ['10.244.2.0/24']);
      const { leases } = await watch(other).until('snapshot');
      expect(leases.map(text)).toEqual(['10.244.1.0/24 203.0.113.7']);
    });

    it('needs a podCIDR, and says so until there is one', async () => {
      await admin.createNode('node-3', []);
      const store = await open({ nodeName: 'node-3' });
      await expect(store.acquireLease(request(), never)).rejects.toMatchObject({
        code: STORE_MISCONFIGURED,
        message:
          'podCIDR of node node-3: (missing) is not valid: expected an IPv4 subnet, which kube-controller-manager assigns with --allocate-node-cidrs and --cluster-cidr',
      });
      await admin.patchNode('node-3', {
        spec: { podCIDR: '10.244.3.0/24', podCIDRs: ['10.244.3.0/24'] },
      });
      expect(text(await store.acquireLease(request(), never))).toBe('10.244.3.0/24 10.168.0.2');
    });

    it('of a dual-stack node is its IPv4 subnet, of any length inside Network', async () => {
      await admin.createNode('node-4', ['fd00:10:244::/64', '10.244.128.0/17']);
      const store = await open({ nodeName: 'node-4' });
      const lease = await store.acquireLease(request(), never);
      expect(text(lease)).toBe('10.244.128.0/17 10.168.0.2');
      expect(store.accepts(CONFIG, lease.subnet)).toBe(true);
    });

    it('outside Network ends a start, and is waited for later', async () => {
      await admin.createNode('node-5', ['10.250.0.0/24']);
      const store = await open({ nodeName: 'node-5' });
      const message =
        'podCIDR of node node-5: "10.250.0.0/24" is not valid: expected a subnet of Network 10.244.0.0/16 (/etc/kube-flannel/net-conf.json): both must be the cluster\'s --cluster-cidr';
      await expect(store.acquireLease(request(), never)).rejects.toMatchObject({
        kind: 'input',
        message,
      });
      const wide = parseNetworkConfig('{"Network":"10.0.0.0/8"}');
      await store.acquireLease(request(OWN, { config: wide }), never);
      await expect(store.acquireLease(request(), never)).rejects.toMatchObject({
        code: STORE_MISCONFIGURED,
        message,
      });
    });

    it('is asked for by the name of the pod where that is all there is', async () => {
      await admin.create({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'kube-flannel-ds-x', namespace: NAMESPACE },
        spec: { nodeName: 'node-1', containers: [{ name: 'c', image: 'i' }] },
      });
      const store = await open(
        { podName: 'kube-flannel-ds-x', podNamespace: NAMESPACE },
        'by the pod',
      );
      expect(text(await store.acquireLease(request(), never))).toBe('10.244.1.0/24 10.168.0.2');
    });

    it('of a node that is not there is waited for', async () => {
      const store = await open({ nodeName: 'node-9' });
      await expect(store.acquireLease(request(), never)).rejects.toMatchObject({
        code: STORE_MISCONFIGURED,
        message: `${cut.url}: it has no node node-9: expected NODE_NAME to be the name of a node (kubectl get nodes)`,
      });
      expect(problems.map(({ id }) => id)).toEqual(['kube_no_object']);
      await admin.createNode('node-9', ['10.244.9.0/24']);
      await store.acquireLease(request(), never);
      expect(problems).toEqual([]);
    });

    it('is lost when the node has another podCIDR', async () => {
      const store = await open();
      const lease = await store.acquireLease(request(), never);
      expect(await store.renewLease(lease, never)).toBe(lease);
      await admin.deleteNode('node-1');
      await admin.createNode('node-1', ['10.244.77.0/24']);
      await expect(store.renewLease(lease, never)).rejects.toMatchObject({ code: LEASE_LOST });
    });

    it('is announced by NetworkUnavailable=False, beside the conditions of others', async () => {
      await admin.heartbeat('node-1');
      const store = await open();
      await store.announce(never);
      const { status } = await admin.node('node-1');
      const conditions = status?.conditions as Record<string, string>[];
      expect(conditions.find(({ type }) => type === 'NetworkUnavailable')).toMatchObject({
        status: 'False',
        reason: 'FlannelIsUp',
        message: 'Flannel is running on this node',
      });
      expect(conditions.some(({ type }) => type === 'Ready')).toBe(true);
      await admin.heartbeat('node-1');
      const quiet = await open({ setNodeNetworkUnavailable: false });
      const { resourceVersion } = (await admin.node('node-1')).metadata;
      await quiet.announce(never);
      expect((await admin.node('node-1')).metadata.resourceVersion).toBe(resourceVersion);
    });

    it('public address of the operator: node-public-ip', async () => {
      const store = await open();
      expect(await store.readPublicIp(never)).toBeUndefined();
      await admin.annotate('node-1', { [`${A}/node-public-ip`]: '10.168.0.9' });
      expect(await store.readPublicIp(never)).toBe('10.168.0.9');
      await admin.annotate('node-1', { [`${A}/node-public-ip`]: 'eth0' });
      await expect(store.readPublicIp(never)).rejects.toThrow(
        `${A}/node-public-ip of node node-1: "eth0" is not valid: expected an IPv4 address`,
      );
    });
  });

  describe('a watch', () => {
    it('begins with the nodes that a flannel keeps, whichever backend they have', async () => {
      const vxlan = {
        [`${A}/backend-type`]: 'vxlan',
        [`${A}/backend-data`]: '{"VNI":1,"VtepMAC":"aa"}',
      };
      await admin.createNode('node-2', ['10.244.2.0/24'], flannel('10.168.0.3'));
      await admin.createNode('node-3', ['10.244.3.0/24'], flannel('10.168.0.4', vxlan));
      await admin.createNode('node-4', ['10.244.4.0/24'], { 'example.com/other': 'x' });
      await admin.createNode('node-5', ['10.244.5.0/24'], flannel('nonsense'));
      await admin.createNode('node-6', [], flannel('10.168.0.6'));
      const store = await open();
      await store.acquireLease(request(), never);
      const { leases, rejected } = await watch(store).until('snapshot');
      expect(leases.map(text).sort()).toEqual([
        '10.244.1.0/24 10.168.0.2',
        '10.244.2.0/24 10.168.0.3',
        '10.244.3.0/24 10.168.0.4',
      ]);
      expect(leases.find((lease) => text(lease).startsWith('10.244.3'))?.attributes).toMatchObject({
        backendType: 'vxlan',
        backendData: { VNI: 1, VtepMAC: 'aa' },
      });
      expect(rejected).toEqual([
        {
          key: 'node node-5',
          reason: `${A}/public-ip: "nonsense" is not valid: expected an IPv4 address such as 10.168.0.2`,
        },
        {
          key: 'node node-6',
          reason: expect.stringContaining('podCIDR of node node-6: (missing)') as string,
        },
      ]);
    });

    it('tells a node that joins, changes and goes, and no heartbeat', async () => {
      const store = await open();
      await store.acquireLease(request(), never);
      const watcher = watch(store);
      await watcher.until('snapshot');
      await admin.createNode('node-2', ['10.244.2.0/24']);
      for (let beat = 0; beat < 50; beat += 1) await admin.heartbeat('node-2');
      await admin.annotate('node-2', flannel('10.168.0.3'));
      expect(text((await watcher.until('put')).lease)).toBe('10.244.2.0/24 10.168.0.3');
      for (let beat = 0; beat < 50; beat += 1) await admin.heartbeat('node-2');
      await admin.annotate('node-2', flannel('10.168.0.33'));
      expect(text((await watcher.until('put')).lease)).toBe('10.244.2.0/24 10.168.0.33');
      await admin.annotate('node-2', { [`${A}/kube-subnet-manager`]: null });
      expect(formatCidr((await watcher.until('delete')).subnet)).toBe('10.244.2.0/24');
      await admin.annotate('node-2', flannel('10.168.0.33'));
      await watcher.until('put');
      await admin.deleteNode('node-2');
      await watcher.until('delete');
      expect(watcher.events.map(({ type }) => type)).toEqual([
        'snapshot',
        'put',
        'put',
        'delete',
        'put',
        'delete',
      ]);
    });

    it('moves a node that is created again with another podCIDR', async () => {
      await admin.createNode('node-2', ['10.244.2.0/24'], flannel('10.168.0.3'));
      const watcher = watch(await open());
      await watcher.until('snapshot');
      await admin.deleteNode('node-2');
      await admin.createNode('node-2', ['10.244.22.0/24'], flannel('10.168.0.3'));
      expect(formatCidr((await watcher.until('delete')).subnet)).toBe('10.244.2.0/24');
      expect(text((await watcher.until('put')).lease)).toBe('10.244.22.0/24 10.168.0.3');
    });

    it('keeps the lease of a node whose annotations were broken by hand', async () => {
      await admin.createNode('node-2', ['10.244.2.0/24'], flannel('10.168.0.3'));
      const watcher = watch(await open());
      await watcher.until('snapshot');
      await admin.annotate('node-2', { [`${A}/public-ip`]: '10.168.0' });
      expect((await watcher.next()).type).toBe('rejected');
      await admin.annotate('node-2', { [`${A}/backend-data`]: '{' });
      await admin.annotate('node-2', flannel('10.168.0.4'));
      expect(text((await watcher.until('put')).lease)).toBe('10.244.2.0/24 10.168.0.4');
      expect(await watcher.until('cleared')).toEqual({ type: 'cleared', key: 'node node-2' });
      expect(watcher.events.some(({ type }) => type === 'delete')).toBe(false);
    });

    it("tells that this host's own annotations were changed: they are written again", async () => {
      const store = await open();
      const lease = await store.acquireLease(request(), never);
      const watcher = watch(store);
      await watcher.until('snapshot');
      for (const change of [
        { [`${A}/public-ip`]: '10.168.0.99' },
        { [`${A}/kube-subnet-manager`]: null },
        { [`${A}/public-ip-overwrite`]: '203.0.113.7' },
      ]) {
        await admin.annotate('node-1', change);
        expect(formatCidr((await watcher.until('delete')).subnet)).toBe('10.244.1.0/24');
        await store.acquireLease(request(), never);
        expect(text((await watcher.until('put')).lease)).toBe(text(lease));
      }
      expect(await annotationsOf('node-1')).toEqual(
        flannel('203.0.113.7', { [`${A}/public-ip-overwrite`]: '203.0.113.7' }),
      );
    });

    it('gives a podCIDR that two nodes have to one of them, and names both', async () => {
      await admin.createNode('node-2', ['10.244.2.0/24'], flannel('10.168.0.3'));
      const store = await open();
      await store.acquireLease(request(), never);
      const watcher = watch(store);
      await watcher.until('snapshot');
      await admin.createNode('node-3', ['10.244.2.0/24'], flannel('10.168.0.4'));
      const reason =
        'podCIDR 10.244.2.0/24 is that of node node-2 as well: expected another one for each node';
      expect(await watcher.next()).toEqual({
        type: 'rejected',
        entry: { key: 'node node-3', reason },
      });
      // This host's own is its own, whoever is older.
      await admin.createNode('node-4', ['10.244.1.0/24'], flannel('10.168.0.5'));
      expect(await watcher.next()).toMatchObject({
        type: 'rejected',
        entry: { key: 'node node-4' },
      });
      await admin.deleteNode('node-2');
      expect(text((await watcher.until('put')).lease)).toBe('10.244.2.0/24 10.168.0.4');
      expect(await watcher.next()).toEqual({ type: 'cleared', key: 'node node-3' });
    });

    it('goes on where it was after an outage', async () => {
      await admin.createNode('node-2', ['10.244.2.0/24'], flannel('10.168.0.3'));
      const watcher = watch(await open());
      await watcher.until('snapshot');
      cut.close();
      const { error } = await watcher.until('degraded');
      expect(error.message).toContain(cut.url);
      await admin.annotate('node-2', flannel('10.168.0.4'));
      cut.open();
      expect(text((await watcher.until('put')).lease)).toBe('10.244.2.0/24 10.168.0.4');
      expect(watcher.events.filter(({ type }) => type === 'snapshot')).toHaveLength(1);
      expect(watcher.events.at(-2)?.type).toBe('recovered');
    });

    it('lists again when its past was compacted meanwhile', async () => {
      await admin.createNode('node-2', ['10.244.2.0/24'], flannel('10.168.0.3'));
      const watcher = watch(await open());
      await watcher.until('snapshot');
      cut.close();
      await watcher.until('degraded');
      await admin.deleteNode('node-2');
      await admin.createNode('node-3', ['10.244.3.0/24'], flannel('10.168.0.4'));
      await server.restartCompacted();
      cut.open();
      const { leases } = await watcher.until('snapshot');
      expect(leases.map(text)).toEqual(['10.244.3.0/24 10.168.0.4']);
      expect(watcher.events.map(({ type }) => type)).toContain('recovered');
    });

    it('lists more nodes than one page holds', async () => {
      const names = Array.from({ length: 1_100 }, (_, at) => at);
      const create = async (worker: number): Promise<void> => {
        for (const at of names.filter((one) => one % 16 === worker)) {
          const subnet = `10.${100 + (at >> 8)}.${at & 255}.0/24`;
          await admin.createNode(`n${at}`, [subnet], flannel(`172.16.${at >> 8}.${at & 255}`));
        }
      };
      await Promise.all(Array.from({ length: 16 }, (_, worker) => create(worker)));
      const { leases, rejected } = await watch(await open()).until('snapshot');
      expect(new Set(leases.map(text)).size).toBe(1_100);
      expect(rejected).toEqual([]);
    }, 180_000);
  });

  describe('a refusal is one line', () => {
    it('of a role that is missing, and no more once it is there', async () => {
      await account('nobody');
      const into = await mount('nobody', 'ca', join(directory, 'nobody'));
      const store = await open({ serviceAccountPath: into });
      await expect(store.acquireLease(request(), never)).rejects.toMatchObject({
        code: STORE_REFUSES,
        message: expect.stringMatching(
          /: it does not allow "get" of "nodes": 403 Forbidden \(nodes "node-1" is forbidden: User "system:serviceaccount:kube-flannel:nobody" cannot get resource "nodes" in API group "" at the cluster scope\); expected a ClusterRole with that rule$/,
        ) as string,
      });
      expect(problems.map(({ id }) => id)).toEqual(['kube_permission']);
      const { error } = await watch(store).until('degraded');
      expect(error.message).toContain('it does not allow "list" of "nodes": 403');
      await mount('flannel', 'ca', into);
      await store.acquireLease(request(), never);
      await watchers[0]?.until('snapshot');
      expect(problems).toEqual([]);
    });

    it('of a token that is not valid any more; the one that replaces it is read', async () => {
      await account('rotated');
      const into = await mount('flannel', 'ca', join(directory, 'rotated'));
      const store = await open({ serviceAccountPath: into });
      await store.acquireLease(request(), never);
      await writeFile(join(into, 'token'), 'expired');
      await expect(store.acquireLease(request(), never)).rejects.toMatchObject({
        code: STORE_REFUSES,
        message: `${cut.url}: it does not accept the token of ${into}/token: 401 Unauthorized; expected one of this cluster that has not expired`,
      });
      expect(problems.map(({ id }) => id)).toEqual(['kube_credentials']);
      await mount('flannel', 'ca', into);
      await store.acquireLease(request(), never);
      expect(problems).toEqual([]);
    });

    it('of a certificate that another authority signed', async () => {
      const into = await mount('flannel', 'other-ca', join(directory, 'other'));
      const store = await open({ serviceAccountPath: into });
      await expect(store.acquireLease(request(), never)).rejects.toMatchObject({
        code: STORE_MISCONFIGURED,
        message: `${cut.url}: its certificate is signed by none of ${into}/ca.crt`,
      });
      expect(problems.map(({ id }) => id)).toEqual(['kube_tls']);
      await mount('flannel', 'ca', into);
      await store.acquireLease(request(), never);
      expect(problems).toEqual([]);
    });
  });

  it('asks for what the role allows, and for no more', async () => {
    const made = await server.requestsOf(`system:serviceaccount:${NAMESPACE}:flannel`);
    expect([...made].sort()).toEqual([
      'get nodes',
      'get pods',
      'list nodes',
      'patch nodes/status',
      'watch nodes',
    ]);
  });
});
