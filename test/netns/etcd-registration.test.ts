/**
 * What a daemon leaves for others to read is flanneld's to the byte: the lease in etcd, subnet.env.
 * Beside it: reservations, and hosts that want the same subnet at the same moment.
 */
import { readFile, readdir, stat } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { rememberedPath } from '../../src/lease/remembered/remembered-file.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { lastWords } from '../../src/testbed/daemon-process.js';
import { LAB_DIRECTORY } from '../../src/testbed/topology.js';
import {
  attributes,
  CONFIG,
  ENDPOINT,
  EtcdLab,
  PREFIX,
  subnetFileOf,
} from '../support/etcd-lab.js';
import { tunDevices } from '../support/test-lab.js';

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
});
afterAll(() => lab.tearDown());
beforeEach(() => lab.configure());
afterEach(() => lab.reset());

const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);

/** Ids of the grants there are. */
async function grants(): Promise<string[]> {
  const { leases } = await lab.client.leaseClient.leaseLeases();
  return leases.map(({ ID }) => ID);
}

describe('registration', () => {
  it('writes the lease, subnet.env and what is remembered', async () => {
    const subnetFile = join(LAB_DIRECTORY, lab.near.host, 'run', 'flannel', 'subnet.env');
    // The only subnet there is.
    await lab.configure({ ...CONFIG, SubnetMin: '100.96.1.0', SubnetMax: '100.96.1.0' });
    const daemon = await lab.start(lab.near, { subnetFile, flags: ['--ip-masq'] });
    await daemon.ready();

    const { kvs } = await lab.client.getAll().prefix(`${PREFIX}/subnets`).exec();
    expect(kvs.map(({ key, value }) => [key.toString(), value.toString()])).toEqual([
      ['/coreos.com/network/subnets/100.96.1.0-24', '{"PublicIP":"10.168.0.2","PublicIPv6":null}'],
    ]);
    const grant = await lab.client.leaseClient.leaseTimeToLive({
      ID: kvs[0]?.lease ?? '',
      keys: true,
    });
    expect(grant.grantedTTL).toBe('86400');
    expect(grant.keys.map(String)).toEqual(['/coreos.com/network/subnets/100.96.1.0-24']);

    expect(await daemon.subnetEnv()).toBe(
      'FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
    );
    expect(await mode(subnetFile)).toBe('644');
    expect(await mode(dirname(subnetFile))).toBe('755');

    const remembered = rememberedPath(subnetFile);
    await waitFor('what is remembered', 10_000, () => existsSync(remembered) || undefined);
    expect(JSON.parse(await readFile(remembered, 'utf8'))).toMatchObject({
      store: `${ENDPOINT}${PREFIX}`,
      own: '100.96.1.0-24',
      config: { Network: '100.96.0.0/16' },
      leases: { '100.96.1.0-24': { PublicIP: '10.168.0.2', PublicIPv6: null } },
    });
    expect(await daemon.terminate()).toMatchObject({ code: 0 });
    // Lease and files stay, as flanneld's do.
    expect(await lab.leases()).toEqual(['100.96.1.0-24']);
    expect((await readdir(dirname(subnetFile))).sort()).toEqual([
      'subnet.env',
      'subnet.env.leases.json',
    ]);
  });

  it('waits for the network configuration, and forwards soon after it is there', async () => {
    await lab.client.delete().key(`${PREFIX}/config`);
    const daemon = await lab.start(lab.near);
    await daemon.logged('no network configuration yet; waiting for it', 10_000);
    expect((await daemon.readyz()).detail).toMatchObject({
      ready: false,
      phase: 'waiting for the network configuration',
    });
    await lab.configure();
    await daemon.ready(5_000);
  });

  it('takes the same subnet again after kill -9, also without subnet.env', async () => {
    const first = await lab.start(lab.near, { earlier: '100.96.7.1/24' });
    await first.ready();
    first.program.kill('SIGKILL');
    await first.program.ended;
    await run(['rm', subnetFileOf(lab.near)]);
    const second = await lab.start(lab.near, { earlier: null });
    await second.ready();
    expect((await second.status()).lease?.subnet).toBe('100.96.7.0/24');
    expect(await lab.leases()).toEqual(['100.96.7.0-24']);
  });
});

describe('a reservation', () => {
  it('is taken over and stays permanent and untouched, also over a restart', async () => {
    // As an administrator writes it, without PublicIPv6.
    await lab.putLease('100.96.77.0/24', '{"PublicIP":"10.168.0.2"}');
    for (let start = 0; start < 2; start += 1) {
      const daemon = await lab.start(lab.near);
      await daemon.ready();
      expect((await daemon.status()).lease).toEqual({
        subnet: '100.96.77.0/24',
        expiresAt: null,
        lost: null,
      });
      expect(await daemon.subnetEnv()).toContain('FLANNEL_SUBNET=100.96.77.1/24\n');
      expect(await lab.stored('100.96.77.0/24')).toMatchObject({ lease: '0', version: '1' });
      expect(await lab.leases()).toEqual(['100.96.77.0-24']);
      await daemon.terminate();
    }
  });

  it('made of a running lease becomes permanent for the daemon, too', async () => {
    const daemon = await lab.start(lab.near);
    await daemon.ready();
    expect((await daemon.status()).lease?.expiresAt).not.toBeNull();
    await lab.putLease('100.96.1.0/24', '10.168.0.2');
    await daemon.until('permanent', 5_000, async () => {
      return (await daemon.status()).lease?.expiresAt === null;
    });
    expect(await lab.stored('100.96.1.0/24')).toMatchObject({ lease: '0', version: '2' });
  });
});

describe('two hosts that want one subnet', () => {
  it.each([1, 2])('each get one of two, and both forward (run %i)', async () => {
    await lab.configure({ ...CONFIG, SubnetMin: '100.96.1.0', SubnetMax: '100.96.2.0' });
    const { near, far } = await lab.startBoth({ earlier: '100.96.1.1/24' });
    const own = async (daemon: typeof near) => (await daemon.status()).lease?.subnet ?? 'none';
    expect([await own(near), await own(far)].sort()).toEqual(['100.96.1.0/24', '100.96.2.0/24']);
    await lab.reaches(lab.near, (await own(far)).replace('/24', ''));
    await lab.reaches(lab.far, (await own(near)).replace('/24', ''));
    expect(await lab.leases()).toEqual(['100.96.1.0-24', '100.96.2.0-24']);
  });

  it('when there is only one: the loser ends with one clear line and leaves nothing', async () => {
    const before = await grants();
    await lab.configure({ ...CONFIG, SubnetMin: '100.96.1.0', SubnetMax: '100.96.1.0' });
    const daemons = [
      await lab.start(lab.near, { earlier: '100.96.1.1/24' }),
      await lab.start(lab.far, { earlier: '100.96.1.1/24' }),
    ];
    const loser = await Promise.race(
      daemons.map(async (daemon) => {
        await daemon.program.ended;
        return daemon;
      }),
    );
    const winner = daemons.find((daemon) => daemon !== loser);
    await winner?.ready();
    expect(await loser.program.ended).toBe(1);
    expect(lastWords(loser.program.stderr)).toMatch(
      /no free subnet in Network 100\.96\.0\.0\/16: all 1 subnets .* are leased/,
    );
    expect(await tunDevices(loser.plan.host)).toEqual([]);
    const saved = await run(inNamespace(loser.plan.host, ['iptables-save']));
    expect(saved.stdout).not.toMatch(/flannel/i);
    expect(await readdir(dirname(loser.subnetFile))).toEqual(['subnet.env']);
    const winnerIp = winner?.plan.address ?? '';
    expect((await lab.stored('100.96.1.0/24'))?.value.toString()).toBe(attributes(winnerIp));
    // A lost race leaves no grant behind that lives for a day.
    expect(await grants()).toHaveLength(before.length + 1);
  });
});
