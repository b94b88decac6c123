/**
 * What others do to the tunnel's device, its address and its route while the daemon runs: restored
 * within 5 s, or named in the status where somebody may want it so.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { checkRoutes } from '../../src/lab/scenario/routes-check.js';
import { ping } from '../../src/testbed/traffic.js';
import type { Problem } from '../../src/problems.js';
import { TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab;
beforeAll(async () => {
  lab = await TestLab.setUp();
});
afterAll(async () => {
  await lab.tearDown();
});

const RECOVERY_MS = 5_000;

const ip = (...words: string[]): Promise<unknown> =>
  run(inNamespace(lab.near.host, ['ip', ...words]));

function words(command: string): string[] {
  return command.split(' ');
}

async function forwards(): Promise<void> {
  await waitFor('the tunnel', RECOVERY_MS, async () => {
    const { received } = await ping(lab.near, lab.far.containerAddress, { count: 1 });
    return received === 1 ? true : undefined;
  });
}

async function problems(): Promise<readonly Problem[]> {
  return (await lab.nearDaemon.status()).problems;
}

async function named(id: string): Promise<Problem> {
  return waitFor(`the problem ${id}`, RECOVERY_MS, async () =>
    (await problems()).find((problem) => problem.id === id),
  );
}

async function notNamed(id: string): Promise<void> {
  await waitFor(`the problem ${id} to end`, RECOVERY_MS, async () =>
    (await problems()).some((problem) => problem.id === id) ? undefined : true,
  );
}

describe('is restored within 5 s', () => {
  it.each([
    ['a route that was deleted', 'route del 100.96.0.0/16 dev flannel0'],
    ['a route replaced by a blackhole', 'route replace blackhole 100.96.0.0/16'],
    ['a route replaced by "unreachable"', 'route replace unreachable 100.96.0.0/16'],
    ['a route replaced by "prohibit"', 'route replace prohibit 100.96.0.0/16'],
    ['a route replaced by one elsewhere', 'route replace 100.96.0.0/16 via 10.168.0.1'],
    ['a blackhole put before the route', 'route prepend blackhole 100.96.0.0/16'],
    ['an address that was removed', 'address del 100.96.1.0/32 dev flannel0'],
    ['everything flushed', 'address flush dev flannel0'],
    ['an MTU that is too large', 'link set flannel0 mtu 9000'],
    ['a carrier that was taken away', 'link set flannel0 carrier off'],
    ['a device that was deleted', 'link del flannel0'],
    ['a device moved to another network namespace', 'link set flannel0 netns container-1'],
  ])('%s', async (_what, command) => {
    await ip(...words(command));
    await waitFor('the device as it was', RECOVERY_MS, async () => {
      const check = await checkRoutes(lab.near).catch(() => undefined);
      const { stdout } = await run(
        inNamespace(lab.near.host, ['ip', '-o', 'address', 'show', 'dev', 'flannel0']),
        { accept: [0, 1] },
      );
      const mtu = await run(inNamespace(lab.near.host, ['ip', '-o', 'link', 'show', 'flannel0']), {
        accept: [0, 1],
      });
      const sound =
        check?.ok === true && stdout.includes('100.96.1.0/32') && mtu.stdout.includes('mtu 1472');
      return sound ? true : undefined;
    });
    await forwards();
    expect(await tunDevices(lab.near.host)).toEqual(['flannel0']);
    expect(await tunDevices(lab.near.container)).toEqual([]);
  });

  // Before Linux 5.14 the kernel itself puts this route there with docker0; here it is put in by hand.
  it("the address, where docker0's subnet makes it a broadcast address", async () => {
    const broadcast = 'broadcast 100.96.1.0 dev docker0 table local scope link';
    const pingAddress = async (): Promise<true | undefined> => {
      const argv = ['ping', '-n', '-c', '1', '-W', '0.5', lab.near.tunAddress];
      const { code } = await run(inNamespace(lab.far.host, argv), { accept: [0, 1] });
      return code === 0 ? true : undefined;
    };
    expect(await pingAddress()).toBe(true);
    // The second time the daemon's own route for it is there already, behind.
    for (let time = 0; time < 2; time += 1) {
      await ip('route', 'prepend', ...words(broadcast));
      await waitFor('an answer from the address', RECOVERY_MS, pingAddress);
      await ip('route', 'del', ...words(broadcast));
    }
  });
});

describe('is left as it is', () => {
  it('a route into the device, whatever it says besides', async () => {
    await ip(...words('route replace 100.96.0.0/16 dev flannel0 mtu 1300'));
    // The device has been checked twice when it has been given its MTU again twice.
    for (let check = 0; check < 2; check += 1) {
      await ip(...words('link set flannel0 mtu 1500'));
      await waitFor('the MTU', RECOVERY_MS, async () => {
        const { stdout } = await run(
          inNamespace(lab.near.host, ['ip', '-o', 'link', 'show', 'flannel0']),
        );
        return stdout.includes('mtu 1472') ? true : undefined;
      });
    }
    const { stdout } = await run(
      inNamespace(lab.near.host, ['ip', 'route', 'show', '100.96.0.0/16']),
    );
    expect(stdout).toContain('mtu 1300');
    await ip(...words('route replace 100.96.0.0/16 dev flannel0'));
  });
});

describe('is named', () => {
  it.each([
    ['device_down', 'link set flannel0 down', undefined],
    ['device_mtu', 'link set flannel0 mtu 1000', undefined],
    [
      'overlay_refused',
      'rule add to 100.96.0.0/16 blackhole',
      'rule del to 100.96.0.0/16 blackhole',
    ],
    ['overlay_refused', 'route add prohibit 100.96.2.0/24', 'route del prohibit 100.96.2.0/24'],
  ])('%s: %s', async (id, command, undo) => {
    await ip(...words(command));
    const problem = await named(id);
    if (undo === undefined) await run(inNamespace(lab.near.host, words(problem.remedy ?? '')));
    else await ip(...words(undo));
    await notNamed(id);
    await forwards();
  });

  it('a device that was renamed, and its old name comes back with the remedy', async () => {
    await ip('link', 'set', 'flannel0', 'down');
    await ip('link', 'set', 'flannel0', 'name', 'tunnel');
    await ip('link', 'set', 'tunnel', 'up');
    const { remedy = '' } = await named('device_renamed');
    await forwards();
    await run(inNamespace(lab.near.host, ['sh', '-c', remedy]));
    await notNamed('device_renamed');
    await forwards();
    expect(await tunDevices(lab.near.host)).toEqual(['flannel0']);
  });

  it('a bridge that has the whole overlay for its own; its route stays', async () => {
    await lab.nearDaemon.stop();
    await ip(...words('address add 100.96.1.77/16 dev docker0'));
    const own = '100.96.0.0/16 dev docker0 proto kernel scope link src 100.96.1.77';
    const routes = async (): Promise<string> =>
      (await run(inNamespace(lab.near.host, ['ip', 'route', 'show', '100.96.0.0/16']))).stdout;
    expect(await routes()).toContain(own);
    lab.daemons.shift();
    await lab.startDaemon(lab.near);
    lab.daemons.reverse();
    expect((await named('overlay_network_taken')).message).toContain('docker0');
    expect(await routes()).toContain(own);
    await ip(...words('address del 100.96.1.77/16 dev docker0'));
    await notNamed('overlay_network_taken');
    await notNamed('container_bridge_too_wide');
    await forwards();
  });

  it('another program that takes the route again and again', async () => {
    expect(await problems()).toEqual([]);
    for (let time = 0; time < 5; time += 1) {
      await ip(...words('route replace blackhole 100.96.0.0/16'));
      await waitFor('the route', RECOVERY_MS, async () =>
        (await checkRoutes(lab.near)).ok ? true : undefined,
      );
    }
    expect((await named('device_contended')).message).toContain('flannel0');
    await forwards();
  });
});
