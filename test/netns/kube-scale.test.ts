/**
 * A daemon in a cluster of many nodes, whose kubelets tell how they are all the time, on kube-apiserver
 * where it was built. `FLANNELETTE_NODES=5000` asks for more nodes than 500; what was measured is printed.
 */
import { Agent, request } from 'node:https';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cpuSecondsOf, memoryOf } from '../../src/testbed/proc.js';
import { waitFor } from '../../src/testbed/programs.js';
import { GATEWAY } from '../../src/testbed/topology.js';
import type { EtcdDaemon } from '../support/etcd-lab.js';
import { Admin, ADMIN_TOKEN, startApiServer, type ApiServer } from '../support/kube-cluster.js';
import { startOnNode, writeClusterFiles } from '../support/kube-lab.js';
import { Pki } from '../support/pki.js';
import { say } from '../support/say.js';
import { TestLab } from '../support/test-lab.js';

const NODES = Number(process.env['FLANNELETTE_NODES'] ?? 500);
const A = 'flannel.alpha.coreos.com';
const CLIENTS = 16;
const BEATS_A_SECOND = 100;
const SECONDS = 10;
/** As many as a kubelet tells of (--node-status-max-images): most of a Node's bytes. */
const IMAGES = 50;

let lab: TestLab;
let pki: Pki;
let server: ApiServer;
let admin: Admin;
let daemon: EtcdDaemon;
const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS, rejectUnauthorized: false });

beforeAll(async () => {
  lab = await TestLab.bare(1);
  pki = await Pki.create();
  await pki.authority('ca');
  await pki.certificate('apiserver', 'ca', { names: `IP:${GATEWAY}` });
  server = await startApiServer(pki, GATEWAY);
  admin = new Admin(server);
  await writeClusterFiles(server, pki, '{"Network":"100.64.0.0/10","Backend":{"Type":"udp"}}');
  await admin.createNode(lab.near.host, [lab.near.subnet]);
  const started = performance.now();
  await inTurns(NODES, (at) => call('POST', '/api/v1/nodes', nodeOf(at)));
  say(
    `${NODES} nodes of ${JSON.stringify(await admin.node('n0')).length} bytes: ${secondsSince(started)}`,
  );
}, 600_000);

afterAll(async () => {
  agent.destroy();
  await daemon?.program.stop();
  await lab?.tearDown();
  await server?.end();
  await pki?.end();
});

const secondsSince = (started: number): string =>
  `${((performance.now() - started) / 1_000).toFixed(2)} s`;

/** The n-th of them, 100.65.0.0/24 the first's subnet. */
function nodeOf(at: number): object {
  const podCIDR = `100.${65 + (at >> 8)}.${at & 255}.0/24`;
  const annotations = {
    [`${A}/kube-subnet-manager`]: 'true',
    [`${A}/backend-type`]: '',
    [`${A}/backend-data`]: 'null',
    [`${A}/public-ip`]: `172.16.${at >> 8}.${at & 255}`,
  };
  const images = Array.from({ length: IMAGES }, (_, image) => ({
    names: [
      `registry.example.com/team/service-${image}@sha256:${String(image).padStart(64, '0')}`,
      `registry.example.com/team/service-${image}:1.${image}`,
    ],
    sizeBytes: 100_000_000 + image,
  }));
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: `n${at}`, annotations },
    spec: { podCIDR, podCIDRs: [podCIDR] },
    status: { images },
  };
}

async function inTurns(count: number, work: (at: number) => Promise<void>): Promise<void> {
  let next = 0;
  const client = async (): Promise<void> => {
    for (let at = next++; at < count; at = next++) await work(at);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

/** As the administrator, on connections that are kept. */
function call(method: string, path: string, body: object): Promise<void> {
  const type = method === 'PATCH' ? 'application/strategic-merge-patch+json' : 'application/json';
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}`, 'content-type': type };
  return new Promise((resolve, reject) => {
    const sent = request(new URL(path, server.url), { method, headers, agent }, (response) => {
      response.resume().once('end', () => {
        if ((response.statusCode ?? 0) < 300) resolve();
        else reject(new Error(`${method} ${path}: ${response.statusCode}`));
      });
    });
    sent.once('error', reject).end(JSON.stringify(body));
  });
}

/** What a kubelet tells of its node. */
function heartbeat(at: number): Promise<void> {
  const now = new Date().toISOString();
  const condition = { type: 'Ready', status: 'True', reason: now, lastHeartbeatTime: now };
  return call('PATCH', `/api/v1/nodes/n${at}/status`, { status: { conditions: [condition] } });
}

it(`routes to ${NODES} nodes`, { timeout: 60_000 }, async () => {
  const started = performance.now();
  daemon = await startOnNode(lab.near);
  await daemon.until('every route', 50_000, async () => (await daemon.metric('routes')) === NODES);
  say(`from the start to every route: ${secondsSince(started)}`);
  const cpu = await cpuSecondsOf(daemon.program.pid ?? 0);
  say(`CPU time until then: ${cpu.toFixed(2)} s`);
  const { rss, peak } = await memoryOf(daemon.program.pid ?? 0);
  say(`memory: ${(rss / 1e6).toFixed(0)} MB, at most ${(peak / 1e6).toFixed(0)} MB`);
  expect((await daemon.status()).rejected).toEqual([]);
});

it(
  `follows ${BEATS_A_SECOND} heartbeats a second without a word`,
  { timeout: 60_000 },
  async () => {
    const pid = daemon.program.pid ?? 0;
    const { routes } = await daemon.status();
    const idle = await cpuSecondsOf(pid);
    await new Promise((resolve) => setTimeout(resolve, SECONDS * 1_000));
    const before = await cpuSecondsOf(pid);
    const lines = daemon.log().length;
    const started = performance.now();
    const due = (beat: number): number => started + (beat * 1_000) / BEATS_A_SECOND;
    await inTurns(BEATS_A_SECOND * SECONDS, async (beat) => {
      const early = due(beat) - performance.now();
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
      await heartbeat(beat % NODES);
    });
    const seconds = (performance.now() - started) / 1_000;
    const cpu = (await cpuSecondsOf(pid)) - before;
    const share = (used: number, of: number): string => `${((100 * used) / of).toFixed(1)} %`;
    const beats = `${((BEATS_A_SECOND * SECONDS) / seconds).toFixed(0)} heartbeats a second`;
    say(`CPU: idle ${share(before - idle, SECONDS)}, ${beats} ${share(cpu, seconds)}`);
    expect((await daemon.status()).routes).toEqual(routes);
    expect(daemon.log()).toHaveLength(lines);
    // The watch stands, behind all of them.
    await admin.annotate('n0', { [`${A}/public-ip`]: '172.31.0.1' });
    await waitFor('the change behind them', 5_000, async () => {
      const found = (await daemon.status()).routes.find(({ subnet }) => subnet === '100.65.0.0/24');
      return found?.nextHop === '172.31.0.1' ? true : undefined;
    });
  },
);
