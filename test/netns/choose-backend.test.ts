/** A program takes the best backend there is, falls back when it ceases to carry, and climbs again. */
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { LEASE_FILE, subnetFileOf, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { hostPlan, type HostPlan } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import { ROOT, TestLab } from '../support/test-lab.js';
import { canKernel } from '../support/can-kernel.js';

const SCRIPT = join(ROOT, 'test', 'support', 'choose-backend.mjs');
const HOST_GW = { BackendType: 'host-gw' };

let lab: TestLab | undefined;
const programs: Program[] = [];
afterEach(async () => {
  for (const program of programs.splice(0)) await program.stop();
  await lab?.tearDown();
  lab = undefined;
});

interface Line {
  readonly way?: string;
  readonly type?: string;
  readonly from?: string;
  readonly to?: string;
  readonly reason?: string;
  readonly error?: string;
  readonly passedOver?: readonly { readonly way: string; readonly reason: string }[];
}

function choose(plan: HostPlan, ...ways: string[]): Program {
  const argv = [process.execPath, SCRIPT, LEASE_FILE, subnetFileOf(plan), ...ways];
  const program = new Program(inNamespace(plan.host, argv));
  programs.push(program);
  return program;
}

const said = ({ stdout }: Program): Line[] =>
  stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Line]));

async function line(program: Program, wanted: (line: Line) => boolean): Promise<Line> {
  return waitFor('a line of the program', 15_000, () =>
    Promise.resolve(said(program).find(wanted)),
  );
}

async function reaches(from: HostPlan, to: HostPlan): Promise<void> {
  await waitFor(`${to.container}`, 10_000, async () => {
    const { received } = await ping(from, to.containerAddress, { count: 3 });
    return received === 3 ? true : undefined;
  });
}

describe('the choice of a backend', () => {
  it('passes over those by which no host is reached, and takes the next that carries', async () => {
    lab = await TestLab.bare(2);
    const { near, far } = lab;
    await lab.attachContainer(await lab.startDaemon(far));
    const program = choose(near);
    const { way, passedOver = [] } = await line(program, (one) => one.passedOver !== undefined);
    expect(way).toBe(canKernel ? 'udp/kernel' : 'udp/offload');
    const reasons = Object.fromEntries(passedOver.map((one) => [one.way, one.reason]));
    expect(reasons['vxlan']).toContain("this host's backend is vxlan");
    expect(reasons['host-gw']).toContain("this host's backend is host-gw");
    await lab.addContainer(near, 1472);
    await reaches(near, far);
    expect(await program.stop()).toBe(0);
    const { stdout } = await run(inNamespace(near.host, ['ip', '-o', 'link']));
    expect(stdout).not.toMatch(/flannel/);
  });

  it('falls back when a host cannot be reached any more, and climbs when it can', async () => {
    lab = await TestLab.bare(2);
    const { near, far, hosts } = lab;
    const config = { Network: '100.96.0.0/16', Backend: { Type: 'host-gw' } };
    await writeLeaseFile(hosts, config, HOST_GW);
    await lab.attachContainer(await lab.startDaemon(far));
    const program = choose(near, 'host-gw', 'udp/offload');
    expect(await line(program, (one) => one.passedOver !== undefined)).toEqual({
      way: 'host-gw',
      passedOver: [],
    });
    await lab.addContainer(near, 1472);
    await reaches(near, far);

    await writeLeaseFile([...hosts, { ...hostPlan(3), address: '192.0.2.7' }], config, HOST_GW);
    const fell = await line(program, ({ type, to }) => type === 'fallback' && to === 'udp/offload');
    expect(fell.from).toBe('host-gw');
    expect(fell.reason).toContain('not on the segment of eth0');

    await writeLeaseFile(hosts, config, HOST_GW);
    const climbed = await line(program, ({ type, to }) => type === 'fallback' && to === 'host-gw');
    expect(climbed.from).toBe('udp/offload');
    await reaches(near, far);
    expect(await program.stop()).toBe(0);
  });

  it('names every reason when nothing carries', async () => {
    lab = await TestLab.bare(1);
    const daemon = await lab.startDaemon(lab.near);
    const program = choose({ ...lab.near, number: 9 }, 'udp/offload', 'udp/basic');
    const { error = '' } = await line(program, (one) => one.error !== undefined);
    expect(error).toContain('no way carries packets here: udp/offload: another daemon');
    expect(error).toContain('udp/basic: another daemon');
    expect(await program.ended).toBe(1);
    await daemon.stop();
  });
});
