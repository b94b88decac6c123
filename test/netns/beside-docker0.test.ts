/**
 * A daemon that opens its device while docker0 is there: at a restart, after an MTU change, after the
 * device was deleted. Before Linux 5.14 the kernel holds the first address of docker0's subnet, which is
 * the device's own, for a broadcast address; on later kernels that route is put in by hand.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { TestLab } from '../support/test-lab.js';

let lab: TestLab;
beforeAll(async () => {
  lab = await TestLab.setUp();
  await makeBroadcast();
});
afterAll(async () => {
  await lab.tearDown();
});

const RECOVERY_MS = 5_000;

async function makeBroadcast(): Promise<void> {
  const route =
    'broadcast 100.96.1.0 dev docker0 table local proto kernel scope link src 100.96.1.1';
  // 2: it is there, as the kernel's own.
  await run(inNamespace(lab.near.host, ['ip', 'route', 'append', ...route.split(' ')]), {
    accept: [0, 2],
  });
}

async function answers(namespace: string, address: string, ...flags: string[]): Promise<boolean> {
  const argv = ['ping', '-n', '-c', '1', '-W', '1', ...flags, address];
  return (await run(inNamespace(namespace, argv), { accept: [0, 1] })).code === 0;
}

/** The receiver of a TCP connection sees it come from `source`. */
async function connects(from: string, to: string, address: string): Promise<string> {
  const script = `
    const server = require('node:net').createServer((socket) => {
      console.log(socket.remoteAddress);
      socket.end(() => server.close());
    });
    server.listen(7000, '${address}', () => console.log('listening'));
    setTimeout(() => process.exit(1), 8000).unref();`;
  const client = `
    require('node:net').connect(7000, '${address}').on('end', () => process.exit(0)).resume()
      .on('error', () => process.exit(1)).setTimeout(5000, () => process.exit(1));`;
  const server = new Program(inNamespace(to, [process.execPath, '-e', script]));
  try {
    await waitFor('the server', 8_000, () =>
      Promise.resolve(server.stdout.includes('listening') ? true : undefined),
    );
    await run(inNamespace(from, [process.execPath, '-e', client]));
    await server.ended;
    return server.stdout.trim().split('\n').at(-1) ?? '';
  } finally {
    await server.stop();
  }
}

async function everythingWorks(): Promise<void> {
  const { near, far } = lab;
  await waitFor('the tunnel', RECOVERY_MS, async () =>
    (await answers(near.container, far.containerAddress)) ? true : undefined,
  );
  const ways: [HostPlan['host'], string][] = [
    [far.container, near.containerAddress],
    [near.host, far.containerAddress],
    [far.host, near.containerAddress],
    [far.host, near.tunAddress],
    [far.container, near.tunAddress],
  ];
  for (const [from, address] of ways) {
    expect([from, address, await answers(from, address)]).toEqual([from, address, true]);
  }
  expect(await connects(near.host, far.container, far.containerAddress)).toBe(near.tunAddress);
  expect(await connects(far.container, near.host, near.tunAddress)).toBe(far.containerAddress);
}

describe('beside docker0', () => {
  it('starts again', async () => {
    const { near } = lab;
    await lab.nearDaemon.stop();
    await makeBroadcast();
    lab.daemons.shift();
    await lab.startDaemon(near);
    lab.daemons.reverse();
    await everythingWorks();
  }, 60_000);

  it.each([1_400, 1_500])(
    'follows an MTU of %i',
    async (mtu) => {
      const { near } = lab;
      await run(inNamespace(near.host, ['ip', 'link', 'set', 'eth0', 'mtu', String(mtu)]));
      await waitFor('the MTU of flannel0', 10_000, async () => {
        const argv = inNamespace(near.host, ['ip', '-o', 'link', 'show', 'flannel0']);
        const { stdout } = await run(argv, { accept: [0, 1] });
        return stdout.includes(`mtu ${mtu - 28} `) ? true : undefined;
      });
      await everythingWorks();
      expect(lab.nearDaemon.program.running).toBe(true);
    },
    60_000,
  );

  it('brings a deleted device back', async () => {
    await run(inNamespace(lab.near.host, ['ip', 'link', 'del', 'flannel0']));
    await everythingWorks();
  }, 60_000);

  it.each([0, 1, 2])(
    'answers its containers with ICMP errors, rp_filter %i there',
    async (filter) => {
      const { near } = lab;
      for (const name of ['all', 'eth0']) {
        const setting = `net.ipv4.conf.${name}.rp_filter=${filter}`;
        await run(inNamespace(near.container, ['sysctl', '-qw', setting]));
      }
      const ping = async (...words: string[]): Promise<string> => {
        const argv = ['ping', '-n', '-c', '1', '-W', '2', ...words];
        return (await run(inNamespace(near.container, argv), { accept: [1] })).stdout;
      };
      expect(await ping('100.96.9.9')).toContain(
        'From 100.96.1.1 icmp_seq=1 Destination Net Unreachable',
      );
      // docker0 takes one, the tunnel's near end the other.
      expect(await ping('-t', '2', lab.far.containerAddress)).toContain(
        'From 100.96.1.1 icmp_seq=1 Time to live exceeded',
      );
    },
  );

  it('answers itself and other nodes with ICMP errors', async () => {
    const { near, far } = lab;
    const ping = async (from: string, ...words: string[]): Promise<string> => {
      const argv = ['ping', '-n', '-c', '1', '-W', '2', ...words];
      return (await run(inNamespace(from, argv), { accept: [1] })).stdout;
    };
    expect(await ping(near.host, '100.96.9.9')).toContain(
      'From 100.96.1.0 icmp_seq=1 Destination Net Unreachable',
    );
    // docker0 and the tunnel's far end take one each, the near end the third.
    expect(await ping(far.container, '-t', '3', near.containerAddress)).toContain(
      'From 100.96.1.0 icmp_seq=1 Time to live exceeded',
    );
  });
});
