/**
 * The start's choice among real interfaces: flannel's own look-ups by input, hosts that announce their
 * address by BGP, point-to-point links, addresses of DHCP.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { formatIpv4 } from '../../src/config/ipv4.js';
import type { ExternalInterface } from '../../src/host/interface.js';
import type { InterfaceFlags } from '../../src/host/interface-rules.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ipBatch } from '../../src/testbed/topology.js';
import { requireIsolation, ROOT } from '../support/test-lab.js';

const HOST = 'choice';
const SCRIPT = join(ROOT, 'test', 'support', 'choose-interface.mjs');

beforeAll(async () => {
  await requireIsolation();
  await run(['mkdir', '-p', '/run/netns']);
});
beforeEach(async () => {
  await run(['ip', 'netns', 'delete', HOST], { accept: [0, 1] });
  await ipBatch(undefined, [`netns add ${HOST}`]);
  await ipBatch(HOST, ['link set lo up']);
});
afterAll(() => run(['ip', 'netns', 'delete', HOST], { accept: [0, 1] }));

/** Any device will do that is up and goes nowhere. */
async function addDevice(name: string, ...addresses: string[]): Promise<void> {
  await ipBatch(HOST, [
    `link add ${name} type veth peer name ${name}-end`,
    `link set ${name}-end up`,
    `link set ${name} up`,
    ...addresses.map((address) => `address add ${address} dev ${name}`),
  ]);
}

/** NAME ADDRESS PUBLICIP MTU of each choice, or why there is none. */
async function choose(...flags: Partial<InterfaceFlags>[]): Promise<string[]> {
  const argv = [process.execPath, SCRIPT, ...flags.map((each) => JSON.stringify(each))];
  const { stdout } = await run(inNamespace(HOST, argv));
  return stdout
    .trim()
    .split('\n')
    .map((line) => {
      const chosen = JSON.parse(line) as ExternalInterface | string;
      if (typeof chosen === 'string') return chosen;
      const { name, address, publicIp, mtu } = chosen;
      return `${name} ${formatIpv4(address)} ${formatIpv4(publicIp)} ${mtu}`;
    });
}

it("flannel's look-ups: by expression, name, address, PublicIP and reach", async () => {
  const addresses = ['1.10.100.1', '192.168.200.128', '172.16.30.18', '172.16.31.200'];
  await addDevice('dummy0', ...addresses, '172.16.32.100');
  await ipBatch(HOST, ['route add 172.16.32.254 via 172.16.32.100 dev dummy0']);
  expect(
    await choose(
      { ifaceRegex: ['192\\.168\\.200\\.\\d+'] },
      { ifaceRegex: ['dummy\\d+'] },
      { iface: ['dummy0'] },
      { iface: ['172.16.30.18'] },
      { ifaceRegex: ['172\\.16\\.30\\.\\d+'], publicIp: '172.16.31.200' },
      { ifaceCanReach: '172.16.32.254' },
    ),
  ).toEqual([
    'dummy0 192.168.200.128 192.168.200.128 1500',
    'dummy0 1.10.100.1 1.10.100.1 1500',
    'dummy0 1.10.100.1 1.10.100.1 1500',
    'dummy0 172.16.30.18 172.16.30.18 1500',
    'dummy0 172.16.30.18 172.16.31.200 1500',
    'dummy0 172.16.32.100 172.16.32.100 1500',
  ]);
});

it('one choice after another: --iface, --iface-regex, --iface-can-reach', async () => {
  await addDevice('eth0', '10.168.0.2/24');
  await addDevice('eth1', '192.0.2.5/24');
  await ipBatch(HOST, ['route add default via 10.168.0.1 dev eth0']);
  const eth1 = 'eth1 192.0.2.5 192.0.2.5 1500';
  expect(
    await choose(
      { iface: ['lo', 'eth1'] },
      { iface: ['none', '1.2.3.4'], ifaceRegex: ['nope', '^192'] },
      { iface: ['lo'], ifaceRegex: ['nope'], ifaceCanReach: '192.0.2.9' },
      { ifaceCanReach: '192.0.2.9' },
      {},
    ),
  ).toEqual([eth1, eth1, eth1, eth1, 'eth0 10.168.0.2 10.168.0.2 1500']);
  await ipBatch(HOST, ['route delete default']);
  const [none, unreachable, flag] = await choose(
    {},
    { ifaceCanReach: '8.8.8.8' },
    { iface: ['none'], ifaceCanReach: '8.8.8.8' },
  );
  expect(none).toMatch(/^no default route/);
  expect(unreachable).toMatch(/^--iface-can-reach: no route to 8.8.8.8/);
  expect(flag).toMatch(/^--iface: "none"/);
});

it('an address on the loopback, announced by two links', async () => {
  await addDevice('eth0');
  await addDevice('eth1');
  await ipBatch(HOST, [
    'link set eth0 mtu 9000',
    'link set eth1 mtu 1500',
    'address add 192.0.2.77/32 dev lo',
    'route add default dev eth0 src 192.0.2.77',
  ]);
  const lo = 'lo 192.0.2.77 192.0.2.77 9000';
  const flags = [{ iface: ['lo'] }, { iface: ['192.0.2.77'] }, { ifaceRegex: ['^192'] }];
  expect(await choose(...flags, { ifaceCanReach: '203.0.113.9' })).toEqual([lo, lo, lo, lo]);
});

it("a point-to-point link's own end", async () => {
  await addDevice('eth0', '10.168.0.2 peer 10.168.0.1/32');
  await ipBatch(HOST, ['route add default via 10.168.0.1']);
  const own = 'eth0 10.168.0.2 10.168.0.2 1500';
  expect(await choose({}, { iface: ['10.168.0.2'] }, { iface: ['eth0'] })).toEqual([own, own, own]);
  expect((await choose({ iface: ['10.168.0.1'] }))[0]).toMatch(/^--iface: "10.168.0.1"/);
});

it('permanent addresses before those of DHCP, deprecated ones last', async () => {
  await addDevice(
    'eth0',
    '169.254.3.3/16',
    '10.168.0.9/24 valid_lft 3600 preferred_lft 0',
    '10.168.0.2/24 valid_lft 3600 preferred_lft 3600',
  );
  expect(await choose({ iface: ['eth0'] })).toEqual(['eth0 10.168.0.2 10.168.0.2 1500']);
  await ipBatch(HOST, ['address add 10.168.0.3/24 dev eth0']);
  expect(await choose({ iface: ['eth0'] })).toEqual(['eth0 10.168.0.3 10.168.0.3 1500']);
  await ipBatch(HOST, [
    'address delete 10.168.0.3/24 dev eth0',
    'address flush dev eth0 scope link',
  ]);
});

it('a default route into an overlay is no way out', async () => {
  await addDevice('flannel.1', '100.96.1.0/32');
  await addDevice('docker0', '172.17.0.1/16');
  await addDevice('eth0', '10.168.0.2/24');
  await ipBatch(HOST, [
    'route add default dev flannel.1 metric 1',
    'route add default dev docker0 metric 2',
    'route add default via 10.168.0.1 dev eth0 metric 300',
  ]);
  expect(await choose({})).toEqual(['eth0 10.168.0.2 10.168.0.2 1500']);
  expect(await choose({ ifaceRegex: ['\\d'] })).toEqual(['eth0 10.168.0.2 10.168.0.2 1500']);
});

it('thousands of addresses and interfaces are listed whole', async () => {
  const links = [...Array(150).keys()].map((n) => `link add v${n} type veth peer name w${n}`);
  const addresses = [...Array(250).keys()].map((n) => `address add 10.9.${n}.1/32 dev lo`);
  await ipBatch(HOST, [...links, ...addresses]);
  await addDevice('eth0', '10.168.0.2/24');
  expect(await choose({ iface: ['10.9.249.1'] }, { iface: ['eth0'] })).toEqual([
    'lo 10.9.249.1 10.9.249.1 1500',
    'eth0 10.168.0.2 10.168.0.2 1500',
  ]);
});

it('without descriptors every look fails by the code that says so', async () => {
  const script = join(ROOT, 'test', 'support', 'without-descriptors.mjs');
  const argv = ['prlimit', '--nofile=256:256', process.execPath, script];
  const { stdout } = await run(inNamespace(HOST, argv));
  expect(stdout.trim().split('\n')).toEqual([
    'interfaces EMFILE',
    'defaultInterface EMFILE',
    'sourceAddressTo EMFILE',
  ]);
});
