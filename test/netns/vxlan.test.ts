/**
 * The vxlan backend: flannel's device, routes, neighbours and forwarding entries, kept right, with a
 * host that is set up by hand as flanneld does it, DirectRouting, and input that cannot work.
 */
import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { LEASE_FILE, subnetFileOf, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { ipBatch, type HostPlan } from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { askDaemon, COMMAND, indexOf, remakeUplink, TestLab } from '../support/test-lab.js';

const attributes = { BackendType: 'vxlan' };
const config = (backend: object = {}): object => ({
  Network: '100.96.0.0/16',
  Backend: { Type: 'vxlan', ...backend },
});

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

async function setUp(backend: object = {}): Promise<TestLab> {
  lab = await TestLab.bare(2);
  await writeLeaseFile(lab.hosts, config(backend), attributes);
  for (const plan of lab.hosts) await lab.attachContainer(await lab.startDaemon(plan));
  return lab;
}

async function said(plan: HostPlan, ...words: string[]): Promise<string[]> {
  const { stdout } = await run(inNamespace(plan.host, words), { accept: [0, 1, 255] });
  return stdout
    .split('\n')
    .map((line) => line.trim().replaceAll(/\s+/g, ' '))
    .filter((line) => line !== '');
}

const routesTo = (plan: HostPlan, subnet: string) =>
  said(plan, 'ip', '-4', 'route', 'show', subnet);
const neighbours = (plan: HostPlan) => said(plan, 'ip', '-4', 'neigh', 'show', 'dev', 'flannel.1');
const entries = (plan: HostPlan) => said(plan, 'bridge', 'fdb', 'show', 'dev', 'flannel.1');
const links = (plan: HostPlan) => said(plan, 'ip', '-br', 'link', 'show', 'type', 'vxlan');

async function macOf(plan: HostPlan): Promise<string> {
  const [link = ''] = await links(plan);
  return link.split(' ')[2] ?? '';
}

/** Container to container, and back. */
async function reached({ near, far }: TestLab): Promise<boolean> {
  const { received } = await ping(near, far.containerAddress, { count: 3 });
  return received === 3;
}

async function becomesReached(now: TestLab): Promise<void> {
  await waitFor('the other container', 15_000, async () =>
    (await reached(now)) ? true : undefined,
  );
}

const near2far = ['100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink'];

describe('vxlan', () => {
  it("sets up flannel's device, routes, neighbours and forwarding entries", async () => {
    const now = await setUp();
    const { near, far, nearDaemon } = now;
    await expect.poll(() => routesTo(near, far.subnet), { timeout: 10_000 }).toEqual(near2far);
    const [detail = ''] = (await said(near, 'ip', '-d', '-o', 'link', 'show', 'flannel.1')).slice(
      -1,
    );
    expect(detail).toMatch(/vxlan id 1 local 10\.168\.0\.2 dev eth0 .*dstport 8472 nolearning/);
    expect(detail).toContain('mtu 1450');
    expect(await said(near, 'ip', '-4', '-br', 'addr', 'show', 'flannel.1')).toEqual([
      'flannel.1 UNKNOWN 100.96.1.0/32',
    ]);
    const mac = await macOf(far);
    expect(mac).toMatch(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
    expect(await neighbours(near)).toEqual([`100.96.2.0 lladdr ${mac} PERMANENT`]);
    expect(await entries(near)).toEqual([`${mac} dst 10.168.0.3 self permanent`]);
    expect((await nearDaemon.readSubnetFile()).FLANNEL_MTU).toBe('1450');
    const { leases } = JSON.parse(await readFile(LEASE_FILE, 'utf8')) as {
      leases: Record<string, object>;
    };
    expect(leases['100.96.2.0-24']).toMatchObject({
      PublicIP: far.address,
      BackendType: 'vxlan',
      BackendData: { VNI: 1, VtepMAC: mac },
    });
    await becomesReached(now);
    expect((await new IperfTarget(far).tcp(near, { seconds: 1 })).gbps).toBeGreaterThan(0);
    const status = async () =>
      JSON.parse((await askDaemon(subnetFileOf(near), '/status')).body) as { problems: unknown[] };
    // Looked for every 2 s: at first the other host had a lease of udp.
    await waitFor('no problems', 5_000, async () =>
      (await status()).problems.length === 0 ? true : undefined,
    );
    expect(await status()).toMatchObject({
      ready: true,
      backend: 'vxlan',
      device: 'flannel.1',
      mtu: 1450,
      dataPlane: null,
    });
  });

  it('puts back a route, a neighbour, a forwarding entry and the device', async () => {
    const now = await setUp();
    const { near } = now;
    await becomesReached(now);
    const mac = await macOf(now.far);
    for (const command of [
      'ip route del 100.96.2.0/24',
      'ip neigh del 100.96.2.0 dev flannel.1',
      `bridge fdb del ${mac} dev flannel.1 dst 10.168.0.3 self`,
      'ip link set flannel.1 down',
      'ip link del flannel.1',
    ]) {
      await run(inNamespace(near.host, command.split(' ')));
      if (command.includes('down')) await said(near, 'ip', 'link', 'set', 'flannel.1', 'up');
      await becomesReached(now);
      expect([command, await neighbours(near)]).toEqual([
        command,
        [`100.96.2.0 lladdr ${mac} PERMANENT`],
      ]);
      expect([command, await entries(near)]).toEqual([
        command,
        [`${mac} dst 10.168.0.3 self permanent`],
      ]);
    }
  }, 120_000);

  it('goes on when the external interface is deleted and made again', async () => {
    const now = await setUp();
    await becomesReached(now);
    const before = await indexOf(now.near);
    await remakeUplink(now.near);
    expect(await indexOf(now.near)).not.toBe(before);
    await becomesReached(now);
    expect(await routesTo(now.near, now.far.subnet)).toEqual([
      '100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink',
    ]);
  });

  it('keeps its MAC address over a restart and a kill, and leaves nothing behind', async () => {
    const now = await setUp();
    await becomesReached(now);
    const mac = await macOf(now.near);
    now.nearDaemon.program.kill('SIGKILL');
    await now.nearDaemon.program.ended;
    now.daemons.shift();
    await now.startDaemon(now.near);
    now.daemons.reverse();
    await becomesReached(now);
    expect(await macOf(now.near)).toBe(mac);
    await now.nearDaemon.stop();
    expect(await links(now.near)).toEqual([]);
    expect(await routesTo(now.near, now.far.subnet)).toEqual([]);
    now.daemons.shift();
    await now.startDaemon(now.near);
    now.daemons.reverse();
    expect(await macOf(now.near)).toBe(mac);
    await becomesReached(now);
  });

  it('works with a host that is set up by hand, as flanneld does it', async () => {
    lab = await TestLab.bare(2);
    const { near, far } = lab;
    const mac = '02:42:0a:a8:00:03';
    await writeLeaseFile([near], config(), attributes);
    await lab.attachContainer(await lab.startDaemon(near));
    await ipBatch(far.host, [
      `link add flannel.1 address ${mac} type vxlan id 1 local ${far.address} dev eth0 dstport 8472 nolearning`,
      'addr add 100.96.2.0/32 dev flannel.1',
      'link set flannel.1 mtu 1450 up',
      'route add 100.96.1.0/24 via 100.96.1.0 dev flannel.1 onlink',
      `neigh add 100.96.1.0 lladdr ${await macOf(near)} dev flannel.1 nud permanent`,
    ]);
    const entry = `bridge fdb add ${await macOf(near)} dev flannel.1 dst ${near.address} self permanent`;
    await run(inNamespace(far.host, entry.split(' ')));
    const { leases } = JSON.parse(await readFile(LEASE_FILE, 'utf8')) as { leases: object };
    const theirs = {
      PublicIP: far.address,
      BackendType: 'vxlan',
      BackendData: { VNI: 1, VtepMAC: mac },
    };
    await writeLeaseFile([], config(), {}, { ...leases, '100.96.2.0-24': theirs });
    await expect.poll(() => routesTo(near, far.subnet), { timeout: 10_000 }).toEqual(near2far);
    // Without a container there: the host's own address in the overlay.
    await waitFor('the other host', 10_000, async () => {
      const { received } = await ping(near, '100.96.2.0', { count: 2 });
      return received === 2 ? true : undefined;
    });
  });

  it('sends to hosts of its own segment without the tunnel when asked to', async () => {
    const now = await setUp({ DirectRouting: true });
    await expect
      .poll(() => routesTo(now.near, now.far.subnet), { timeout: 10_000 })
      .toEqual(['100.96.2.0/24 via 10.168.0.3 dev eth0']);
    expect(await neighbours(now.near)).toEqual([]);
    await becomesReached(now);
    // A host behind a router stays with the tunnel.
    const off = { ...now.far, subnet: '100.96.7.0/24', address: '192.0.2.7' };
    const { leases } = JSON.parse(await readFile(LEASE_FILE, 'utf8')) as { leases: object };
    const theirs = {
      PublicIP: off.address,
      BackendType: 'vxlan',
      BackendData: { VNI: 1, VtepMAC: '02:42:c0:00:02:07' },
    };
    const all = { ...leases, '100.96.7.0-24': theirs };
    await writeLeaseFile([], config({ DirectRouting: true }), {}, all);
    await expect
      .poll(() => routesTo(now.near, off.subnet), { timeout: 10_000 })
      .toEqual(['100.96.7.0/24 via 100.96.7.0 dev flannel.1 onlink']);
    await now.nearDaemon.stop();
    expect(await routesTo(now.near, now.far.subnet)).toEqual([]);
  });

  it('skips a lease without a MAC address, and says why', async () => {
    lab = await TestLab.bare(2);
    await writeLeaseFile(lab.hosts, config(), attributes);
    const daemon = await lab.startDaemon(lab.near);
    const { rejected } = await daemon.status();
    expect(rejected.map(({ reason }) => reason).join()).toContain('BackendData.VtepMAC');
  });

  it.each([
    [{ VNI: 2 ** 24 }, 'Backend.VNI: 16777216 is not valid: expected a whole number from 1 to'],
    [{ Port: 70_000 }, 'Backend.Port: 70000 is not valid'],
    [{ DirectRouting: 'yes' }, 'Backend.DirectRouting: "yes" is not valid'],
  ])('refuses %j', async (backend, words) => {
    lab = await TestLab.bare(1);
    await writeLeaseFile(lab.hosts, config(backend), attributes);
    await expect(lab.startDaemon(lab.near)).rejects.toThrow(words);
  });

  it('leaves a device to the daemon that has it, and takes what a killed one left', async () => {
    const now = await setUp();
    const { near, nearDaemon } = now;
    await becomesReached(now);
    const before = await links(near);
    const flags = [`--lease-file=${LEASE_FILE}`, '--iface=eth0', '--subnet-file=/run/other.env'];
    const second = await run(inNamespace(near.host, [...COMMAND, 'run', ...flags]), {
      accept: [0, 1, 2],
    });
    expect([second.code, second.stderr]).toEqual([
      1,
      expect.stringContaining('another flannelette daemon of this host has VNI 1'),
    ]);
    expect(await links(near)).toEqual(before);
    await becomesReached(now);
    nearDaemon.program.kill('SIGKILL');
    await nearDaemon.program.ended;
    await lab?.startDaemon(near);
    await becomesReached(now);
  });

  it('names a VNI that another device has, and leaves nothing half set up', async () => {
    lab = await TestLab.bare(1);
    const { near } = lab;
    await ipBatch(near.host, ['link add other type vxlan id 1 dstport 8472 dev eth0']);
    await writeLeaseFile(lab.hosts, config(), attributes);
    await expect(lab.startDaemon(near)).rejects.toThrow(/VNI 1 on UDP port 8472 is in use/);
    expect((await links(near)).map((line) => line.split(' ')[0])).toEqual(['other']);
  });
});
