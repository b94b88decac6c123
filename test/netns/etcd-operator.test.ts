/**
 * A daemon as an operator starts it: settings from the environment, the interface by rule, several
 * etcd endpoints, a service manager that waits, and exit codes a script can go by.
 */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { packageVersion } from '../../src/daemon/version.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { lastWords } from '../../src/testbed/daemon-process.js';
import { GATEWAY, ipBatch, LAB_DIRECTORY } from '../../src/testbed/topology.js';
import { attributes, ENDPOINT, EtcdLab, PREFIX, subnetFileOf } from '../support/etcd-lab.js';
import { COMMAND, tunDevices } from '../support/test-lab.js';

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
});
afterAll(() => lab.tearDown());
beforeEach(() => lab.configure());
afterEach(() => lab.reset());

it('reads everything from the environment, as flanneld; a flag wins', async () => {
  await lab.client.put('/overlay/config').value('{"Network":"100.96.0.0/16"}');
  const daemon = await lab.start(lab.near, {
    onlyFlags: ['--ip-masq=true'],
    env: {
      FLANNELD_ETCD_ENDPOINTS: ENDPOINT,
      FLANNELD_ETCD_PREFIX: '/overlay',
      FLANNELD_IFACE: 'eth0',
      FLANNELD_SUBNET_FILE: subnetFileOf(lab.near),
      FLANNELD_IP_MASQ: 'false',
      FLANNELD_PUBLIC_IP: '192.0.2.77',
      FLANNELD_HEALTHZ_PORT: '8081',
    },
  });
  await daemon.ready();
  expect(await daemon.subnetEnv()).toContain('FLANNEL_IPMASQ=true\n');
  const { kvs } = await lab.client.getAll().prefix('/overlay/subnets/').exec();
  expect(kvs.map(({ key, value }) => [key.toString(), value.toString()])).toEqual([
    ['/overlay/subnets/100.96.1.0-24', attributes('192.0.2.77')],
  ]);
  expect((await daemon.status()).external).toMatchObject({ address: '10.168.0.2' });
  const script = `fetch('http://10.168.0.2:8081/readyz').then((r) => console.log(r.status))`;
  const asked = await run(inNamespace(lab.near.host, [process.execPath, '-e', script]));
  expect(asked.stdout.trim()).toBe('200');
  expect(await lab.leases()).toEqual([]);
});

describe('on a host with two interfaces', () => {
  beforeAll(() =>
    ipBatch(lab.near.host, [
      'link add storage0 type bridge',
      'address add 192.0.2.5/24 dev storage0',
      'link set storage0 up',
    ]),
  );
  afterAll(() => ipBatch(lab.near.host, ['link delete storage0']));

  it.each([
    ['--iface-regex by address', ['--iface-regex=^192\\.0\\.2\\.'], 'storage0', '192.0.2.5'],
    ['--iface-can-reach', ['--iface-can-reach=192.0.2.200'], 'storage0', '192.0.2.5'],
    ['the default route, asked for nothing', [], 'eth0', '10.168.0.2'],
  ] as const)('%s', async (_what, flags, name, address) => {
    const daemon = await lab.start(lab.near, {
      onlyFlags: [
        `--etcd-endpoints=${ENDPOINT}`,
        `--subnet-file=${subnetFileOf(lab.near)}`,
        ...flags,
      ],
    });
    await daemon.ready();
    expect((await daemon.status()).external).toMatchObject({ name, address, publicIp: address });
    expect((await lab.stored('100.96.1.0/24'))?.value.toString()).toBe(attributes(address));
  });
});

it('goes past endpoints that are silent, refuse or are not there, and stays with the good', async () => {
  // Accepts and never says a word.
  const silent = createServer(() => undefined).listen(4002, GATEWAY);
  const dead = ['10.168.0.1:4002', '10.168.0.1:4001', '10.168.0.250:2379'];
  try {
    const daemon = await lab.start(lab.near, {
      onlyFlags: [
        `--etcd-endpoints=${[...dead.map((text) => `http://${text}`), ENDPOINT].join(',')}`,
        `--subnet-file=${subnetFileOf(lab.near)}`,
      ],
    });
    // 5 s for the silent one, 3 s until the kernel gives up asking who has the last.
    await daemon.ready(15_000);
    await lab.putLease('100.96.40.0/24', '10.168.0.40');
    await daemon.until('a route', 2_000, async () => (await daemon.status()).routes.length === 1);
    expect((await daemon.readyz()).detail.store.ok).toBe(true);
  } finally {
    silent.close();
  }
});

it('tells systemd READY=1 only when traffic flows, and STOPPING=1 at its end', async () => {
  await lab.client.delete().key(`${PREFIX}/config`);
  const socket = join(LAB_DIRECTORY, 'notify');
  // At READY=1 it pings the other host at once and says what came of it.
  const manager = lab.program(lab.near, ['python3', '-u', '-c', MANAGER, socket, '100.96.2.0']);
  await waitFor('the manager', 10_000, () => manager.stdout.includes('bound') || undefined);
  const near = await lab.start(lab.near, { env: { NOTIFY_SOCKET: socket } });
  const far = await lab.start(lab.far);
  await near.logged('no network configuration yet; waiting for it', 10_000);
  expect(manager.stdout).toBe('bound\n');
  // The other host first, so that there is somebody to reach.
  await lab.putLease('100.96.2.0/24', '10.168.0.3');
  await lab.configure();
  await Promise.all([near.ready(), far.ready()]);
  await waitFor('the news', 5_000, () => manager.stdout.includes('ping') || undefined);
  expect(manager.stdout).toContain('READY=1\nSTATUS=forwarding for 100.96.1.0/24\n');
  expect(manager.stdout).toContain('flannel0 and its route: yes\nping: ');
  await near.terminate();
  await waitFor('the end', 5_000, () => manager.stdout.includes('STOPPING=1') || undefined);
  expect(manager.stdout.match(/READY=1/g)).toHaveLength(1);
});

const MANAGER = `
import socket, subprocess, sys
path, peer = sys.argv[1:]
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind(path)
print('bound')
while True:
    text = server.recv(4096).decode()
    print(text)
    if 'READY=1' in text:
        route = subprocess.run(['ip', 'route', 'get', peer], capture_output=True, text=True).stdout
        print('flannel0 and its route:', 'yes' if 'dev flannel0' in route else route)
        ping = subprocess.run(['ping', '-q', '-c1', '-W5', peer], capture_output=True)
        print('ping:', ping.returncode)
`;

it('prints its version', async () => {
  const { stdout } = await run([...COMMAND, 'run', '--version']);
  expect(stdout).toBe(`${packageVersion()}\n`);
});

describe('exit codes', () => {
  it('0 after SIGINT, within 2 s', async () => {
    const daemon = await lab.start(lab.near);
    await daemon.ready();
    const began = performance.now();
    daemon.program.kill('SIGINT');
    expect(await daemon.program.ended).toBe(0);
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(await tunDevices(lab.near.host)).toEqual([]);
  });

  it.each([
    [
      'an endpoint of another scheme',
      ['--etcd-endpoints=http://10.168.0.1:2379,ftp://10.168.0.1:2379'],
      2,
      /--etcd-endpoints: "ftp:\/\/10\.168\.0\.1:2379" is not valid: expected http:\/\/HOST:PORT/,
    ],
    ['an interface nobody has', ['--iface=eth9'], 2, /--iface: "eth9".*eth0 \(10\.168\.0\.2\)/],
    ['no route to reach by', ['--iface-can-reach=203.0.113.1'], 1, /--iface-can-reach.*no route/],
    [
      'a CA that is not there',
      ['--etcd-endpoints=https://10.168.0.1:2379', '--etcd-cafile=/nowhere/ca.pem'],
      1,
      /--etcd-cafile: cannot read \/nowhere\/ca\.pem/,
    ],
  ] as const)('%s', async (what, flags, code, says) => {
    if (what === 'no route to reach by') await ipBatch(lab.near.host, ['route delete default']);
    const argv = [...COMMAND, 'run', `--subnet-file=${subnetFileOf(lab.near)}`, ...flags];
    const result = await run(inNamespace(lab.near.host, argv), { accept: [code] }).finally(() =>
      ipBatch(lab.near.host, ['route replace default via 10.168.0.1 dev eth0']),
    );
    expect(lastWords(result.stderr)).toMatch(says);
    expect(await tunDevices(lab.near.host)).toEqual([]);
  });
});

describe('a network configuration in etcd that is not valid', () => {
  it.each(['x', '{}', '{"Network":"100.96.0.0/16","SubnetLen":17}'])(
    '%s is waited for, and taken when it is right',
    async (text) => {
      await lab.client.put(`${PREFIX}/config`).value(text);
      const near = await lab.start(lab.near);
      await near.until('named', 10_000, async () =>
        (await near.status()).problems.some(({ id }) => id === 'config_invalid'),
      );
      expect(await near.readyz()).toMatchObject({
        code: 503,
        detail: { phase: 'waiting for the network configuration' },
      });
      expect(await lab.leases()).toEqual([]);
      await lab.configure();
      await near.ready();
      expect((await near.status()).problems).toEqual([]);
    },
  );

  it('nor gone or changed while it runs: named, and nothing else', async () => {
    await lab.configure();
    const { near } = await lab.startBoth();
    const named = (id: string) =>
      near.until(id, 20_000, async () => {
        const problems = (await near.status()).problems.map((problem) => problem.id);
        return problems.length === 1 && problems[0] === id;
      });
    const stream = lab.stream(lab.near, lab.far.tunAddress);
    await lab.client.delete().key(`${PREFIX}/config`);
    await named('config_missing');
    await lab.client.put(`${PREFIX}/config`).value('x');
    await named('config_invalid');
    await lab.configure({ Network: '10.5.0.0/16' });
    await named('config_changed');
    const { sent, received } = await stream.end();
    expect(received).toBe(sent);
    expect(await near.readyz()).toMatchObject({ code: 200 });
  });
});
