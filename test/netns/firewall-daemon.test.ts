/**
 * A daemon among the rules and routes of others: containers reach each other where that is for us to
 * see to, and what is not is named in the log, by `flannelette status`, in /readyz and as a metric.
 */
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import type { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { LAB_DIRECTORY } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { askDaemon, COMMAND, TestLab } from '../support/test-lab.js';

const FORWARD = ['--iptables-forward-rules=true'];
const REJECT = '-j REJECT --reject-with icmp-host-prohibited';
/** Of --iptables-resync and more. */
const FOUND_MS = 10_000;

let lab: TestLab;
beforeEach(async () => {
  lab = await TestLab.bare(2);
});
afterEach(async () => {
  await lab.tearDown();
});

const shell = async (host: string, command: string): Promise<string> =>
  (await run(inNamespace(host, ['sh', '-ec', command]))).stdout;

/** Both daemons, each behind its own firewall, and a container on each. */
async function start(flags: readonly string[] = FORWARD): Promise<void> {
  for (const plan of lab.hosts) await lab.startDaemon(plan, { flags });
  for (const daemon of lab.daemons) await lab.attachContainer(daemon);
}

const problems = async (daemon: DaemonProcess): Promise<readonly string[]> =>
  (await daemon.status()).problems.map(({ id }) => id);

const named = async (daemon: DaemonProcess, ...ids: string[]): Promise<unknown> =>
  waitFor(`the problems ${ids.join(', ')}`, FOUND_MS, async () => {
    const found = await problems(daemon);
    return found.join() === ids.join() ? true : undefined;
  });

const reaches = async (): Promise<boolean> =>
  (await ping(lab.near, lab.far.containerAddress, { count: 3 })).received === 3;

const logged = (daemon: DaemonProcess, message: string): boolean =>
  daemon.program.stderr.split('\n').some((line) => line.includes(message));

it('has containers reach each other where a stock firewall ends in REJECT', async () => {
  for (const { host } of lab.hosts) {
    await shell(
      host,
      `iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
      iptables -A FORWARD ${REJECT}`,
    );
  }
  await start();
  expect(await reaches()).toBe(true);
  expect(logged(lab.nearDaemon, 'the jump to FLANNEL-FWD now stands before it')).toBe(true);
  expect(await problems(lab.nearDaemon)).toEqual([]);
  // An operator loads those rules again, while it runs.
  const { host } = lab.near;
  await shell(host, `iptables -F FORWARD; iptables -A FORWARD ${REJECT}`);
  await waitFor(
    'containers reach each other again',
    FOUND_MS,
    async () => (await reaches()) || undefined,
  );
  expect(await problems(lab.nearDaemon)).toEqual([]);
});

it('names an INPUT that refuses the tunnel, everywhere, until the remedy is run', async () => {
  await start();
  const { host } = lab.near;
  await shell(host, `iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT ${REJECT}`);
  const daemon = lab.nearDaemon;
  await named(daemon, 'udp_port_blocked', 'host_answers_blocked');
  const [problem] = (await daemon.status()).problems;
  expect(problem?.message).toContain(`-A INPUT ${REJECT}`);
  expect(logged(daemon, 'udp_port_blocked')).toBe(true);
  const ready = await askDaemon(daemon.subnetFile, '/readyz');
  expect(ready.code).toBe(200);
  expect(ready.body).toContain('udp_port_blocked');
  const { body } = await askDaemon(daemon.subnetFile, '/metrics');
  expect(body).toContain('flannelette_problem{problem="udp_port_blocked"} 1');
  const argv = [...COMMAND, 'status', `--subnet-file=${daemon.subnetFile}`];
  expect((await run(argv)).stdout).toContain(problem?.remedy ?? 'no remedy');
  for (const { remedy = 'false' } of (await daemon.status()).problems) await shell(host, remedy);
  await named(daemon);
  expect(await reaches()).toBe(true);
});

it('keeps answers of containers coming while Tailscale puts its rules in', async () => {
  await start();
  const { host } = lab.near;
  await shell(
    host,
    `iptables -N ts-input; iptables -A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP
    iptables -I INPUT -j ts-input`,
  );
  const argv = ['ping', '-n', '-q', '-c', '1', '-W', '1', lab.far.containerAddress];
  await waitFor('an answer to the host', FOUND_MS, async () => {
    const { code } = await run(inNamespace(host, argv), { accept: [0, 1] });
    return code === 0 ? true : undefined;
  });
  await named(lab.nearDaemon, 'tailscale_range');
});

it('puts flushed rules back long before the next resync', async () => {
  await start([...FORWARD, '--iptables-resync=3600']);
  const { host } = lab.near;
  await shell(host, 'iptables -P FORWARD DROP; nft flush ruleset; iptables -P FORWARD DROP');
  await waitFor(
    'containers reach each other',
    FOUND_MS,
    async () => (await reaches()) || undefined,
  );
  expect((await lab.nearDaemon.status()).firewall.repairs).toBeGreaterThan(0);
});

it('names routes and settings of the host, found at the start and later', async () => {
  const { host } = lab.near;
  await shell(
    host,
    `ip link add flannel.1 type bridge; ip link set flannel.1 up
    ip route add 100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink`,
  );
  await start();
  await named(lab.nearDaemon, 'overlay_route_taken');
  expect(await reaches()).toBe(false);
  const [problem] = (await lab.nearDaemon.status()).problems;
  await shell(host, problem?.remedy ?? 'false');
  await named(lab.nearDaemon);
  expect(await reaches()).toBe(true);
  await shell(host, 'sysctl -qw net.ipv4.ip_forward=0');
  await named(lab.nearDaemon, 'ip_forward_off');
  expect(await reaches()).toBe(false);
  await shell(host, 'sysctl -qw net.ipv4.ip_forward=1');
  await named(lab.nearDaemon);
});

it('says that the rules are off, and still names what refuses', async () => {
  const { host } = lab.near;
  await shell(host, 'iptables -P FORWARD DROP');
  await start([]);
  const argv = [...COMMAND, 'status', `--subnet-file=${lab.nearDaemon.subnetFile}`];
  expect((await run(argv)).stdout).toMatch(/^firewall {3}rules off/m);
  await named(lab.nearDaemon, 'forward_blocked');
  const [problem] = (await lab.nearDaemon.status()).problems;
  await shell(host, problem?.remedy ?? 'false');
  expect(await reaches()).toBe(true);
});

it('leaves no program behind when it is killed', async () => {
  await start();
  // A process that has ended stays a zombie here: PID 1 is the test runner.
  const watching = async (): Promise<number> => {
    const { stdout } = await run(['ps', '-e', '-o', 'stat=,args=']);
    return stdout.split('\n').filter((line) => /^[^Z].*xtables-monitor/.test(line)).length;
  };
  await waitFor('both watches', FOUND_MS, async () => (await watching()) === 2 || undefined);
  for (const daemon of lab.daemons) daemon.program.kill('SIGKILL');
  await waitFor('their ends', FOUND_MS, async () => (await watching()) === 0 || undefined);
});

describe('two daemons with different Networks on one host', () => {
  const blue = join(LAB_DIRECTORY, 'blue.json');
  afterEach(() => rm(blue, { force: true }));

  it('both forward where the policy drops, and repair nothing', async () => {
    await writeFile(
      blue,
      JSON.stringify({
        version: 1,
        config: { Network: '100.97.0.0/16', Backend: { Type: 'udp', Port: 8286 } },
        leases: {
          '100.97.1.0-24': { PublicIP: lab.near.address, PublicIPv6: null },
          '100.97.2.0-24': { PublicIP: lab.far.address, PublicIPv6: null },
        },
      }),
    );
    for (const { host } of lab.hosts) await shell(host, 'iptables -P FORWARD DROP');
    const flags = [...FORWARD, '--ip-masq', '--iptables-resync=1'];
    await start(flags);
    const { host } = lab.near;
    const subnetFile = join(LAB_DIRECTORY, host, 'blue.env');
    await lab
      .startDaemon(
        { ...lab.near, host },
        {
          storeFlags: [`--lease-file=${blue}`],
          flags: [...flags, `--subnet-file=${subnetFile}`],
        },
      )
      .catch(() => undefined);
    await waitFor('the second subnet.env', FOUND_MS, () => existsSync(subnetFile) || undefined);
    await waitFor('rules of both', FOUND_MS, async () => {
      const saved = await shell(host, 'iptables-save');
      return (saved.includes('100.96.1.0/24') && saved.includes('100.97.1.0/24')) || undefined;
    });
    const repairs = (await lab.nearDaemon.status()).firewall.repairs;
    const { received } = await ping(lab.near, lab.far.containerAddress, {
      count: 40,
      intervalSeconds: 0.1,
    });
    expect(received).toBe(40);
    expect((await lab.nearDaemon.status()).firewall.repairs).toBe(repairs);
    const second = await askDaemon(subnetFile, '/status');
    expect(JSON.parse(second.body)).toMatchObject({ ready: true, firewall: { repairs: 0 } });
  });
});
