/**
 * Pods by CNI: subnet.env of our daemons through flannel's own plugin, bridge, host-local and portmap,
 * with the list that `flannelette install-cni` writes.
 *
 *   pod-1 100.96.1.x --- cni0 100.96.1.1   host-1 10.168.0.2 --+
 *   pod-2 100.96.1.y ----'                                     br0 10.168.0.1, outside
 *   pod-3 100.96.2.x --- cni0 100.96.2.1   host-2 10.168.0.3 --+
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, run, type Program } from '../../src/testbed/programs.js';
import { GATEWAY } from '../../src/testbed/topology.js';
import { parsePing } from '../../src/testbed/traffic.js';
import { CniRuntime, type Added } from '../support/cni.js';
import { COMMAND, TestLab } from '../support/test-lab.js';
import { toolAt } from '../../src/testbed/tools.js';
import { ask, startServer } from '../support/who-asks.js';

const plugins = toolAt('cni-plugins');
const HOST_PORT = { hostPort: 8080, containerPort: 80, protocol: 'tcp' } as const;

// With Go they must be there; without it the stage is left out (scripts/test.mjs).
describe.skipIf(plugins === undefined)('CNI (skipped: the plugins were not built)', () => {
  let lab: TestLab;
  let node1: CniRuntime;
  let node2: CniRuntime;
  const addresses = new Map<string, string>();
  const servers: Program[] = [];
  let first: Added;
  let cni0Before: string;

  beforeAll(async () => {
    lab = await TestLab.bare(2, { flags: ['--ip-masq'] });
    for (const plan of lab.hosts) await lab.startDaemon(plan);
    const nodes = lab.hosts.map((plan) => new CniRuntime(plan, plugins ?? ''));
    [node1, node2] = nodes as [CniRuntime, CniRuntime];
    for (const node of nodes) {
      const places = [`--conf-dir=${node.confDir}`, `--bin-dir=${plugins}`];
      await run([...COMMAND, 'install-cni', ...places]);
    }
    cni0Before = await show(lab.near.host, 'link');
    first = await addPod(node1, 'pod-1', [HOST_PORT]);
    await addPod(node1, 'pod-2');
    await addPod(node2, 'pod-3');
    for (const pod of ['pod-1', 'pod-2', 'pod-3']) servers.push(await startServer(pod, 80, pod));
    for (const { host } of lab.hosts) servers.push(await startServer(host, 81, host));
    servers.push(await startServer(undefined, 82, 'outside'));
  });
  afterAll(async () => {
    for (const server of servers) await server.stop();
    await node1.deleteAll();
    await node2.deleteAll();
    await lab.tearDown();
  });

  async function addPod(node: CniRuntime, pod: string, ports = [] as (typeof HOST_PORT)[]) {
    const added = await node.add(pod, ports);
    addresses.set(pod, added.ips[0]?.address.split('/')[0] ?? '');
    return added;
  }

  const address = (pod: string): string => addresses.get(pod) ?? '';

  async function show(namespace: string, what: 'link' | 'route' | 'address'): Promise<string> {
    return (await run(inNamespace(namespace, ['ip', '-4', what, 'show']))).stdout;
  }

  it('makes cni0 with the first pod, with the gateway and the MTU of the overlay', async () => {
    expect(cni0Before).not.toContain('cni0');
    expect(first.ips[0]).toMatchObject({ address: '100.96.1.2/24', gateway: '100.96.1.1' });
    const host = await show(lab.near.host, 'address');
    expect(host).toMatch(/cni0: .* mtu 1472 [^]*inet 100\.96\.1\.1\/24/);
    const pod = await show('pod-1', 'address');
    expect(pod).toMatch(/lo: [^]*inet 127\.0\.0\.1\/8/);
    expect(pod).toMatch(/eth0@\S+ .* mtu 1472 [^]*inet 100\.96\.1\.2\/24/);
    const routes = await show('pod-1', 'route');
    expect(routes).toMatch(/^default via 100\.96\.1\.1 dev eth0/m);
    expect(routes).toMatch(/^100\.96\.0\.0\/16 via 100\.96\.1\.1 dev eth0/m);
  });

  it('lets pods of two nodes reach each other without translation', async () => {
    const argv = ['ping', '-n', '-c3', '-i0.1', '-s1444', '-Mdo', address('pod-3')];
    const { stdout } = await run(inNamespace('pod-1', argv));
    expect(parsePing(stdout, 3).received).toBe(3);
    // One hop at each host, and one at each end of the tunnel, as with flanneld.
    expect(stdout).toMatch(/ttl=60 /);
    expect(await ask('pod-1', address('pod-3'), 80)).toBe(`pod-3 ${address('pod-1')}`);
    expect(await ask('pod-3', address('pod-1'), 80)).toBe(`pod-1 ${address('pod-3')}`);
    expect(await ask('pod-1', address('pod-2'), 80)).toBe(`pod-2 ${address('pod-1')}`);
  });

  it('lets a pod reach every node, and every node a pod', async () => {
    const { near, far } = lab;
    expect(await ask('pod-1', near.address, 81)).toMatch(/^host-1 /);
    expect(await ask('pod-1', far.address, 81)).toMatch(/^host-2 /);
    expect(await ask(near.host, address('pod-1'), 80)).toBe('pod-1 100.96.1.1');
    expect(await ask(far.host, address('pod-1'), 80)).toBe('pod-1 100.96.2.0');
  });

  it('hides a pod behind its node, once, where it leaves the overlay', async () => {
    expect(await ask('pod-1', GATEWAY, 82)).toBe(`outside ${lab.near.address}`);
  });

  it('gives a pod a port of its node, and shows it who asks', async () => {
    expect(await ask(undefined, lab.near.address, 8080)).toBe(`pod-1 ${GATEWAY}`);
    // It leaves the overlay on its way to the node.
    expect(await ask('pod-3', lab.near.address, 8080)).toBe(`pod-1 ${lab.far.address}`);
  });

  it('turns a pod that asks for itself by the port of its node back to it (hairpin)', async () => {
    const port = first.interfaces.find(({ name }) => name.startsWith('veth'))?.name ?? '';
    const mode = `/sys/class/net/${port}/brport/hairpin_mode`;
    // /sys shows the namespace of the process that mounted it.
    const look = 'mount -t sysfs none /sys; cat "$1"';
    const argv = ['unshare', '--mount', 'sh', '-ec', look, 'sh', mode];
    expect((await run(inNamespace(lab.near.host, argv))).stdout.trim()).toBe('1');
    expect(await ask('pod-1', lab.near.address, 8080)).toBe('pod-1 100.96.1.1');
  });

  it('takes everything of a pod away again but cni0', async () => {
    await node1.add('pod-4', [{ ...HOST_PORT, hostPort: 8084 }]);
    const before = await node1.reserved();
    const links = async (): Promise<number> =>
      ((await show(lab.near.host, 'link')).match(/veth/g) ?? []).length;
    const ports = await links();
    await node1.delete('pod-4');
    expect(await links()).toBe(ports - 1);
    expect(before.length - (await node1.reserved()).length).toBe(1);
    const { stdout } = await run(inNamespace(lab.near.host, ['iptables-save', '-t', 'nat']));
    expect(stdout).toContain('8080');
    expect(stdout).not.toContain('8084');
    expect(await show(lab.near.host, 'link')).toContain('cni0');
  });

  it('is told by our subnet.env', async () => {
    const text = await readFile(join(node1.directory, 'subnet.env'), 'utf8');
    expect(text).toBe(
      'FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
    );
  });
});
