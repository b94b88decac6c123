/** The keeper's clock, counts and log lines, with a firewall that does as the test says. */
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { FirewallKeeper, type FirewallPlan } from '../../../src/firewall/firewall.js';
import { parseCidr } from '../../../src/config/ipv4.js';
import { FakeFirewall } from '../../support/fake-firewall.js';

const PLAN: FirewallPlan = {
  network: parseCidr('network', '100.96.0.0/16'),
  subnet: parseCidr('subnet', '100.96.1.0/24'),
  masquerade: true,
  forward: true,
  randomFully: true,
};
const RESYNC_SECONDS = 5;

let stop: AbortController;
let lines: { level: number; msg: string }[];
beforeEach(() => {
  stop = new AbortController();
  lines = [];
  vi.useFakeTimers();
});
afterEach(() => {
  stop.abort();
  vi.useRealTimers();
});

function setUp(plan: Partial<FirewallPlan> = {}) {
  const firewall = new FakeFirewall('iptables');
  const other = new FakeFirewall('nftables');
  const log = pino(
    { level: 'debug' },
    { write: (line: string) => lines.push(JSON.parse(line) as (typeof lines)[number]) },
  );
  const keeper = new FirewallKeeper({
    firewall,
    others: [other],
    plan: { ...PLAN, ...plan },
    resyncSeconds: RESYNC_SECONDS,
    log,
  });
  const changes = vi.fn();
  keeper.onChange(changes);
  return { firewall, other, keeper, changes };
}

const stateOf = ({ inPlace, error, repairs }: FirewallKeeper) => ({ inPlace, error, repairs });
const logged = (level: number) => lines.filter((line) => line.level === level);
const resync = (times = 1) => vi.advanceTimersByTimeAsync(times * RESYNC_SECONDS * 1_000);
const started = () => vi.advanceTimersByTimeAsync(0);

it('cleans the other kind, applies, and applies again each resync', async () => {
  const { firewall, other, keeper, changes } = setUp();
  expect(keeper.inPlace).toBe(false);
  const run = keeper.run(stop.signal);
  await started();
  expect(other).toMatchObject({ cleaned: 1, applied: 0 });
  expect(firewall.applied).toBe(1);
  expect(stateOf(keeper)).toMatchObject({ inPlace: true, error: undefined, repairs: 0 });
  firewall.next = false;
  await resync(3);
  expect(firewall.applied).toBe(4);
  expect(other.cleaned).toBe(1);
  expect(keeper.repairs).toBe(0);
  expect(changes).toHaveBeenCalledTimes(1);
  // That the other could not be cleaned is worth a debug line.
  expect(logged(20)).toHaveLength(1);
  expect([...logged(40), ...logged(50)]).toEqual([]);
  stop.abort();
  await run;
});

it('counts and says each repair', async () => {
  const { firewall, keeper } = setUp();
  void keeper.run(stop.signal);
  await started();
  await resync(2);
  firewall.next = false;
  await resync(1);
  expect(keeper.repairs).toBe(2);
  expect(logged(40)).toHaveLength(2);
});

it('says a lasting failure at first and once a minute, and recovers', async () => {
  const { firewall, keeper, changes } = setUp();
  firewall.next = new Error('iptables is not installed');
  void keeper.run(stop.signal);
  await started();
  expect(stateOf(keeper)).toMatchObject({ inPlace: false, error: 'iptables is not installed' });
  await resync(11);
  expect(logged(50)).toHaveLength(1);
  await resync(1);
  expect(logged(50)).toHaveLength(2);
  expect(firewall.applied).toBe(13);
  firewall.next = true;
  await resync();
  expect(stateOf(keeper)).toMatchObject({ inPlace: true, error: undefined, repairs: 0 });
  expect(changes).toHaveBeenCalledTimes(2);
});

it('stays in place when a later check fails, and says a new failure at once', async () => {
  const { firewall, keeper } = setUp();
  void keeper.run(stop.signal);
  await started();
  for (const reason of ['first', 'second']) {
    firewall.next = new Error(reason);
    await resync();
    expect(stateOf(keeper)).toMatchObject({ inPlace: true, error: reason });
    firewall.next = false;
    await resync();
    expect(keeper.error).toBeUndefined();
  }
  expect(logged(50)).toHaveLength(2);
});

it('ends at once when aborted in a pause', async () => {
  const { firewall, keeper } = setUp();
  const run = keeper.run(stop.signal);
  await started();
  stop.abort();
  await expect(run).resolves.toBeUndefined();
  expect(firewall.applied).toBe(1);
});

it('ends a program that runs when aborted, which is no failure', async () => {
  const { firewall, keeper } = setUp();
  firewall.hangs = true;
  const run = keeper.run(stop.signal);
  await started();
  expect(firewall.applied).toBe(1);
  stop.abort();
  await expect(run).resolves.toBeUndefined();
  expect(keeper.error).toBeUndefined();
  expect(logged(50)).toEqual([]);
});

it('applies nothing when aborted before', async () => {
  const { firewall, keeper } = setUp();
  stop.abort();
  await keeper.run(stop.signal);
  expect(firewall.applied).toBe(0);
});

it('has an empty plan in place from the start, and still cleans up and says what fails', async () => {
  const { firewall, keeper } = setUp({ masquerade: false, forward: false });
  expect(keeper.inPlace).toBe(true);
  firewall.next = new Error('locked');
  void keeper.run(stop.signal);
  await started();
  expect(stateOf(keeper)).toMatchObject({ inPlace: true, error: 'locked' });
  expect(firewall.applied).toBe(1);
});

it('says of an empty plan that the rules are off', async () => {
  const { keeper } = setUp({ masquerade: false, forward: false });
  void keeper.run(stop.signal);
  await started();
  expect(lines.map(({ msg }) => msg)).toContain('firewall rules off');
});

it('checks soon when rules changed, once a burst of changes is over', async () => {
  const { firewall, keeper } = setUp();
  firewall.next = false;
  void keeper.run(stop.signal);
  await started();
  await vi.advanceTimersByTimeAsync(2_000);
  for (let command = 0; command < 3; command += 1) {
    keeper.checkSoon();
    await vi.advanceTimersByTimeAsync(50);
  }
  expect(firewall.applied).toBe(1);
  await vi.advanceTimersByTimeAsync(100);
  expect(firewall.applied).toBe(2);
  // And then again each resync.
  await resync();
  expect(firewall.applied).toBe(3);
});

it('keeps a growing distance from a program that undoes each repair', async () => {
  const { firewall, keeper } = setUp();
  void keeper.run(stop.signal);
  const rival = setInterval(() => {
    keeper.checkSoon();
  }, 20);
  await vi.advanceTimersByTimeAsync(20_000);
  clearInterval(rival);
  // At 1, 2, 4 s after a repair, and then each resync: of 1,000 rings.
  expect(firewall.applied).toBeGreaterThan(4);
  expect(firewall.applied).toBeLessThan(12);
});

it('removes the rules of a former Network once', async () => {
  const formerNetwork = parseCidr('network', '10.244.0.0/16');
  const { firewall, keeper } = setUp({ formerNetwork });
  firewall.next = new Error('locked');
  void keeper.run(stop.signal);
  await started();
  expect(firewall.plan).toMatchObject({ formerNetwork });
  firewall.next = true;
  await resync();
  expect(firewall.plan).toMatchObject({ formerNetwork });
  await resync();
  expect(firewall.plan?.formerNetwork).toBeUndefined();
});
