/**
 * Rule sets of others in a kernel: what the inspector reads and says of them, and that the command it
 * names mends it. A network namespace of its own per test; the programs run in it by a prefix.
 */
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCidr, parseIpv4 } from '../../src/config/ipv4.js';
import {
  createFirewall,
  FirewallInspector,
  otherIptables,
  type FirewallPlan,
  type Overlay,
} from '../../src/firewall/firewall.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { silentLogger } from '../../src/log.js';
import type { Problem } from '../../src/problems.js';
import { requireIsolation } from '../support/test-lab.js';

const NAMESPACE = 'diagnosis';
const PREFIX = inNamespace(NAMESPACE, []);
const PLAN: FirewallPlan = {
  network: parseCidr('network', '100.96.0.0/16'),
  subnet: parseCidr('subnet', '100.96.1.0/24'),
  masquerade: true,
  forward: true,
  randomFully: true,
};
const OVERLAY: Overlay = {
  network: PLAN.network,
  subnet: PLAN.subnet,
  port: 8285,
  external: { name: 'eth0', address: parseIpv4('address', '10.168.0.2') },
  device: 'flannel0',
  bridges: ['docker0'],
  peers: [
    { subnet: parseCidr('subnet', '100.96.2.0/24'), address: parseIpv4('address', '10.168.0.3') },
  ],
};

beforeEach(async () => {
  await requireIsolation();
  await run(['ip', 'netns', 'add', NAMESPACE]);
});
afterEach(async () => {
  await run(['ip', 'netns', 'delete', NAMESPACE]);
});

const shell = async (command: string): Promise<string> =>
  (await run(inNamespace(NAMESPACE, ['sh', '-ec', command]))).stdout;
const load = async (program: string[], input: string): Promise<unknown> =>
  run(inNamespace(NAMESPACE, program), { input });
const firewall = createFirewall('iptables', silentLogger(), PREFIX);

/** With our rules in place, as a running daemon has them. */
async function inspect(plan: Partial<FirewallPlan> = {}): Promise<readonly Problem[]> {
  await firewall.apply({ ...PLAN, ...plan });
  const inspector = new FirewallInspector(PREFIX);
  return (await inspector.inspect(OVERLAY, firewall.saved)).problems;
}
const ids = (problems: readonly Problem[]): string[] => problems.map(({ id }) => id);

const CENTOS = `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A FORWARD -j REJECT --reject-with icmp-host-prohibited
COMMIT
`;
const FIREWALLD = `table inet firewalld {
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_INPUT_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    ip6 daddr { ::/96, ::ffff:0.0.0.0/96 } reject with icmpv6 addr-unreachable
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_INPUT_ZONES { iifname "eth0" goto filter_IN_public; goto filter_IN_public; }
  chain filter_FORWARD_ZONES { iifname "eth0" goto filter_FWD_public; goto filter_FWD_public; }
  chain filter_IN_public {
    tcp dport 22 accept
    udp dport 546 ip6 daddr fe80::/64 accept
    meta l4proto { icmp, ipv6-icmp } accept
    reject with icmpx admin-prohibited
  }
  chain filter_FWD_public {
    oifname "eth0" accept
    meta l4proto { icmp, ipv6-icmp } accept
    reject with icmpx admin-prohibited
  }
}
`;
const SERVER = `table inet filter {
  set admins { type ipv4_addr; elements = { 192.0.2.1 } }
  chain input {
    type filter hook input priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iif "lo" accept
    ip saddr @admins tcp dport 22 accept
    meta l4proto icmp icmp type { echo-request, destination-unreachable } accept
  }
  chain forward { type filter hook forward priority 0; policy drop; ct state established accept; }
}
`;

describe.each([
  ['the rules of CentOS', () => load(['iptables-restore'], CENTOS), ['udp_port_blocked']],
  [
    'a policy',
    () =>
      shell(
        'iptables -P INPUT DROP; iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT',
      ),
    ['udp_port_blocked'],
  ],
  [
    'table raw',
    () => shell('iptables -t raw -A PREROUTING -p udp --dport 8285 -j DROP'),
    ['udp_port_blocked'],
  ],
  [
    'OUTPUT',
    () => shell('iptables -A OUTPUT -d 10.168.0.0/24 -p udp -j REJECT'),
    ['udp_send_blocked'],
  ],
  ['firewalld', () => load(['nft', '-f', '-'], FIREWALLD), ['udp_port_blocked', 'forward_blocked']],
  [
    "a server's table",
    () => load(['nft', '-f', '-'], SERVER),
    ['udp_port_blocked', 'forward_blocked'],
  ],
  [
    'a table of an early priority',
    () =>
      load(
        ['nft', '-f', '-'],
        'table ip x { chain c { type filter hook prerouting priority -400; udp dport 8285 drop; }\n}\n',
      ),
    ['udp_port_blocked'],
  ],
  [
    "Docker's masquerading",
    () => shell('iptables -t nat -A POSTROUTING -s 100.96.1.0/24 ! -o docker0 -j MASQUERADE'),
    ['container_address_hidden'],
  ],
  [
    "a gateway's masquerading",
    () =>
      load(
        ['nft', '-f', '-'],
        'table ip gw { chain p { type nat hook postrouting priority 100; masquerade; }\n}\n',
      ),
    ['container_address_hidden'],
  ],
  [
    'a rule for the device',
    () => shell('iptables -A FORWARD -o flannel0 -j DROP'),
    ['forward_blocked'],
  ],
  [
    'rules of kube-router for others',
    () =>
      shell(
        'iptables -N KUBE-ROUTER-FORWARD; iptables -A FORWARD -j KUBE-ROUTER-FORWARD; iptables -A KUBE-ROUTER-FORWARD -s 10.244.0.0/16 -j DROP',
      ),
    [],
  ],
  [
    'rules of ufw',
    () =>
      shell(`iptables -P FORWARD DROP
    for c in before-forward reject-forward before-input; do iptables -N ufw-$c; done
    iptables -A FORWARD -j ufw-before-forward; iptables -A FORWARD -j ufw-reject-forward
    iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    iptables -A ufw-reject-forward -j REJECT
    iptables -A INPUT -j ufw-before-input; iptables -A ufw-before-input -p tcp --dport 22 -j ACCEPT`),
    [],
  ],
] as const)('%s', (_what, prepare, expected) => {
  it('is named with what mends it', async () => {
    await prepare();
    const found = await inspect();
    expect(ids(found)).toEqual(expected);
    for (const { remedy = 'false' } of found) await shell(remedy);
    expect(await inspect()).toEqual([]);
    // Our own rules live with the remedy.
    expect(await firewall.apply(PLAN)).toBe(false);
  });
});

describe('the other iptables', () => {
  beforeEach(async ({ skip }) => {
    const { code, stderr } = await run(inNamespace(NAMESPACE, ['iptables-legacy', '-n', '-L']), {
      accept: [0, 1, 2, 3, 127],
    });
    skip(code !== 0, `no legacy iptables here: ${stderr}`);
  });

  it('is judged as well', async () => {
    await shell('iptables-legacy -P FORWARD DROP; iptables-legacy -A INPUT -i eth0 -j DROP');
    const found = await inspect();
    expect(ids(found)).toEqual(['udp_port_blocked', 'forward_blocked']);
    expect(found.every(({ remedy }) => remedy?.startsWith('iptables-legacy ') === true)).toBe(true);
    for (const { remedy = 'false' } of found) await shell(remedy);
    expect(await inspect()).toEqual([]);
  });

  it('loses the rules of our own Network, and no others', async () => {
    await shell(`x="iptables-legacy -t nat"; c="-m comment --comment"
      $x -N FLANNEL-POSTRTG; $x -A POSTROUTING $c "flanneld masq" -j FLANNEL-POSTRTG
      $x -A FLANNEL-POSTRTG -s 100.96.9.0/24 -d 100.96.0.0/16 $c "flanneld masq" -j RETURN
      $x -A FLANNEL-POSTRTG -s 100.96.0.0/16 ! -d 224.0.0.0/4 $c "flanneld masq" -j MASQUERADE
      $x -A FLANNEL-POSTRTG -s 100.97.0.0/16 ! -d 224.0.0.0/4 $c "flanneld masq" -j MASQUERADE
      $x -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE`);
    expect(ids(await inspect())).toEqual(['container_address_hidden']);
    expect(await otherIptables(silentLogger(), PREFIX).clean(PLAN)).toBe(true);
    expect(await inspect()).toEqual([]);
    const left = await shell('iptables-legacy-save -t nat');
    expect(left).toContain('-A FLANNEL-POSTRTG -s 100.97.0.0/16');
    expect(left).toContain('-A POSTROUTING -s 192.0.2.0/24');
    expect(left).not.toContain('100.96.');
    expect(await otherIptables(silentLogger(), PREFIX).clean(PLAN)).toBe(false);
  });
});

describe('where the machine works on legacy iptables', () => {
  let directory = '';
  let behind: string[];
  beforeEach(async ({ skip }) => {
    const { code, stderr } = await run(inNamespace(NAMESPACE, ['iptables-legacy', '-n', '-L']), {
      accept: [0, 1, 2, 3, 127],
    });
    skip(code !== 0, `no legacy iptables here: ${stderr}`);
    directory = await mkdtemp(join(tmpdir(), 'flannelette-legacy-'));
    for (const name of ['iptables', 'iptables-save', 'iptables-restore']) {
      const legacy = name.replace('iptables', 'iptables-legacy');
      await symlink(`/usr/sbin/${legacy}`, join(directory, name));
    }
    behind = [...PREFIX, 'env', `PATH=${directory}:/usr/sbin:/usr/bin:/bin`];
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  it('iptables on nf_tables is the other one: judged, and cleaned of our rules', async () => {
    const legacy = createFirewall('iptables', silentLogger(), behind);
    await firewall.apply({ ...PLAN, subnet: parseCidr('subnet', '100.96.9.0/24') });
    await shell('iptables -P FORWARD DROP');
    await legacy.apply(PLAN);
    const inspected = async () =>
      ids((await new FirewallInspector(behind).inspect(OVERLAY, legacy.saved)).problems);
    expect(await inspected()).toEqual(['container_address_hidden']);
    expect(await otherIptables(silentLogger(), behind).clean(PLAN)).toBe(true);
    expect(await legacy.apply(PLAN)).toBe(false);
    expect(await inspected()).toEqual(['forward_blocked']);
  });
});

describe("Tailscale's guard", () => {
  const GUARD = `iptables -N ts-input; iptables -I INPUT -j ts-input
    iptables -A ts-input -s 100.101.102.103/32 -i lo -j ACCEPT
    iptables -A ts-input -s 100.115.92.0/23 ! -i tailscale0 -j RETURN
    iptables -A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP`;
  const chain = () => shell('iptables -S ts-input');

  it('gets an exception, and is named all the same', async () => {
    await shell(GUARD);
    expect(ids(await inspect())).toEqual(['tailscale_range']);
    expect(await chain()).toContain('-s 100.96.0.0/16 -i flannel+ -m comment');
    expect(await firewall.apply(PLAN)).toBe(false);
    await shell(
      'iptables -F ts-input; iptables -A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP',
    );
    expect(await firewall.apply(PLAN)).toBe(true);
    await firewall.clean(PLAN);
    expect(await chain()).not.toContain('flannelette');
  });

  it('is left alone where no rules are asked for, and named with what mends it', async () => {
    await shell(GUARD);
    const off = { forward: false, masquerade: false };
    const found = await inspect(off);
    expect(ids(found)).toEqual(['tailscale_range', 'host_answers_blocked']);
    expect(await chain()).not.toContain('flannelette');
    await shell(found[0]?.remedy ?? 'false');
    // Ours to keep with rules on.
    expect(ids(await inspect())).toEqual(['tailscale_range']);
  });

  it('does not matter to a Network outside of its range', async () => {
    await shell(GUARD);
    const network = parseCidr('network', '10.244.0.0/16');
    const subnet = parseCidr('subnet', '10.244.1.0/24');
    await firewall.apply({ ...PLAN, network, subnet });
    const overlay = { ...OVERLAY, network, subnet, peers: [] };
    expect((await new FirewallInspector(PREFIX).inspect(overlay, undefined)).problems).toEqual([]);
    expect(await chain()).not.toContain('flannelette');
  });
});

it('with our rules in nftables a FORWARD of iptables that drops is named', async () => {
  const nftables = createFirewall('nftables', silentLogger(), PREFIX);
  await nftables.apply(PLAN);
  await shell('iptables -P FORWARD DROP');
  const inspected = async () => new FirewallInspector(PREFIX).inspect(OVERLAY, undefined);
  const [problem, ...more] = (await inspected()).problems;
  expect(more).toEqual([]);
  expect(problem?.id).toBe('forward_blocked');
  await shell(problem?.remedy ?? 'false');
  expect((await inspected()).problems).toEqual([]);
});

it('is silent without any program, and without any rule', async () => {
  const bare = new FirewallInspector([...PREFIX, '/usr/bin/env', 'PATH=/nowhere']);
  expect(await bare.inspect(OVERLAY, undefined)).toEqual({ problems: [], masquerades: false });
  const empty = await new FirewallInspector(PREFIX).inspect(OVERLAY, undefined);
  expect(empty).toEqual({ problems: [], masquerades: false });
});
