/**
 * Everybody reaches everybody: containers and the nodes' own addresses, with and without --ip-masq.
 *
 *   container-1 --docker0, eth0--> node 2's eth0       the question goes by the underlay,
 *   container-1 <--flannel0------- node 2              the answer, from 10.168.0.3, by the tunnel
 *
 * Without masquerading node 2 sees the container's address and answers through the overlay; what
 * arrives at node 1 then has node 2's PublicIP as inner source.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/testbed/programs.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { counters, TestLab } from '../support/test-lab.js';

/** From whom, in which namespace, to which address. */
type Way = (lab: TestLab) => [from: HostPlan, namespace: string, to: string];

describe.each([
  ['with --ip-masq', { flags: ['--ip-masq'] }],
  ['without --ip-masq', { flags: [] }],
  ['without --ip-masq, in trains', { flags: [], mode: 'offload' as const }],
])('%s', (_name, settings) => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await TestLab.setUp(settings);
    for (const { host } of lab.hosts) {
      // Question and answer take different ways, which strict reverse path filtering refuses.
      const loose = ['all', 'default', 'eth0', 'flannel0', 'docker0'];
      const argv = loose.map((name) => `net.ipv4.conf.${name}.rp_filter=0`);
      await run(inNamespace(host, ['sysctl', '-qw', ...argv]));
    }
  });
  afterAll(() => lab.tearDown());

  /** Every ping is answered, small and as large as fits, and the source check refused nothing. */
  async function reaches(from: HostPlan, namespace: string, address: string): Promise<void> {
    for (const size of [56, 1400]) {
      const options = { count: 5, intervalSeconds: 0.02, size, dontFragment: true, namespace };
      expect(await ping(from, address, options)).toMatchObject({ sent: 5, received: 5 });
    }
    for (const daemon of lab.daemons) {
      const { drops } = await counters(daemon, 'decapsulate');
      expect(drops).toMatchObject({ source_mismatch: 0, unknown_source: 0 });
    }
  }

  it.each<[string, Way]>([
    [
      'a container and a container',
      ({ near, far }) => [near, near.container, far.containerAddress],
    ],
    ['a container and its own node', ({ near }) => [near, near.container, near.address]],
    ['a container and another node', ({ near, far }) => [near, near.container, far.address]],
    ['a container and the other node, back', ({ near, far }) => [far, far.container, near.address]],
    [
      'a container and the other docker0',
      ({ near, far }) => [near, near.container, far.bridgeAddress],
    ],
    [
      'a container and the other flannel0',
      ({ near, far }) => [near, near.container, far.tunAddress],
    ],
    ['a node and a container', ({ near, far }) => [near, near.host, far.containerAddress]],
    ['a node and a node', ({ near, far }) => [near, near.host, far.address]],
  ])('%s reach each other', async (_path, of) => {
    await reaches(...of(lab));
  });

  it('a node reaches a container from its own address', async () => {
    const argv = ['ping', '-q', '-n', '-c', '3', '-i', '0.05', '-W', '2', '-I', lab.near.address];
    const from = inNamespace(lab.near.host, [...argv, lab.far.containerAddress]);
    expect((await run(from)).stdout).toContain('3 received');
  });
});
