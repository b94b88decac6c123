/** The host-gw backend: kernel routes between hosts of one segment, kept right, and traffic over them. */
import { afterEach, describe, expect, it } from 'vitest';
import { requestJson } from '../../src/daemon/status-client.js';
import { statusSocketPath } from '../../src/daemon/options.js';
import type { DaemonStatus } from '../../src/daemon/status.js';
import { subnetFileOf, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { askDaemon, TestLab, tunDevices } from '../support/test-lab.js';

const HOST_GW = { BackendType: 'host-gw' };
const CONFIG = { Network: '100.96.0.0/16', Backend: { Type: 'host-gw' } };

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

/** Two hosts with daemons and containers, on host-gw. */
async function setUp(): Promise<TestLab> {
  lab = await TestLab.bare(2);
  await writeLeaseFile(lab.hosts, CONFIG, HOST_GW);
  for (const plan of lab.hosts) await lab.attachContainer(await lab.startDaemon(plan));
  return lab;
}

async function routesTo(plan: HostPlan, subnet: string): Promise<string[]> {
  const { stdout } = await run(inNamespace(plan.host, ['ip', '-4', 'route', 'show', subnet]));
  return stdout
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

const status = async (plan: HostPlan) =>
  (await requestJson(statusSocketPath(subnetFileOf(plan)), '/status', 2_000)) as DaemonStatus;

const expectRoute = (plan: HostPlan, subnet: string, wanted: string[]) =>
  expect.poll(() => routesTo(plan, subnet), { timeout: 10_000 }).toEqual(wanted);

describe('host-gw', () => {
  it("routes each host's containers by that host, with the whole MTU and no device", async () => {
    const { near, far, nearDaemon } = await setUp();
    await expectRoute(near, far.subnet, ['100.96.2.0/24 via 10.168.0.3 dev eth0']);
    await expectRoute(far, near.subnet, ['100.96.1.0/24 via 10.168.0.2 dev eth0']);
    expect((await nearDaemon.readSubnetFile()).FLANNEL_MTU).toBe('1500');
    expect(await tunDevices(near.host)).toEqual([]);
    const { received } = await ping(near, far.containerAddress, { count: 5 });
    expect(received).toBe(5);
    expect(await status(near)).toMatchObject({
      ready: true,
      backend: 'host-gw',
      device: null,
      mtu: 1500,
      dataPlane: null,
      problems: [],
      routes: [{ subnet: far.subnet, nextHop: far.address }],
    });
    const { code, body } = await askDaemon(subnetFileOf(near), '/metrics');
    expect(code).toBe(200);
    expect(body).toMatch(/^flannelette_ready 1$/m);
    expect(body).not.toMatch(/^flannelette_(received|sent)_packets_total/m);
  });

  it('puts back what another program takes away or replaces, and leaves foreign routes alone', async () => {
    const { near, far, nearDaemon } = await setUp();
    const ours = '100.96.2.0/24 via 10.168.0.3 dev eth0';
    await expectRoute(near, far.subnet, [ours]);
    const ip = (...words: string[]) => run(inNamespace(near.host, ['ip', 'route', ...words]));
    const foreign = ['100.96.9.0/24', 'via', '10.168.0.1', 'dev', 'eth0'];
    await ip('add', ...foreign);
    await ip('add', far.subnet, 'via', '10.168.0.1', 'dev', 'eth0', 'metric', '50');
    await ip('del', far.subnet, 'via', far.address);
    const standby = '100.96.2.0/24 via 10.168.0.1 dev eth0 metric 50';
    await expectRoute(near, far.subnet, [ours, standby]);
    await ip('replace', far.subnet, 'via', '10.168.0.1', 'dev', 'eth0');
    await expectRoute(near, far.subnet, [ours, standby]);
    await ip('replace', 'blackhole', far.subnet);
    await expectRoute(near, far.subnet, [ours, standby]);
    expect(nearDaemon.program.stderr).toContain('another program changed a route; restored');
    await nearDaemon.stop();
    expect(await routesTo(near, far.subnet)).toEqual([standby]);
    expect(await routesTo(near, '100.96.9.0/24')).toEqual([foreign.join(' ')]);
  });

  it('names a host that is not on the segment, and reaches the others', async () => {
    const { near, far } = await setUp();
    const off = { ...far, subnet: '100.96.7.0/24', address: '192.0.2.7' };
    await writeLeaseFile([near, far, off], CONFIG, HOST_GW);
    const problem = await waitForProblem(near);
    expect(problem).toMatchObject({
      id: 'route_refused',
      message: expect.stringContaining(
        '192.0.2.7: that host is not on the segment of eth0',
      ) as string,
    });
    const { received } = await ping(near, far.containerAddress, { count: 3 });
    expect(received).toBe(3);
  });

  it('is refused through NAT with the name of the field', async () => {
    lab = await TestLab.bare(1);
    await writeLeaseFile(lab.hosts, CONFIG);
    const daemon = lab.startDaemon(lab.near, { flags: ['--public-ip=192.0.2.7'] });
    await expect(daemon).rejects.toThrow(/PublicIP: "192\.0\.2\.7" is not valid/);
  });
});

const waitForProblem = (plan: HostPlan) =>
  waitFor('the problem of the third host', 10_000, async () => (await status(plan)).problems[0]);
