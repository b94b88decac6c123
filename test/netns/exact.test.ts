/**
 * Every pair of modes, and every MTU: what goes in at one end comes out at the other, both ways, by
 * TCP (SHA-256) and in numbered datagrams. `npm run exact` sends 1 GiB where this sends a little.
 *
 *   MTU 576, 1472, 9000:  two hosts of each mode, one switch
 *     basic, batch, offload            as chosen by --mode
 *     legacy                           mode auto on a kernel that refuses every feature
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DaemonSettings } from '../../src/testbed/daemon-process.js';
import { ping } from '../../src/testbed/traffic.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { sendNumberedBothWays, timeFor, transferBothWays } from '../support/exact.js';
import { buildRefuse, LEGACY_RULES, refusing } from '../support/refuse.js';
import { TestLab } from '../support/test-lab.js';

const BYTES = Number(process.env['FLANNELETTE_EXACT_MIB'] ?? 8) * 1024 * 1024;
const DATAGRAMS = 400;
/** IPv4 and UDP around each packet, and within it around a datagram. */
const HEADERS = 28;

const MODES: Readonly<Record<string, Partial<DaemonSettings>>> = {
  basic: { mode: 'basic' },
  batch: { mode: 'batch' },
  offload: { mode: 'offload' },
  legacy: { mode: 'auto', command: refusing(...LEGACY_RULES) },
};
const NAMES = Object.keys(MODES);
const PAIRS = NAMES.flatMap((one, at) => NAMES.slice(at).map((two) => ({ one, two })));

describe.each([576, 1472, 9000])('at an MTU of %i', (mtu) => {
  let lab: TestLab;
  /** Two hosts for each mode: the first of it and the second. */
  const hosts = new Map<string, [HostPlan, HostPlan]>();

  beforeAll(async () => {
    await buildRefuse();
    lab = await TestLab.bare(2 * NAMES.length, {}, { mtu });
    const daemons = await Promise.all(
      lab.hosts.map((plan, at) => lab.startDaemon(plan, MODES[NAMES[at >> 1] ?? ''])),
    );
    for (const daemon of daemons) await lab.attachContainer(daemon);
    NAMES.forEach((name, at) => {
      const [first, second] = lab.hosts.slice(2 * at);
      if (first !== undefined && second !== undefined) hosts.set(name, [first, second]);
    });
  });
  afterAll(() => lab.tearDown());

  it.each(PAIRS)(
    'between $one and $two',
    async ({ one, two }) => {
      const near = hosts.get(one)?.[0];
      const far = hosts.get(two)?.[1];
      if (near === undefined || far === undefined) throw new Error('no such hosts');
      await transferBothWays(near, far, BYTES);

      const largest = mtu - 2 * HEADERS;
      await sendNumberedBothWays(near, far, DATAGRAMS, largest - (largest % 8));
      const full = { count: 2, size: largest, dontFragment: true };
      expect((await ping(near, far.containerAddress, full)).received).toBe(2);
    },
    2 * timeFor(BYTES),
  );
});
