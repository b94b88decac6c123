/**
 * A store that is away takes no packet with it: daemons go on with what they know, say how old that
 * is, start again without it, and follow it when it is back.
 *
 *   etcd:   |== answers ==|........ frozen or gone ........|== answers ==|
 *   ping:   |=============================================================|  nothing lost
 *   /readyz 200           200, store not ok, age grows      200, age 0
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { waitFor } from '../../src/testbed/programs.js';
import { parseCidr, parseIpv4 } from '../../src/config/ipv4.js';
import { formatRemembered, rememberedPath } from '../../src/lease/remembered/remembered-file.js';
import {
  attributes,
  CONFIG,
  ENDPOINT,
  EtcdLab,
  PREFIX,
  subnetFileOf,
  type EtcdDaemon,
} from '../support/etcd-lab.js';
import { tunDevices } from '../support/test-lab.js';

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
});
afterAll(() => lab.tearDown());
beforeEach(() => lab.configure());
afterEach(() => lab.reset());

const storeOk = async (daemon: EtcdDaemon): Promise<boolean> =>
  (await daemon.readyz()).detail.store.ok;
const hasRoute = async (daemon: EtcdDaemon, subnet: string): Promise<boolean> =>
  (await daemon.status()).routes.some((route) => route.subnet === subnet);

/** Waits until the file that a restart without the store goes by names both hosts. */
async function remembered(daemon: EtcdDaemon): Promise<void> {
  const path = rememberedPath(daemon.subnetFile);
  await waitFor('the remembered leases', 10_000, async () => {
    const text = await readFile(path, 'utf8').catch(() => '');
    return ['"100.96.1.0-24":', '"100.96.2.0-24":'].every((key) => text.includes(key)) || undefined;
  });
}

describe('while traffic runs', () => {
  it('etcd frozen for over 20 s, then killed, then back: nothing is lost', async () => {
    const { near } = await lab.startBoth();
    const stream = lab.stream(lab.near, lab.far.tunAddress);
    const began = performance.now();
    lab.freezeStore();
    await near.until('without its store', 20_000, async () => !(await storeOk(near)));
    const told = await near.logged(
      'cannot follow the lease store; the last known routes stay in force',
    );
    expect(told).toMatchObject({ level: 40, store: `${ENDPOINT}${PREFIX}` });
    expect(told.error).toContain('does not answer');
    const first = (await near.readyz()).detail.store.leasesAgeSeconds ?? -1;
    await near.until('20 s and an age that grows', 25_000, async () => {
      const { code, detail } = await near.readyz();
      expect(code).toBe(200);
      const age = detail.store.leasesAgeSeconds ?? -1;
      return age >= first + 3 && performance.now() - began > 21_000;
    });
    expect(await near.metric('store_up')).toBe(0);
    expect(await near.metric('leases_age_seconds')).toBeGreaterThanOrEqual(3);
    expect(await near.metric('ready')).toBe(1);
    expect((await near.status()).store?.leasesAsOf).not.toBeNull();

    await lab.killStore();
    await lab.restoreStore();
    await lab.putLease('100.96.40.0/24', '10.168.0.40');
    await near.until('following again', 10_000, () => hasRoute(near, '100.96.40.0/24'));
    expect((await near.readyz()).detail.store).toEqual({
      ok: true,
      error: null,
      leasesAgeSeconds: 0,
    });
    expect(await near.metric('store_up')).toBe(1);
    expect(await near.metric('leases_age_seconds')).toBe(0);
    await near.logged('lease store followed again');
    const { sent, received } = await stream.end();
    expect(received).toBe(sent);
    expect(received).toBeGreaterThan(1_000);
  });

  it('etcd killed: noticed at once, nothing is lost, followed when it is back', async () => {
    const { near } = await lab.startBoth();
    const stream = lab.stream(lab.far, lab.near.tunAddress);
    await lab.killStore();
    await near.until('without its store', 2_000, async () => !(await storeOk(near)));
    await near.until('an age', 5_000, async () => {
      const { code, detail } = await near.readyz();
      return code === 200 && (detail.store.leasesAgeSeconds ?? 0) >= 2;
    });
    await lab.restoreStore();
    await lab.putLease('100.96.41.0/24', '10.168.0.41');
    await near.until('following again', 7_000, () => hasRoute(near, '100.96.41.0/24'));
    const { sent, received } = await stream.end();
    expect(received).toBe(sent);
  });

  it('etcd that lost all its data: leases are written again, nothing is lost for long', async () => {
    const { near, far } = await lab.startBoth();
    await lab.client.delete().prefix('/coreos.com/network/subnets/');
    await waitFor('both leases', 5_000, async () => (await lab.leases()).length === 2 || undefined);
    expect(await lab.leases()).toEqual(['100.96.1.0-24', '100.96.2.0-24']);
    await lab.reaches(lab.near, lab.far.tunAddress);
    for (const daemon of [near, far]) expect((await daemon.status()).lease?.lost).toBeNull();
  });
});

describe('a start without the store', () => {
  it('forwards from what is remembered, and follows the store when it is back', async () => {
    const { near, far } = await lab.startBoth();
    await Promise.all([remembered(near), remembered(far)]);
    await Promise.all([near.terminate(), far.terminate()]);
    // While nobody looks the near host's lease goes.
    await lab.deleteLease('100.96.1.0/24');
    await lab.killStore();

    const began = performance.now();
    const again = await lab.startBoth();
    expect(performance.now() - began).toBeLessThan(6_000);
    const { code, detail } = await again.near.readyz();
    expect(code).toBe(200);
    expect(detail.store.ok).toBe(false);
    expect(detail.store.leasesAgeSeconds).toBeGreaterThanOrEqual(1);
    await again.near.logged('lease store unreachable; using remembered leases');

    const stream = lab.stream(lab.near, lab.far.tunAddress);
    await lab.restoreStore();
    await again.near.until('its key is written again', 10_000, async () => {
      const stored = await lab.stored('100.96.1.0/24');
      return stored?.value.toString() === attributes('10.168.0.2') && stored.lease !== '0';
    });
    await lab.putLease('100.96.42.0/24', '10.168.0.42');
    await again.near.until('following', 5_000, async () => {
      return (await hasRoute(again.near, '100.96.42.0/24')) && (await storeOk(again.near));
    });
    expect((await again.near.readyz()).detail.store.leasesAgeSeconds).toBe(0);
    await lab.reaches(lab.far, lab.near.tunAddress);
    // Both know each other all the while but for the moment in which the lost key is written.
    const { sent, received } = await stream.end();
    expect(sent - received).toBeLessThan(50);
  });

  it('forwards also when etcd accepts and says nothing; SIGTERM ends it within 2 s', async () => {
    const { near, far } = await lab.startBoth();
    await remembered(near);
    await near.terminate();
    lab.freezeStore();
    const began = performance.now();
    const again = await lab.start(lab.near);
    await again.ready(10_000);
    await lab.reaches(lab.near, lab.far.tunAddress);
    expect(performance.now() - began).toBeLessThan(5_000);
    for (const daemon of [again, far]) {
      const { code, ms } = await daemon.terminate();
      expect(code).toBe(0);
      expect(ms).toBeLessThan(2_000);
    }
    expect(await tunDevices(lab.near.host)).toEqual([]);
  });

  it.each([
    ['gone', (): Promise<void> => lab.killStore()],
    ['frozen', (): Promise<void> => Promise.resolve(lab.freezeStore())],
  ] as const)(
    'with nothing remembered and etcd %s: waits, says so, and ends within 2 s',
    async (_what, takeAway) => {
      await takeAway();
      const daemon = await lab.start(lab.near);
      await daemon.logged('lease store unreachable; retrying', 10_000);
      const { code: readyz, detail } = await daemon.readyz();
      expect(readyz).toBe(503);
      expect(detail).toMatchObject({
        phase: 'waiting for the network configuration',
        store: { ok: false, leasesAgeSeconds: null },
      });
      expect(detail.store.error).toContain('does not answer');
      expect((await daemon.get('/healthz')).code).toBe(200);
      const { code, ms } = await daemon.terminate();
      expect(code).toBe(0);
      expect(ms).toBeLessThan(2_000);
      expect(await tunDevices(lab.near.host)).toEqual([]);
    },
  );

  it('goes on to forward by itself when the store comes at last', async () => {
    await lab.killStore();
    const daemon = await lab.start(lab.near);
    await daemon.logged('lease store unreachable; retrying', 10_000);
    await lab.restoreStore();
    await daemon.ready(8_000);
    expect(await lab.leases()).toEqual(['100.96.1.0-24']);
  });

  it('does not go by what another cluster said, or by half a file', async () => {
    const own = {
      subnet: parseCidr('subnet', '100.96.1.0/24'),
      attributes: { publicIp: parseIpv4('PublicIP', '10.168.0.2') },
      expiresAt: undefined,
    };
    const text = formatRemembered({
      store: `${ENDPOINT}${PREFIX}`,
      asOf: Date.now(),
      config: JSON.stringify(CONFIG),
      own,
      leases: [own],
    });
    await lab.killStore();
    const useless = [text.replace('10.168.0.1:2379', '10.168.0.9:2379'), text.slice(0, 200)];
    for (const content of [...useless, text]) {
      await mkdir(dirname(subnetFileOf(lab.near)), { recursive: true });
      await writeFile(rememberedPath(subnetFileOf(lab.near)), content);
      const daemon = await lab.start(lab.near);
      // The last shows that the file was good but for that.
      if (content === text) await daemon.ready();
      else await daemon.logged('lease store unreachable; retrying', 10_000);
      expect(await daemon.terminate()).toMatchObject({ code: 0 });
    }
  });
});
