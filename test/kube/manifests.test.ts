/** The manifest in deploy: an API server takes it, and its role is what the store asks for. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readArguments, resolveFlags } from '../../src/cli/flags.js';
import { daemonOptions, runCommand } from '../../src/cli/run-command.js';
import { runFlags } from '../../src/cli/run-flags.js';
import { parseIpv4 } from '../../src/config/ipv4.js';
import { resolveDaemonOptions, validateDaemonOptions } from '../../src/daemon/options.js';
import { KUBE_DEFAULTS } from '../../src/lease/kube/kube-options.js';
import { KubeStore } from '../../src/lease/kube/kube-store.js';
import { silentLogger } from '../../src/log.js';
import { parseConfig } from '../../src/network/registry.js';
import { waitFor } from '../../src/testbed/programs.js';
import { Admin, SERVERS, type ApiServer } from '../support/kube-cluster.js';
import type { Json } from '../support/kube-objects.js';
import { Pki } from '../support/pki.js';
import { Watcher } from '../support/watcher.js';

const never = new AbortController().signal;
const FILE = resolve(import.meta.dirname, '../../deploy/kube-flannelette.yml');
const NAMESPACE = 'kube-flannel';

interface Container {
  readonly name: string;
  readonly args: string[];
  readonly env?: { readonly name: string }[];
  readonly volumeMounts: { readonly name: string; readonly mountPath: string }[];
  readonly securityContext: Json;
  readonly terminationMessagePolicy: string;
}
interface Manifest extends Json {
  readonly kind: string;
  readonly metadata: Json & { readonly name: string };
}

const manifests = parseAllDocuments(await readFile(FILE, 'utf8'), { prettyErrors: false }).map(
  (document) => document.toJS() as Manifest,
);
const kind = (wanted: string): Manifest => {
  const found = manifests.find((one) => one.kind === wanted);
  if (found === undefined) throw new Error(`no ${wanted}`);
  return found;
};
const pod = ((kind('DaemonSet').spec as Json).template as Json).spec as Json & {
  readonly containers: readonly [Container];
  readonly initContainers: readonly [Container];
  readonly volumes: { readonly name: string }[];
};
const config = kind('ConfigMap').data as Record<string, string>;

describe('deploy/kube-flannelette.yml', () => {
  it('starts a daemon that its command line and environment are enough for', () => {
    const [command = '', ...argv] = pod.containers[0].args;
    expect(command).toBe(runCommand.name);
    const env = Object.fromEntries(
      pod.containers[0].env?.map(({ name }) => [name, 'node-1']) ?? [],
    );
    const kubelet = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };
    const values = resolveFlags(runFlags, readArguments(argv, runCommand), env);
    const settings = resolveDaemonOptions(daemonOptions(values, { ...env, ...kubelet }));
    validateDaemonOptions(settings);
    expect(settings.store).toMatchObject({ kind: 'kube', nodeName: 'node-1' });
    const mounts = pod.containers[0].volumeMounts.map(({ mountPath }) => mountPath);
    expect(mounts).toContain(resolve(KUBE_DEFAULTS.netConfigPath, '..'));
    expect(mounts).toContain(resolve(settings.subnetFile, '..'));
  });

  it('has a network configuration, and a list of plugins, that are valid', () => {
    expect(parseConfig(config['net-conf.json'] ?? '').backend.type).toBe('udp');
    const list = JSON.parse(config['cni-conf.json'] ?? '') as { plugins: { type: string }[] };
    expect(list.plugins.map(({ type }) => type)).toEqual(['flannel', 'portmap']);
  });

  it('has the last line of the log of a container that failed told by its pod', () => {
    for (const container of [...pod.initContainers, ...pod.containers]) {
      expect(container.terminationMessagePolicy).toBe('FallbackToLogsOnError');
    }
  });

  it('gives the daemon two capabilities and no more, and mounts what there is', () => {
    expect(pod.containers[0].securityContext).toMatchObject({
      privileged: false,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
    });
    expect(pod.initContainers[0].securityContext).toMatchObject({
      capabilities: { drop: ['ALL'] },
    });
    const volumes = pod.volumes.map(({ name }) => name);
    for (const container of [...pod.containers, ...pod.initContainers]) {
      for (const { name } of container.volumeMounts) expect(volumes).toContain(name);
    }
  });
});

describe.each(SERVERS)('$name', ({ missing, start }) => {
  if (missing !== undefined) {
    it.skip(`is not there: ${missing}`, () => undefined);
    return;
  }
  let pki: Pki;
  let server: ApiServer;
  let admin: Admin;
  let directory: string;
  beforeAll(async () => {
    pki = await Pki.create();
    await pki.authority('ca');
    await pki.certificate('apiserver', 'ca');
    server = await start(pki);
    admin = new Admin(server);
    directory = await mkdtemp(join(tmpdir(), 'flannelette-account-'));
  });
  afterAll(async () => {
    await server.end();
    await pki.end();
    await rm(directory, { recursive: true });
  });

  it('takes each object, dry and in earnest, and knows every field', async () => {
    const [namespace, ...others] = manifests;
    expect(namespace?.kind).toBe('Namespace');
    await admin.create(namespace ?? {}, '?fieldValidation=Strict');
    for (const object of others) {
      await admin.create(object, '?dryRun=All&fieldValidation=Strict');
      await admin.create(object, '?fieldValidation=Strict');
    }
  });

  it('lets a pod of it in, under the level of the namespace', async () => {
    await admin.create(
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'of-the-daemonset', namespace: NAMESPACE },
        spec: pod,
      },
      '?dryRun=All&fieldValidation=Strict',
    );
  });

  it('lets the store do its work, with a role of which it uses all', async () => {
    await admin.createNode('node-1', ['10.244.1.0/24']);
    await copyFile(pki.file('ca.pem'), join(directory, 'ca.crt'));
    await writeFile(join(directory, 'token'), await admin.token(NAMESPACE, 'flannel'));
    const options = {
      ...KUBE_DEFAULTS,
      apiUrl: server.url,
      nodeName: 'node-1',
      serviceAccountPath: directory,
    };
    const store = await KubeStore.open(options, { log: silentLogger() });
    const request = {
      config: parseConfig(config['net-conf.json'] ?? ''),
      attributes: { publicIp: parseIpv4('PublicIP', '10.168.0.2') },
      previousSubnet: undefined,
    };
    // Roles reach the authorizer of kube-apiserver a moment later.
    await waitFor('the role', 20_000, () =>
      store.acquireLease(request, never).then(
        () => true as const,
        () => undefined,
      ),
    );
    const watcher = new Watcher(store);
    const { leases } = await watcher.until('snapshot');
    expect(leases).toHaveLength(1);
    await admin.createNode('node-2', ['10.244.2.0/24'], {
      'flannel.alpha.coreos.com/kube-subnet-manager': 'true',
      'flannel.alpha.coreos.com/public-ip': '10.168.0.3',
    });
    await watcher.until('put');
    await store.announce(never);
    await watcher.end();
    await store.close();
    const rules = kind('ClusterRole').rules as { resources: string[]; verbs: string[] }[];
    const allowed = rules.flatMap(({ resources, verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
    );
    const made = await server.requestsOf(`system:serviceaccount:${NAMESPACE}:flannel`);
    expect([...made].sort()).toEqual(allowed.sort());
  });
});
