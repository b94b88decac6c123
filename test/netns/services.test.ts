/**
 * The documents' four kinds of traffic beside kube-proxy: in a pod, between pods, from a pod to a Service
 * whose pod is elsewhere, from outside to a Service. Each server says who it is and from where it is
 * asked; our daemons masquerade (--ip-masq), and FORWARD drops what no rule accepts.
 *
 *   container-1 100.96.1.2:80   host-1 10.168.0.2:30080 --+
 *                                                         br0 10.168.0.1, outside
 *   container-2 100.96.2.3:80   host-2 10.168.0.3:30080 --+
 *                  Service 10.96.0.10:8000
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { inNamespace, run, type Program } from '../../src/testbed/programs.js';
import { containerPort, GATEWAY, type HostPlan } from '../../src/testbed/topology.js';
import {
  ipvsMissing,
  masqueraded,
  proxyByIptables,
  proxyByIpvs,
  type Service,
} from '../support/kube-proxy.js';
import { TestLab } from '../support/test-lab.js';
import { ask, startServer } from '../support/who-asks.js';

const SERVICE = '10.96.0.10';
const PORT = 8000;
const NODE_PORT = 30_080;
/** User-mode Linux, where ipvs is tried, takes half a minute to start two daemons with firewall rules. */
const LIMIT_MS = 120_000;
vi.setConfig({ testTimeout: 2 * LIMIT_MS });

let lab: TestLab;
const servers: Program[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
  await run(['ip', 'route', 'flush', SERVICE]);
  await lab.tearDown();
});

/** Pods, a server in each and outside. */
async function setUp(): Promise<void> {
  lab = await TestLab.setUp({
    flags: ['--ip-masq', '--iptables-forward-rules=true'],
    readyLimitMs: LIMIT_MS,
  });
  for (const plan of lab.hosts) {
    await run(inNamespace(plan.host, ['iptables', '-P', 'FORWARD', 'DROP']));
    // What CNI's hairpinMode does.
    const hairpin = ['bridge', 'link', 'set', 'dev', containerPort(plan), 'hairpin', 'on'];
    await run(inNamespace(plan.host, hairpin));
    servers.push(await startServer(plan.container, 80, plan.container));
  }
  servers.push(await startServer(undefined, 81, 'outside'));
}

/** A Service with the pods of these hosts behind it. */
function serviceOf(pods: readonly HostPlan[], more: Partial<Service> = {}): Service {
  const endpoints = pods.map(({ containerAddress }) => ({ address: containerAddress, port: 80 }));
  return { clusterIp: SERVICE, port: PORT, nodePort: NODE_PORT, endpoints, ...more };
}

/** Both tables of rules that masquerade, of the first host. */
async function masquerades(): Promise<{ ours: number; theirs: number }> {
  return {
    ours: await masqueraded(lab.near, 'FLANNEL-POSTRTG'),
    theirs: await masqueraded(lab.near, 'KUBE-POSTROUTING'),
  };
}

const missing = await ipvsMissing();
if (missing !== undefined) {
  it(`ipvs is not tried: this machine lacks ${missing}`, async () => {
    await setUp();
    await expect(proxyByIpvs(lab.near, serviceOf([lab.far]))).rejects.toThrow();
  });
}

describe.each([
  ['iptables', proxyByIptables] as const,
  ...(missing === undefined ? ([['ipvs', proxyByIpvs]] as const) : []),
])('kube-proxy by %s', (_, proxy) => {
  it('leads pods, nodes and the outside to a pod of another node', async () => {
    await setUp();
    const { near, far } = lab;
    for (const plan of lab.hosts) await proxy(plan, serviceOf([far]));

    // In a pod by lo, and from pod to pod: nothing is translated.
    expect(await ask(near.container, '127.0.0.1', 80)).toBe('container-1 127.0.0.1');
    expect(await ask(near.container, far.containerAddress, 80)).toBe('container-2 100.96.1.2');
    // From a pod to a Service: the pod behind it sees who asks.
    expect(await ask(near.container, SERVICE, PORT)).toBe('container-2 100.96.1.2');
    expect(await masquerades()).toEqual({ ours: 0, theirs: 0 });

    // From outside, the node itself included: kube-proxy alone translates, to the tunnel's own address.
    expect(await ask(undefined, near.address, NODE_PORT)).toBe('container-2 100.96.1.0');
    expect(await masquerades()).toEqual({ ours: 0, theirs: 1 });
    expect(await ask(near.host, SERVICE, PORT)).toBe('container-2 100.96.1.0');
    await run(['ip', 'route', 'add', SERVICE, 'via', near.address]);
    expect(await ask(undefined, SERVICE, PORT)).toBe('container-2 100.96.1.0');
    expect(await masquerades()).toEqual({ ours: 0, theirs: 3 });
    // The pod's own node: to the bridge's address.
    expect(await ask(undefined, far.address, NODE_PORT)).toBe('container-2 100.96.2.1');

    // From a pod to outside: ours alone.
    expect(await ask(near.container, GATEWAY, 81)).toBe(`outside ${near.address}`);
    expect(await masquerades()).toEqual({ ours: 1, theirs: 3 });
  });

  it('turns a pod that asks for its own Service back to itself', async () => {
    await setUp();
    await proxy(lab.near, serviceOf([lab.near]));
    expect(await ask(lab.near.container, SERVICE, PORT)).toBe('container-1 100.96.1.1');
    expect(await masquerades()).toEqual({ ours: 0, theirs: 1 });
  });

  it('chooses among the pods of both nodes, each of which answers', async () => {
    await setUp();
    await proxy(lab.near, serviceOf(lab.hosts));
    const answers = new Set<string>();
    for (let asked = 0; asked < 40 && answers.size < 2; asked += 1) {
      answers.add(await ask(undefined, lab.near.address, NODE_PORT));
    }
    expect([...answers].sort()).toEqual(['container-1 100.96.1.1', 'container-2 100.96.1.0']);
  });
});

describe('the mark 0x4000', () => {
  it('keeps our rules off a connection also where they come first', async () => {
    await setUp();
    const { near, far } = lab;
    await proxyByIptables(near, serviceOf([far]));
    const rule = ['-m', 'comment', '--comment', 'flanneld masq', '-j', 'FLANNEL-POSTRTG'];
    await run(inNamespace(near.host, ['iptables', '-t', 'nat', '-I', 'POSTROUTING', '1', ...rule]));
    expect(await ask(undefined, near.address, NODE_PORT)).toBe('container-2 100.96.1.0');
    expect(await masquerades()).toEqual({ ours: 0, theirs: 1 });
  });

  it('is not set by externalTrafficPolicy Local, and the pod sees who asks', async () => {
    await setUp();
    const { near, far } = lab;
    const endpoints = lab.hosts;
    await proxyByIptables(near, serviceOf(endpoints, { local: near.containerAddress }));
    expect(await ask(undefined, near.address, NODE_PORT)).toBe(`container-1 ${GATEWAY}`);
    // A pod of another node comes as its node: it leaves the overlay for the node's address.
    expect(await ask(far.container, near.address, NODE_PORT)).toBe(`container-1 ${far.address}`);
    expect(await masquerades()).toEqual({ ours: 0, theirs: 0 });
  });
});
