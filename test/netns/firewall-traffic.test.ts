/**
 * What the rules do to packets.
 *
 *   container 100.96.1.2 ── node 100.96.1.1, 10.168.0.2 ──┬── outside 10.168.0.3 (no way to N but
 *                                │                        │           by the node, where told)
 *                         the overlay, N ── far container 100.96.2.3
 *
 * The overlay is a veth here: the firewall does not care how a packet gets to the other node.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCidr } from '../../src/config/ipv4.js';
import { createFirewall, type FirewallPlan } from '../../src/firewall/firewall.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ipBatch } from '../../src/testbed/topology.js';
import { silentLogger } from '../../src/log.js';
import { requireIsolation } from '../support/test-lab.js';

const NODE = 'fw-node';
const CONTAINER = 'fw-container';
const OUTSIDE = 'fw-outside';
const FAR = 'fw-far';
const ALL = [NODE, CONTAINER, OUTSIDE, FAR];
const PLAN: FirewallPlan = {
  network: parseCidr('network', '100.96.0.0/16'),
  subnet: parseCidr('subnet', '100.96.1.0/24'),
  masquerade: true,
  forward: true,
  randomFully: true,
};

async function attach(name: string, device: string, near: string, far: string): Promise<void> {
  await ipBatch(NODE, [
    `link add ${device} type veth peer name eth0 netns ${name}`,
    `address add ${near} dev ${device}`,
    `link set ${device} up`,
  ]);
  await ipBatch(name, [`address add ${far} dev eth0`, 'link set lo up', 'link set eth0 up']);
}

beforeEach(async () => {
  await requireIsolation();
  await ipBatch(
    undefined,
    ALL.map((name) => `netns add ${name}`),
  );
  await attach(CONTAINER, 'docker0', '100.96.1.1/24', '100.96.1.2/24');
  await attach(OUTSIDE, 'eth0', '10.168.0.2/24', '10.168.0.3/24');
  await attach(FAR, 'flannel0', '100.96.1.0/32', '100.96.2.3/16');
  await ipBatch(NODE, ['link set lo up', 'route add 100.96.0.0/16 dev flannel0']);
  await ipBatch(CONTAINER, ['route add default via 100.96.1.1']);
  const node = (...argv: string[]) => run(inNamespace(NODE, argv));
  await node('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv4.conf.flannel0.proxy_arp=1');
});
afterEach(async () => {
  await ipBatch(
    undefined,
    ALL.map((name) => `netns delete ${name}`),
  );
});

/** True when an answer comes within a second. */
async function reaches(from: string, to: string): Promise<boolean> {
  const argv = inNamespace(from, ['ping', '-n', '-q', '-c', '1', '-W', '1', to]);
  return (await run(argv, { accept: [0, 1] })).code === 0;
}

/** The source address that `to` sees of a ping, as a rule there counts it. */
async function sees(namespace: string, source: string): Promise<boolean> {
  const { stdout } = await run(
    inNamespace(namespace, ['nft', 'list', 'set', 'ip', 'seen', 'from']),
  );
  return stdout.includes(source);
}
async function watchSources(namespace: string): Promise<void> {
  const input = `table ip seen {
    set from { type ipv4_addr; flags dynamic; size 16; }
    chain input { type filter hook input priority 0; icmp type echo-request add @from { ip saddr }; }
  }\n`;
  await run(inNamespace(namespace, ['nft', '-f', '-']), { input });
}

describe.each(['iptables', 'nftables'] as const)('with the rules in %s', (kind) => {
  const apply = (plan: Partial<FirewallPlan> = {}) =>
    createFirewall(kind, silentLogger(), inNamespace(NODE, [])).apply({ ...PLAN, ...plan });

  it('a container reaches the world only by the node’s address', async () => {
    await watchSources(OUTSIDE);
    await apply({ masquerade: false });
    expect(await reaches(CONTAINER, '10.168.0.3')).toBe(false);
    expect(await sees(OUTSIDE, '100.96.1.2')).toBe(true);
    await apply();
    expect(await reaches(CONTAINER, '10.168.0.3')).toBe(true);
    expect(await sees(OUTSIDE, '10.168.0.2')).toBe(true);
  });

  it('containers see each other’s addresses, in both directions', async () => {
    await Promise.all([watchSources(FAR), watchSources(CONTAINER)]);
    await apply();
    expect(await reaches(CONTAINER, '100.96.2.3')).toBe(true);
    expect(await sees(FAR, '100.96.1.2')).toBe(true);
    expect(await reaches(FAR, '100.96.1.2')).toBe(true);
    expect(await sees(CONTAINER, '100.96.2.3')).toBe(true);
  });

  it('a container sees the address of its client outside', async () => {
    await ipBatch(OUTSIDE, ['route add 100.96.0.0/16 via 10.168.0.2']);
    await watchSources(CONTAINER);
    await apply();
    expect(await reaches(OUTSIDE, '100.96.1.2')).toBe(true);
    expect(await sees(CONTAINER, '10.168.0.3')).toBe(true);
  });

  it('a container elsewhere sees this node for a client outside, but not in nftables', async () => {
    await ipBatch(OUTSIDE, ['route add 100.96.0.0/16 via 10.168.0.2']);
    await watchSources(FAR);
    await apply();
    // In nftables flanneld's rules keep the address, and FAR knows no way back to it.
    expect(await reaches(OUTSIDE, '100.96.2.3')).toBe(kind === 'iptables');
    expect(await sees(FAR, kind === 'iptables' ? '100.96.1.0' : '10.168.0.3')).toBe(true);
  });
});

it('iptables: the overlay is forwarded where the policy drops, and nothing else is', async () => {
  await run(inNamespace(NODE, ['iptables', '-P', 'FORWARD', 'DROP']));
  const firewall = createFirewall('iptables', silentLogger(), inNamespace(NODE, []));
  await firewall.apply({ ...PLAN, forward: false });
  expect(await reaches(CONTAINER, '100.96.2.3')).toBe(false);
  await firewall.apply(PLAN);
  expect(await reaches(CONTAINER, '100.96.2.3')).toBe(true);
  expect(await reaches(CONTAINER, '10.168.0.3')).toBe(true);
  await ipBatch(NODE, ['address add 192.0.2.1/24 dev docker0']);
  await ipBatch(CONTAINER, ['address add 192.0.2.2/24 dev eth0']);
  await ipBatch(OUTSIDE, ['route add 192.0.2.0/24 via 10.168.0.2']);
  expect(await reaches(OUTSIDE, '192.0.2.2')).toBe(false);
});

describe('among the rules of others', () => {
  const node = async (command: string) => run(inNamespace(NODE, ['sh', '-ec', command]));
  const apply = () => createFirewall('iptables', silentLogger(), inNamespace(NODE, [])).apply(PLAN);

  it('two containers reach each other before a FORWARD that refuses everything', async () => {
    await node(`iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
      iptables -A FORWARD -s 100.96.1.2 -d 10.168.0.3 -j DROP
      iptables -A FORWARD -p tcp -j REJECT --reject-with tcp-reset
      iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited`);
    expect(await reaches(CONTAINER, '100.96.2.3')).toBe(false);
    await apply();
    expect(await reaches(CONTAINER, '100.96.2.3')).toBe(true);
    expect(await reaches(FAR, '100.96.1.2')).toBe(true);
    // What an operator refuses stays refused.
    expect(await reaches(CONTAINER, '10.168.0.3')).toBe(false);
  });

  it('Docker 28 lets other nodes in, and nobody else', async () => {
    const input = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
COMMIT
`;
    await run(inNamespace(NODE, ['iptables-restore']), { input });
    await ipBatch(OUTSIDE, ['route add 100.96.0.0/16 via 10.168.0.2']);
    expect(await reaches(FAR, '100.96.1.2')).toBe(false);
    expect(await apply()).toBe(true);
    expect(await reaches(FAR, '100.96.1.2')).toBe(true);
    expect(await reaches(CONTAINER, '100.96.2.3')).toBe(true);
    expect(await reaches(OUTSIDE, '100.96.1.2')).toBe(false);
    // A restart of Docker.
    await run(inNamespace(NODE, ['iptables-restore', '--noflush']), { input });
    expect(await reaches(FAR, '100.96.1.2')).toBe(false);
    expect(await apply()).toBe(true);
    expect(await reaches(FAR, '100.96.1.2')).toBe(true);
    await node('iptables -I DOCKER-USER -d 100.96.1.2 -j DROP');
    expect(await apply()).toBe(false);
    expect(await reaches(FAR, '100.96.1.2')).toBe(false);
  });
});
