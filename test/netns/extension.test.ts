/**
 * flanneld's extension backend drives the data plane: two hosts, and nothing but the commands as
 * flanneld runs them. Where there is a flanneld (src/testbed/flanneld.ts), it does as well.
 *
 *   host-1 10.168.0.2, 100.96.1.0/24        host-2 10.168.0.3, 100.96.2.0/24
 *     extension up, post, add                 extension up, post, add
 */
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { statusSocketPath } from '../../src/daemon/options.js';
import { requestJson } from '../../src/daemon/status-client.js';
import type { DaemonStatus } from '../../src/daemon/status.js';
import { extensionPaths, identify } from '../../src/extension/control.js';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import {
  addContainer,
  GATEWAY,
  LAB_DIRECTORY,
  OVERLAY,
  removeContainer,
  type HostPlan,
} from '../../src/testbed/topology.js';
import { IperfTarget, ping, PingStream } from '../../src/testbed/traffic.js';
import { FLANNELD } from '../../src/testbed/flanneld.js';
import { etcdClient } from '../support/etcd.js';
import { commands, ExtensionBackend, INSTANCE, leaseOf } from '../support/extension-backend.js';
import { TestLab, tunDevices } from '../support/test-lab.js';

const OVERLAY_MTU = 1472;
const BACKEND_DATA = '{"dataPlane":"flannelette","udpPort":8285}';

let lab: TestLab;
let near: ExtensionBackend;
let far: ExtensionBackend;
const containers: HostPlan[] = [];

beforeAll(async () => {
  lab = await TestLab.bare(2);
  for (const plan of lab.hosts) {
    await addContainer(plan, `${plan.bridgeAddress}/24`, OVERLAY_MTU);
    containers.push(plan);
  }
});
afterAll(async () => {
  for (const plan of containers) await removeContainer(plan);
  await lab.tearDown();
});
afterEach(async () => {
  for (const host of [near, far]) await host.extension('down');
});

/** Both hosts as two flannelds bring them up that see each other's lease. */
async function bringUp(flags?: string): Promise<void> {
  [near, far] = backends(flags);
  await near.register();
  await far.register();
  await near.add(far);
  await far.add(near);
}

function backends(flags?: string): [ExtensionBackend, ExtensionBackend] {
  return [
    new ExtensionBackend(lab.near, commands(flags)),
    new ExtensionBackend(lab.far, commands(flags)),
  ];
}

async function reached(): Promise<void> {
  expect((await ping(lab.near, lab.far.containerAddress, { count: 3 })).received).toBe(3);
  expect((await ping(lab.far, lab.near.containerAddress, { count: 3 })).received).toBe(3);
}

async function statusOf({ subnetFile }: ExtensionBackend): Promise<DaemonStatus> {
  return (await requestJson(statusSocketPath(subnetFile), '/status', 2_000)) as DaemonStatus;
}

async function pidOf({ subnetFile }: ExtensionBackend): Promise<number> {
  return (await identify(subnetFile))?.pid ?? Number.NaN;
}

async function overlayRoutes({ host }: HostPlan): Promise<string[]> {
  const { stdout } = await run(inNamespace(host, ['ip', '-4', 'route', 'show']));
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('100.96.') && !line.includes('docker0'));
}

async function alive(pid: number): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return text !== undefined && !/\) Z /.test(text);
}

async function gone(pid: number): Promise<void> {
  await waitFor(`the end of ${pid}`, 5_000, async () => ((await alive(pid)) ? undefined : true));
}

describe('two hosts by the commands alone', () => {
  it('carry ping and TCP between containers', async () => {
    [near, far] = backends();
    expect(await near.register()).toBe('forwarding for 100.96.1.0/24 by flannel0, MTU 1472');
    expect(await far.register()).toBe('forwarding for 100.96.2.0/24 by flannel0, MTU 1472');
    expect([near.backendData, far.backendData]).toEqual([BACKEND_DATA, BACKEND_DATA]);
    expect(await near.add(far)).toBe('added 100.96.2.0/24 via 10.168.0.3');
    expect(await far.add(near)).toBe('added 100.96.1.0/24 via 10.168.0.2');
    await reached();
    expect((await new IperfTarget(lab.far).tcp(lab.near, { seconds: 1 })).gbps).toBeGreaterThan(0);
    const { routes, store, external, ready, problems } = await statusOf(near);
    expect(routes).toEqual([{ subnet: '100.96.2.0/24', nextHop: '10.168.0.3', way: 'tunnel' }]);
    expect(store?.kind).toBe('extension');
    expect(external?.address).toBe('10.168.0.2');
    expect([ready, problems]).toEqual([true, []]);
    expect(await readFile(near.subnetFile, 'utf8')).toContain('FLANNEL_MTU=1472');
  });

  it('are open to root only', async () => {
    await bringUp();
    const { socket, log } = extensionPaths(near.subnetFile);
    for (const path of [socket, log]) expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it('stop at a subnet that is removed, and go on when it is added again', async () => {
    await bringUp();
    expect(await near.remove(far)).toBe('removed 100.96.2.0/24 via 10.168.0.3');
    const { stdout } = await run(
      inNamespace(lab.near.container, ['ping', '-n', '-c1', '-W2', lab.far.containerAddress]),
      { accept: [1] },
    );
    expect(stdout).toContain('Destination Net Unreachable');
    expect(await near.remove(far)).toBe('there was no 100.96.2.0/24');
    await near.add(far);
    await reached();
  });

  it('lose nothing when flanneld starts again', async () => {
    await bringUp();
    const pid = await pidOf(near);
    const stream = new PingStream(lab.near, lab.far.containerAddress, {});
    await near.register();
    await near.add(far);
    const { sent, received } = await stream.end();
    expect(received).toBe(sent);
    expect(await pidOf(near)).toBe(pid);
  });

  it('take another subnet, and other flags, at the next start of flanneld', async () => {
    await bringUp();
    const pid = await pidOf(near);
    await near.register('100.96.9.0/24');
    expect((await statusOf(near)).lease?.subnet).toBe('100.96.9.0/24');
    expect(await pidOf(near)).toBe(pid);
    expect(await tunDevices(lab.near.host)).toEqual(['flannel0']);
    await bringUp('--port=8286 --mode=batch');
    await reached();
    expect(near.backendData).toContain('8286');
    expect(await pidOf(near)).not.toBe(pid);
    await gone(pid);
  });

  it('send without the tunnel on one segment with --direct-routing', async () => {
    await bringUp('--direct-routing');
    await reached();
    expect(await overlayRoutes(lab.near)).toContain('100.96.2.0/24 via 10.168.0.3 dev eth0 ');
  });

  it('leave nothing after down', async () => {
    await bringUp('--direct-routing');
    const pid = await pidOf(near);
    expect(await near.extension('down')).toEqual({ code: 0, output: 'ended' });
    await gone(pid);
    expect(await tunDevices(lab.near.host)).toEqual([]);
    expect(await overlayRoutes(lab.near)).toEqual([]);
    for (const path of [extensionPaths(near.subnetFile).socket, statusSocketPath(near.subnetFile)])
      await expect(stat(path)).rejects.toThrow('ENOENT');
    expect(await near.extension('down')).toEqual({ code: 0, output: 'no data plane' });
  });
});

describe('a data plane that fails', () => {
  it('is missed by the next command when it was killed, and comes back with flanneld', async () => {
    await bringUp();
    const pid = await pidOf(near);
    process.kill(pid, 'SIGKILL');
    await gone(pid);
    const { socket, log } = extensionPaths(near.subnetFile);
    expect(await near.extension('add', leaseOf(lab.far))).toEqual({
      code: 1,
      output: `the data plane behind ${socket} is gone (ECONNREFUSED), its last words are in ${log}: restart flanneld to start it again`,
    });
    await near.register();
    await near.add(far);
    await reached();
  });

  it('tells flanneld why when the port is taken', async () => {
    [near, far] = backends();
    const blocker =
      'import socket,time; s=socket.socket(2,2); s.bind(("0.0.0.0",8285)); print(1,flush=True); time.sleep(60)';
    const program = new Program(inNamespace(lab.near.host, ['python3', '-c', blocker]));
    try {
      await waitFor('the port', 5_000, () => (program.stdout === '' ? undefined : true));
      await expect(near.register()).rejects.toThrow(/ended with 1: .*8285.*EADDRINUSE/);
      const add = await near.extension('add', leaseOf(lab.far));
      expect(add).toMatchObject({
        code: 1,
        output: expect.stringMatching(/the data plane ended: .*8285/) as string,
      });
    } finally {
      await program.stop();
    }
    // A flanneld that is started again finds it waiting.
    expect(await near.register()).toContain('forwarding');
  });

  it('has to be started before anything else', async () => {
    [near, far] = backends();
    const { socket } = extensionPaths(near.subnetFile);
    const { code, output } = await near.extension('post', leaseOf(lab.near));
    expect(code).toBe(1);
    expect(output).toBe(
      `no data plane answers on ${socket} (ENOENT): flannelette extension up (PreStartupCommand) comes first, with this --subnet-file`,
    );
    await near.extension('up');
    expect(await near.extension('add', leaseOf(lab.far))).toEqual({
      code: 1,
      output: 'no subnet was told yet: flannelette extension post (PostStartupCommand) comes first',
    });
  });
});

describe('bad input', () => {
  it('is one line that names variable, value and what was expected', async () => {
    await bringUp();
    const other = leaseOf(lab.far);
    const own = { ...leaseOf(lab.near), NETWORK: OVERLAY };
    const cases: [string, Record<string, string>, string, number, string][] = [
      [
        'add',
        { PUBLIC_IP: '10.168.0.3' },
        '',
        2,
        'SUBNET: (missing) is not valid: expected the variable that flanneld sets, e.g. 100.96.1.0/24',
      ],
      [
        'add',
        { ...other, SUBNET: '100.96.2.7/24' },
        '',
        2,
        'SUBNET: "100.96.2.7/24" is not valid: expected a subnet without host bits: 100.96.2.0/24',
      ],
      [
        'add',
        { ...other, PUBLIC_IP: '10.168.0' },
        '',
        2,
        'PUBLIC_IP: "10.168.0" is not valid: expected',
      ],
      [
        'add',
        other,
        'aa:bb:cc:dd:ee:ff',
        2,
        'BackendData (standard input): "aa:bb:cc:dd:ee:ff" is not valid: expected what flannelette extension up prints',
      ],
      [
        'add',
        other,
        BACKEND_DATA.replace('8285', '8299'),
        2,
        'BackendData (standard input), udpPort: 8299 is not valid: expected 8285',
      ],
      [
        'add',
        { ...other, PUBLIC_IP: '127.0.0.1' },
        '',
        1,
        'no route for 100.96.2.0/24 via 127.0.0.1: PublicIP 127.0.0.1 is',
      ],
      [
        'add',
        { ...other, SUBNET: '10.9.0.0/24' },
        '',
        1,
        'no route for 10.9.0.0/24 via 10.168.0.3: 10.9.0.0/24 is outside Network',
      ],
      [
        'post',
        { ...own, NETWORK: '0.0.0.0/0' },
        '',
        2,
        'Network: "0.0.0.0/0" is not valid: expected a subnet narrower than /0',
      ],
      ['post', { ...own, PUBLIC_IP: '10.168.0.77' }, '', 2, '10.168.0.77'],
      [
        'up --port=0',
        {},
        '',
        2,
        '--port: "0" is not valid: expected a whole number from 1 to 65535',
      ],
      ['up --mode=fast', {}, '', 2, '--mode: "fast" is not valid'],
      [
        'add --subnet-file=x.env',
        other,
        '',
        2,
        '--subnet-file: "x.env" is not valid: expected an absolute path',
      ],
    ];
    for (const [name, env, data, code, message] of cases) {
      const [command = '', flag = ''] = name.split(' ');
      const line = `${process.execPath} dist/src/cli/main.js extension ${command} --subnet-file=${INSTANCE} ${flag}`;
      const outcome = await near.call(line, env, data);
      expect([name, outcome.code, outcome.output]).toEqual([
        name,
        code,
        expect.stringContaining(message),
      ]);
      expect(outcome.output.split('\n')).toHaveLength(1);
    }
  });

  it('is not taken from the variables of flanneld', async () => {
    const subnetFile = join(LAB_DIRECTORY, 'flanneld.env');
    await writeFile(subnetFile, 'FLANNEL_SUBNET=100.96.7.1/24\n');
    const environment = { FLANNELD_SUBNET_FILE: subnetFile, FLANNELD_IFACE: 'nonesuch0' };
    [, far] = backends();
    near = new ExtensionBackend(lab.near, commands(), environment);
    expect(await near.register()).toContain('forwarding for 100.96.1.0/24');
    expect(await readFile(subnetFile, 'utf8')).toBe('FLANNEL_SUBNET=100.96.7.1/24\n');
    await rm(subnetFile);
  });
});

// Not skipped by name without it: it takes Go to build.
const command = FLANNELD;
if (command !== undefined) {
  describe(`flanneld itself (${command})`, () => {
    it('drives the data plane', async () => {
      [near, far] = backends();
      const directory = join(LAB_DIRECTORY, 'etcd');
      const etcd = await EtcdServer.start({ directory, address: GATEWAY, port: 2379 });
      const client = etcdClient(etcd);
      const flannelds: Program[] = [];
      try {
        const config = { Network: OVERLAY, Backend: { Type: 'extension', ...commands() } };
        await client.put('/coreos.com/network/config').value(JSON.stringify(config));
        for (const plan of lab.hosts) {
          const env = join(LAB_DIRECTORY, plan.host, 'subnet.env');
          await writeFile(
            env,
            `FLANNEL_NETWORK=${OVERLAY}\nFLANNEL_SUBNET=${plan.bridgeAddress}/24\n`,
          );
          const argv = ['env', `HOST=${plan.host}`, `PATH=${process.env.PATH}`, command];
          argv.push(`--etcd-endpoints=http://${GATEWAY}:2379`, '--iface=eth0');
          argv.push('--iptables-forward-rules=false', `--subnet-file=${env}`);
          flannelds.push(new Program(inNamespace(plan.host, argv)));
        }
        await waitFor('traffic', 20_000, async () => {
          const { received } = await ping(lab.near, lab.far.containerAddress, { count: 1 });
          return received === 1 ? true : undefined;
        }).catch((error: unknown) => {
          const said = flannelds.map(({ stderr }) => stderr).join('\n---\n');
          throw new Error(`${String(error)}\n${said}`, { cause: error });
        });
        await reached();
        expect(flannelds[0]?.stderr).toContain('added 100.96.2.0/24 via 10.168.0.3');
        await client.delete().key(`/coreos.com/network/subnets/100.96.2.0-24`);
        await waitFor('the end of the route', 10_000, async () =>
          (await statusOf(near)).routes.length === 0 ? true : undefined,
        );
      } finally {
        for (const program of flannelds) await program.stop();
        client.close();
        await etcd.stop();
      }
    });
  });
}
