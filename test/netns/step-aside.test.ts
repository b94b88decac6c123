/**
 * A running daemon that leaves its host to another flannel: a real flanneld where there is one
 * (src/testbed/flanneld.ts), and on the lease file a stand-in.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { LEASE_FILE_FLAGS, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import type { EtcdServer } from '../../src/testbed/etcd-server.js';
import { FLANNELD, startFlanneld } from '../../src/testbed/flanneld.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { ipBatch, type HostPlan } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { ENDPOINT, startEtcdFor } from '../support/etcd-lab.js';
import { COMMAND, TestLab, tunDevices } from '../support/test-lab.js';
import { expectLittleLost, startStandIn } from '../support/two-flannels.js';

const MTU = 1_472;
const TABLE = 'flannelette-port-0aa80002205d';

let lab: TestLab | undefined;
let etcd: EtcdServer | undefined;
let other: Program | undefined;
afterEach(async () => {
  await other?.stop();
  other = undefined;
  await lab?.tearDown();
  lab = undefined;
  await etcd?.stop();
  etcd = undefined;
});

interface Setting {
  readonly mode?: 'basic' | 'batch' | 'offload' | 'kernel';
  readonly flags?: readonly string[];
  readonly storeFlags?: readonly string[];
}

/** Two hosts with a container each; the near one is to be left. */
async function setUp({ mode = 'offload', flags, storeFlags }: Setting = {}): Promise<TestLab> {
  const now = await TestLab.bare(2, { mode });
  lab = now;
  if (storeFlags === undefined) await writeLeaseFile(now.hosts);
  else etcd = await startEtcdFor(now.hosts);
  const store = { storeFlags: storeFlags ?? LEASE_FILE_FLAGS };
  await now.startDaemon(now.near, { ...store, ...(flags === undefined ? {} : { flags }) });
  await now.startDaemon(now.far, store);
  for (const plan of now.hosts) await now.addContainer(plan, MTU);
  return now;
}

/** The command, once the port is free. */
async function stepAside({ nearDaemon }: TestLab, within = 30): Promise<Program> {
  const command = new Program([
    ...COMMAND,
    'step-aside',
    `--within=${within}`,
    `--subnet-file=${nearDaemon.subnetFile}`,
  ]);
  await waitFor('a free port', 10_000, () => {
    if (!command.running) throw new Error(`step-aside ended: ${command.stderr}`);
    return command.stdout.includes('the UDP port is free') || undefined;
  });
  return command;
}

/** The near daemon has ended as one that need not be started again, and is no more the lab's. */
async function expectLeft(now: TestLab, command: Program): Promise<void> {
  expect(await command.ended).toBe(0);
  expect(command.stdout).toContain('the other flannel forwards, the daemon ends');
  const [daemon] = now.daemons.splice(0, 1);
  expect(await daemon?.program.ended).toBe(3);
  expect(daemon?.program.stderr).toContain('another flannel forwards from now on');
}

const tables = async (plan: HostPlan): Promise<string> =>
  (await run(inNamespace(plan.host, ['nft', 'list', 'tables']))).stdout;

describe('step-aside', () => {
  it.each([
    ['basic', []],
    ['batch', []],
    ['offload', ['--workers=4']],
    ['kernel', []],
  ] as const)('leaves port and route to another daemon in mode %s', async (mode, flags) => {
    const now = await setUp({ mode, flags });
    await expectLittleLost(now, async () => {
      const command = await stepAside(now);
      expect((await now.nearDaemon.status()).phase).toBe('standing aside');
      expect(await tables(now.near)).toContain(TABLE);
      other = startStandIn(now.near).program;
      await expectLeft(now, command);
    });
    expect(await tables(now.near)).not.toContain(TABLE);
    expect(await tunDevices(now.near.host)).toHaveLength(1);
    expect((await ping(now.near, now.far.containerAddress, { count: 20 })).received).toBe(20);
  });

  it.runIf(FLANNELD !== undefined)('leaves them to a real flanneld on etcd', async () => {
    const storeFlags = [`--etcd-endpoints=${ENDPOINT}`];
    const now = await setUp({ storeFlags });
    await expectLittleLost(now, async () => {
      const command = await stepAside(now);
      ({ program: other } = await startFlanneld(FLANNELD ?? '', now.near, storeFlags));
      await expectLeft(now, command);
    });
    expect(await tunDevices(now.near.host)).toEqual(['flannel1']);
    expect((await ping(now.near, now.far.containerAddress, { count: 20 })).received).toBe(20);
  });

  it('takes both back when nobody comes, also behind a firewall that lets 8285 alone in', async () => {
    const now = await setUp();
    const rules = [
      'add table ip strict',
      'add chain ip strict input { type filter hook input priority 0 ; policy drop ; }',
      'add rule ip strict input udp dport 8285 accept',
      'add rule ip strict input icmp type echo-reply accept',
    ];
    await run(inNamespace(now.near.host, ['nft', rules.join('\n')]));
    const before = await routes(now.near);
    await expectLittleLost(now, async () => {
      const command = await stepAside(now, 2);
      expect(await routes(now.near)).toEqual([
        expect.stringMatching(/^100\.96\.0\.0\/17 dev flannel0 /),
        expect.stringMatching(/^100\.96\.128\.0\/17 dev flannel0 /),
      ]);
      await expectFlow(now, command);
    });
    expect(await routes(now.near)).toEqual(before);
    expect(await tables(now.near)).not.toContain(TABLE);
    expect((await now.nearDaemon.status()).phase).toBe('running');
    const again = await stepAside(now, 1);
    await expectFlow(now, again);
  });

  it('a stop meanwhile leaves nothing behind, and kill -9 nothing that a start does not mend', async () => {
    const now = await setUp();
    const command = await stepAside(now);
    const [stopped] = now.daemons.splice(0, 1);
    expect(await stopped?.program.stop()).toBe(0);
    expect(await command.ended).toBe(1);
    expect(command.stderr).toContain('the daemon has ended before another flannel');
    expect(await tables(now.near)).not.toContain(TABLE);
    expect(await routes(now.near)).toEqual([]);

    const second = await now.startDaemon(now.near, { storeFlags: LEASE_FILE_FLAGS });
    now.daemons.splice(now.daemons.indexOf(second), 1);
    now.daemons.unshift(second);
    const killed = await stepAside(now);
    second.program.kill('SIGKILL');
    await second.program.ended;
    expect(await killed.ended).toBe(1);
    now.daemons.splice(0, 1);
    // Before Linux 5.12 the table stays so long.
    await now.startDaemon(now.near, { storeFlags: LEASE_FILE_FLAGS });
    expect(await tables(now.near)).not.toContain(TABLE);
    expect((await ping(now.near, now.far.containerAddress, { count: 20 })).received).toBe(20);
  });

  it('leaves the network of another device alone, though it is the overlay', async () => {
    const now = await setUp();
    await ipBatch(now.near.host, [
      'link add other type veth peer name other-end',
      'link set other up',
      'link set other-end up',
      'addr add 100.96.200.1/16 dev other',
    ]);
    const list = async (): Promise<string> =>
      (await run(inNamespace(now.near.host, ['ip', 'route']))).stdout;
    const before = await list();
    expect(before).toContain('100.96.0.0/16 dev other');
    const command = await stepAside(now, 1);
    expect(await list()).toBe(before);
    await expectFlow(now, command);
    expect(await list()).toBe(before);
  });

  it('is refused while it stands aside', async () => {
    const now = await setUp();
    const command = await stepAside(now, 20);
    const { subnetFile } = now.nearDaemon;
    const ask = async (...words: readonly string[]): Promise<string> => {
      const { code, stderr } = await run([...COMMAND, ...words, `--subnet-file=${subnetFile}`], {
        accept: [1, 2],
      });
      return `${code} ${stderr}`;
    };
    expect(await ask('step-aside')).toMatch(/^1 .*this daemon is standing aside: expected one/);
    expect(await ask('mode', 'basic')).toMatch(/^1 .*this daemon is standing aside/);
    expect(await ask('step-aside', '--within=0')).toMatch(/^2 --within: "0" is not valid/);
    const next = await run(
      [
        ...inNamespace(now.near.host, [...COMMAND, 'run', '--takeover', ...LEASE_FILE_FLAGS]),
        `--subnet-file=${subnetFile}`,
        '--iface=eth0',
      ],
      { accept: [1] },
    );
    expect(next.stderr).toContain('it stands aside for another program');
    expect(command.running).toBe(true);
  });
});

/** Of the overlay's part beyond this host, by the tunnel. */
async function routes(plan: HostPlan): Promise<string[]> {
  const { stdout } = await run(inNamespace(plan.host, ['ip', 'route']));
  return stdout.split('\n').filter((line) => / dev flannel\d/.test(line));
}

/** It ends in vain, and packets have gone on. */
async function expectFlow(now: TestLab, command: Program): Promise<void> {
  expect(await command.ended).toBe(1);
  expect(command.stderr).toContain('the daemon has both again');
  expect(now.nearDaemon.program.running).toBe(true);
}
