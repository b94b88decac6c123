/**
 * The image of deploy/Dockerfile as the pods of deploy/kube-flannelette.yml: arguments, capabilities, mounts
 * and read-only root are the manifest's, carried out by an OCI runtime (crun) with the usual seccomp profile.
 * Built by scripts/image.mjs; FLANNELETTE_IMAGE names its folder.
 *
 *   container-1 100.96.1.2 --- host-1 pod, 10.168.0.2 --+
 *                                                       br0 10.168.0.1, API server
 *   container-2 100.96.2.3 --- host-2 pod, 10.168.0.3 --+
 */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DaemonStatus } from '../../src/daemon/status.js';
import { packageVersion } from '../../src/daemon/version.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { GATEWAY, LAB_DIRECTORY, type HostPlan } from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { Admin, InProcess } from '../support/kube-cluster.js';
import type { Json } from '../support/kube-objects.js';
import { Pki } from '../support/pki.js';
import { TestLab } from '../support/test-lab.js';
import { runtimeConfig, type Container, type Mount } from './oci.js';

const IMAGE = process.env['FLANNELETTE_IMAGE'] ?? '';
const MANIFEST = resolve(import.meta.dirname, '../../deploy/kube-flannelette.yml');
/** Of the list of plugins and what they call: files that install-cni looks for. */
const PLUGINS = ['flannel', 'bridge', 'host-local', 'portmap'];

interface PodSpec {
  readonly initContainers: readonly [Container];
  readonly containers: readonly [Container];
  readonly volumes: readonly { readonly name: string; readonly hostPath?: { path: string } }[];
}

const manifests = parseAllDocuments(await readFile(MANIFEST, 'utf8')).map(
  (document) => document.toJS() as Json,
);
const object = (kind: string): Json => {
  const found = manifests.find((one) => one['kind'] === kind);
  if (found === undefined) throw new Error(`no ${kind}`);
  return found;
};
const pod = ((object('DaemonSet')['spec'] as Json)['template'] as { spec: PodSpec }).spec;
const [daemonContainer] = pod.containers;
const [initContainer] = pod.initContainers;

let lab: TestLab;
let pki: Pki;
let server: InProcess;
let admin: Admin;
const daemons: Program[] = [];
let made = 0;

beforeAll(async () => {
  // crun refuses a machine with both kinds of control groups; none is made here.
  await run(['mount', '-t', 'cgroup2', 'none', '/sys/fs/cgroup']);
  lab = await TestLab.bare(2);
  pki = await Pki.create();
  await pki.authority('ca');
  await pki.certificate('apiserver', 'ca', { names: `IP:${GATEWAY}` });
  server = await new InProcess(pki, GATEWAY).started();
  admin = new Admin(server);
  for (const manifest of manifests) await admin.create(manifest);
  for (const plan of lab.hosts) await prepare(plan);
}, 60_000);

afterAll(async () => {
  for (const daemon of daemons) await daemon.stop(10_000);
  await lab?.tearDown();
  await server?.end();
  await pki?.end();
});

/** What is the host's: the paths of the manifest's volumes, below a folder of its own. */
function hostPath(plan: HostPlan, path: string): string {
  return join(LAB_DIRECTORY, plan.host, 'root', path);
}

/** What kubelet, runtime and an operator put there. */
async function prepare(plan: HostPlan): Promise<void> {
  const network = '{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}';
  const data = { ...(object('ConfigMap')['data'] as Json), 'net-conf.json': network };
  const account = hostPath(plan, '/account');
  const folders = ['/run/flannel', '/etc/cni/net.d', '/opt/cni/bin', '/flannel-cfg', '/account'];
  for (const path of folders) await mkdir(hostPath(plan, path), { recursive: true });
  await writeFile(hostPath(plan, '/run/xtables.lock'), '');
  for (const [name, text] of Object.entries(data)) {
    await writeFile(hostPath(plan, `/flannel-cfg/${name}`), String(text));
  }
  await writeFile(join(account, 'token'), await admin.token('kube-flannel', 'flannel'));
  await writeFile(join(account, 'ca.crt'), await readFile(pki.file('ca.pem')));
  await admin.createNode(plan.host, [plan.subnet]);
}

function mountsOf(plan: HostPlan, container: Container): Mount[] {
  const own = container.volumeMounts.map(({ name, mountPath, readOnly = false }): Mount => {
    const volume = pod.volumes.find((one) => one.name === name);
    const path = volume?.hostPath?.path;
    const source =
      path === undefined
        ? hostPath(plan, '/flannel-cfg')
        : path.startsWith('/dev/')
          ? path
          : hostPath(plan, path);
    return { source, destination: mountPath, readOnly };
  });
  const destination = '/var/run/secrets/kubernetes.io/serviceaccount';
  return [...own, { source: hostPath(plan, '/account'), destination, readOnly: true }];
}

/** A container of the pod on the host's network, with what the manifest says. */
async function container(
  plan: HostPlan,
  spec: Container,
  args: readonly string[] = spec.args,
): Promise<Program> {
  made += 1;
  const bundle = join(LAB_DIRECTORY, `bundle-${made}`);
  await mkdir(bundle);
  const { hostname, port } = new URL(server.url);
  const config = await runtimeConfig(IMAGE, {
    container: spec,
    args,
    networkNamespace: `/run/netns/${plan.host}`,
    mounts: mountsOf(plan, spec),
    env: {
      ...Object.fromEntries(spec.env?.map(({ name }) => [name, plan.host]) ?? []),
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port,
    },
  });
  await writeFile(join(bundle, 'config.json'), JSON.stringify(config));
  const argv = ['crun', '--root=/run/crun', '--cgroup-manager=disabled', 'run'];
  return new Program([...argv, `--bundle=${bundle}`, `container-${made}`]);
}

async function output(plan: HostPlan, spec: Container, ...args: string[]) {
  const program = await container(plan, spec, args);
  return { code: await program.ended, stdout: program.stdout, stderr: program.stderr };
}

describe('the image', () => {
  it('is this version, and tries the kernel', async () => {
    const { stdout, stderr } = await output(lab.near, daemonContainer, '--version');
    expect(stderr).toBe('');
    expect(stdout).toBe(`${packageVersion()}\n`);
    const probed = await output(lab.near, daemonContainer, 'probe', '--json');
    const { features } = JSON.parse(probed.stdout) as {
      features: { name: string; state: string }[];
    };
    const states = Object.fromEntries(features.map(({ name, state }) => [name, state]));
    // A TUN is tried in a network namespace of its own, which takes more than these capabilities.
    expect(states).toMatchObject({ tun: 'untried', mmsg: 'yes', 'udp-gso': 'yes' });
  });

  it('installs the CNI configuration where the plugins are, and says what is missing', async () => {
    const list = hostPath(lab.near, '/etc/cni/net.d/10-flannel.conflist');
    const failed = await container(lab.near, initContainer);
    expect(await failed.ended).not.toBe(0);
    expect(failed.stderr).toContain('/opt/cni/bin');
    for (const plan of lab.hosts) {
      for (const name of PLUGINS) {
        const file = hostPath(plan, `/opt/cni/bin/${name}`);
        await writeFile(file, '#!/bin/sh\n');
        await chmod(file, 0o755);
      }
      const installed = await container(plan, initContainer);
      expect(await installed.ended, installed.stderr).toBe(0);
    }
    const data = object('ConfigMap')['data'] as Record<string, string>;
    expect(await readFile(list, 'utf8')).toBe(data['cni-conf.json']);
  });

  it('carries packets between two nodes with the capabilities of the manifest', async () => {
    for (const plan of lab.hosts) daemons.push(await container(plan, daemonContainer));
    for (const [at, plan] of lab.hosts.entries()) {
      await waitFor(`${plan.host} to be ready`, 30_000, async () => {
        const daemon = daemons[at];
        if (daemon?.running !== true) throw new Error(`it ended: ${daemon?.stderr ?? ''}`);
        // The probe of the manifest.
        const argv = [
          'bash',
          '-c',
          'exec 3<>/dev/tcp/127.0.0.1/8081; printf "GET /readyz HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3',
        ];
        const { stdout } = await run(inNamespace(plan.host, argv), { accept: [0, 1] });
        return stdout.startsWith('HTTP/1.1 200') ? true : undefined;
      });
      await lab.addContainer(plan, 1_472);
      const env = await readFile(hostPath(plan, '/run/flannel/subnet.env'), 'utf8');
      expect(env).toContain(`FLANNEL_SUBNET=${plan.bridgeAddress}/24\nFLANNEL_MTU=1472\n`);
      const nat = await run(inNamespace(plan.host, ['iptables-save', '-t', 'nat']));
      expect(nat.stdout).toContain(
        '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
      );
    }
    for (const [from, to] of [
      [lab.near, lab.far],
      [lab.far, lab.near],
    ] as const) {
      await waitFor(`${from.host} to ${to.host}`, 10_000, async () =>
        (await ping(from, to.containerAddress, { count: 3 })).received === 3 ? true : undefined,
      );
      expect((await new IperfTarget(to).tcp(from, { seconds: 1 })).gbps).toBeGreaterThan(0);
    }
    expect(JSON.stringify((await admin.node(lab.near.host)).status)).toContain('FlannelIsUp');
    // `kubectl exec POD -- flannelette status`, while the container of the first daemon is the last but one.
    const exec = ['crun', '--root=/run/crun', 'exec', `container-${made - 1}`];
    const { stdout } = await run([...exec, 'flannelette', 'status', '--json']);
    const { ready, routes, features } = JSON.parse(stdout) as DaemonStatus;
    expect({ ready, routes: routes.map(({ subnet }) => subnet) }).toEqual({
      ready: true,
      routes: [lab.far.subnet],
    });
    expect(features.find(({ name }) => name === 'tun-tso')?.state).toBe('yes');
    const problems = daemons.map(({ stderr }) => stderr.match(/"level":(40|50|60).*/g) ?? []);
    expect(problems).toEqual([[], []]);
  }, 60_000);

  it('ends well, and when it cannot run says why in the last line', async () => {
    for (const daemon of daemons.splice(0)) expect(await daemon.stop(10_000)).toBe(0);
    const network = '{"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}';
    await writeFile(hostPath(lab.near, '/flannel-cfg/net-conf.json'), network);
    const failed = await container(lab.near, daemonContainer);
    expect(await failed.ended).toBe(2);
    // What kubelet takes for the termination message (FallbackToLogsOnError).
    expect(failed.stderr.trim().split('\n').at(-1)).toContain(
      'podCIDR of node host-1: \\"100.96.1.0/24\\" is not valid: expected a subnet of Network 10.244.0.0/16',
    );
  });
});
