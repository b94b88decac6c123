/**
 * What the judge says of rule sets: those that take the overlay's packets are named, with what takes
 * them; those that do not, or that cannot be judged, are not.
 */
import { describe, expect, it } from 'vitest';
import { parseCidr, parseIpv4 } from '../../../src/config/ipv4.js';
import { givesMarks, iptablesBaseChains } from '../../../src/firewall/diagnosis/iptables-rules.js';
import { hidesContainers, judge, type RuleSet } from '../../../src/firewall/diagnosis/judge.js';
import { hookedTables, nftBaseChains } from '../../../src/firewall/diagnosis/nftables-rules.js';
import type { Overlay } from '../../../src/firewall/diagnosis/sample-traffic.js';
import { readSaved } from '../../../src/firewall/saved.js';

const OVERLAY: Overlay = {
  network: parseCidr('network', '100.96.0.0/16'),
  subnet: parseCidr('subnet', '100.96.1.0/24'),
  port: 8285,
  external: { name: 'eth0', address: parseIpv4('address', '10.168.0.2') },
  device: 'flannel0',
  bridges: ['docker0'],
  peers: [
    {
      subnet: parseCidr('subnet', '100.96.2.0/24'),
      address: parseIpv4('address', '10.168.0.3'),
    },
    {
      subnet: parseCidr('subnet', '100.96.3.0/24'),
      address: parseIpv4('address', '10.168.0.4'),
    },
  ],
};
const TOOLS = { firewallCmd: false, ufw: false };

/** Rules as in iptables-save's output, of tables named by lines `*nat`; the filter table unless named. */
async function iptables(lines: readonly string[], policies: object = {}): Promise<RuleSet> {
  const policy = (name: string): string => (policies as Record<string, string>)[name] ?? 'ACCEPT';
  const built = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];
  const tables = new Map<string, string[]>([['filter', []]]);
  let table = 'filter';
  for (const line of lines) {
    if (line.startsWith('*')) table = line.slice(1);
    const rules = tables.get(table) ?? [];
    tables.set(table, rules);
    if (!line.startsWith('*')) rules.push(line);
  }
  const text = [...tables].map(([name, rules]) => {
    const chains = rules.flatMap((rule) => /^-A (\S+)/.exec(rule)?.[1] ?? []);
    const made = [...new Set(chains)].filter((chain) => !built.includes(chain));
    const declared = [
      ...built.map((chain) => `:${chain} ${name === 'filter' ? policy(chain) : 'ACCEPT'} [0:0]`),
      ...made.map((chain) => `:${chain} - [0:0]`),
    ];
    return [`*${name}`, ...declared, ...rules, 'COMMIT'].join('\n');
  });
  const saved = await readSaved(text.join('\n'));
  return { chains: iptablesBaseChains(saved, 'iptables'), mark: givesMarks(saved) ? undefined : 0 };
}

const problemsOf = async (rules: RuleSet, overlay = OVERLAY) => judge(rules, overlay, TOOLS);
const idsOf = async (rules: RuleSet, overlay = OVERLAY) =>
  (await problemsOf(rules, overlay)).map(({ id }) => id);

const ESTABLISHED = '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT';
const REJECT = '-j REJECT --reject-with icmp-host-prohibited';
const CENTOS_INPUT = [
  `-A INPUT ${ESTABLISHED}`,
  '-A INPUT -p icmp -j ACCEPT',
  '-A INPUT -i lo -j ACCEPT',
  '-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT',
  `-A INPUT ${REJECT}`,
];
const OURS = [
  '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
  '-A FLANNEL-FWD -s 100.96.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
  '-A FLANNEL-FWD -d 100.96.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
];

describe('datagrams to this host', () => {
  it.each([
    ['the INPUT of CentOS', CENTOS_INPUT],
    ['a DROP of the port', ['-A INPUT -p udp -m udp --dport 8285 -j DROP']],
    ['a DROP of many ports', ['-A INPUT -p udp -m multiport --dports 53,8000:9000 -j DROP']],
    ['a DROP of the protocol', ['-A INPUT -p udp -j DROP']],
    ['a DROP of the interface', ['-A INPUT -i eth0 -j DROP']],
    ['a DROP of interfaces', ['-A INPUT -i eth+ -j DROP']],
    ['a DROP of all but some interfaces', ['-A INPUT ! -i docker0 -j DROP']],
    ['a DROP of the nodes', ['-A INPUT -s 10.168.0.0/24 -j DROP']],
    ['a range of nodes', ['-A INPUT -m iprange --src-range 10.168.0.1-10.168.0.9 -j DROP']],
    ['a DROP to this address', ['-A INPUT -d 10.168.0.2/32 -p udp -j DROP']],
    ['a DROP of local addresses', ['-A INPUT -m addrtype --dst-type LOCAL -p udp -j DROP']],
    ['a DROP of new connections', ['-A INPUT -m conntrack --ctstate NEW,INVALID -j DROP']],
    [
      'a chain that refuses',
      ['-A INPUT -j A', '-A A -p tcp -j RETURN', '-A A -g B', '-A B -j DROP'],
    ],
    ['a REJECT behind a LOG', ['-A INPUT -j LOG --log-prefix "in: "', `-A INPUT ${REJECT}`]],
    ['table raw', ['*raw', '-A PREROUTING -p udp -m udp --dport 8285 -j DROP']],
    ['table mangle', ['*mangle', '-A INPUT -p udp -m udp ! --dport 53 -j DROP']],
    [
      'a REJECT behind what cannot be judged and drops too',
      ['-A INPUT -m set --match-set bad src -j DROP', `-A INPUT ${REJECT}`],
    ],
  ])('are refused by %s', async (_what, rules) => {
    const problems = await problemsOf(await iptables(rules));
    expect(problems.map(({ id }) => id)).toContain('udp_port_blocked');
    const rule = rules.findLast((line) => / -j (?:DROP|REJECT)/.test(line)) ?? '';
    expect(problems[0]?.message).toContain(rule);
    expect(problems[0]?.remedy).toContain('-p udp --dport 8285 -j ACCEPT');
  });

  it.each([
    [
      'the port is accepted before',
      ['-A INPUT -p udp -m udp --dport 8285 -j ACCEPT', ...CENTOS_INPUT],
    ],
    ['another port', ['-A INPUT -p udp -m udp --dport 8472 -j DROP']],
    ['another protocol', ['-A INPUT -p tcp -j DROP']],
    ['another interface', ['-A INPUT -i eth1 -j DROP', '-A INPUT ! -i eth0 -j DROP']],
    ['other sources', ['-A INPUT -s 192.0.2.0/24 -j DROP', '-A INPUT ! -s 10.168.0.0/24 -j DROP']],
    ['other destinations', ['-A INPUT -d 10.168.0.9/32 -j DROP']],
    ['states that are not new', ['-A INPUT -m conntrack --ctstate INVALID -j DROP']],
    ['broadcasts', ['-A INPUT -m pkttype --pkt-type broadcast -j DROP']],
    ['fragments', ['-A INPUT -f -j DROP']],
    ['SYN packets', ['-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP']],
    ['a set of addresses', ['-A INPUT -m set --match-set bad src -j DROP']],
    [
      'a set of accepted ones',
      ['-A INPUT -m set --match-set nodes src -j ACCEPT', '-A INPUT -j DROP'],
    ],
    ['a rate', ['-A INPUT -m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j DROP']],
    ['a match nobody knows', ['-A INPUT -m frob --frob 3 -p udp -j DROP']],
    ['a target nobody knows', ['-A INPUT -j FROB --to 3', '-A INPUT -j DROP']],
    ['a queue of a program', ['-A INPUT -j NFQUEUE --queue-num 0', '-A INPUT -j DROP']],
    ['a chain nobody calls', ['-A BAD -p udp -j DROP']],
    ['a chain that accepts first', ['-A INPUT -j A', '-A A -j ACCEPT', '-A INPUT -j DROP']],
    ['the FORWARD chain', ['-A FORWARD -p udp -m udp --dport 8285 -j DROP']],
  ])('are not said to be refused: %s', async (_what, rules) => {
    expect(await idsOf(await iptables(rules))).not.toContain('udp_port_blocked');
  });

  it('are refused by a policy that nothing goes before', async () => {
    const [problem] = await problemsOf(
      await iptables(['-A INPUT -i lo -j ACCEPT', `-A INPUT ${ESTABLISHED}`], { INPUT: 'DROP' }),
    );
    expect(problem).toMatchObject({
      id: 'udp_port_blocked',
      message:
        'datagrams from other nodes to UDP port 8285 are refused by the policy DROP of chain INPUT ' +
        '(iptables): what they send does not arrive',
      remedy: 'iptables -I INPUT -p udp --dport 8285 -j ACCEPT',
    });
  });

  it('of one node are named as those of that node', async () => {
    const rules = await iptables(['-A INPUT -s 10.168.0.3/32 -p udp -m udp --dport 8285 -j DROP']);
    const [problem] = await problemsOf(rules);
    expect(problem?.message).toContain('datagrams from 10.168.0.3 to UDP port 8285 are refused');
  });

  it('are judged while no other node is known', async () => {
    const alone = { ...OVERLAY, peers: [] };
    expect(await idsOf(await iptables(CENTOS_INPUT), alone)).toContain('udp_port_blocked');
    const named = await iptables(['-A INPUT -s 10.168.0.0/24 -j DROP']);
    expect(await idsOf(named, alone)).toEqual([]);
  });

  it('wait for nobody who marks packets, unless somebody does', async () => {
    const rule = '-A INPUT -m mark --mark 0x1/0x1 -j ACCEPT';
    expect(await idsOf(await iptables([rule, '-A INPUT -j DROP']))).toContain('udp_port_blocked');
    const marking = ['*mangle', '-A PREROUTING -j MARK --set-xmark 0x1/0x1', '*filter'];
    expect(await idsOf(await iptables([...marking, rule, '-A INPUT -j DROP']))).toEqual([]);
  });
});

it('datagrams are redirected, as when a container publishes the port', async () => {
  const docker = [
    '-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER',
    '-A DOCKER ! -i docker0 -p udp -m udp --dport 8285 -j DNAT --to-destination 100.96.1.7:8285',
  ];
  const [problem, ...more] = await problemsOf(await iptables(['*nat', ...docker]));
  expect(more).toEqual([]);
  expect(problem).toMatchObject({
    id: 'udp_port_blocked',
    remedy: 'iptables -t nat -I PREROUTING -p udp --dport 8285 -j ACCEPT',
  });
  expect(problem?.message).toContain('are redirected by the rule "-A DOCKER');
  const other = docker.map((rule) => rule.replace('8285 -j', '8286 -j'));
  const gateway = '-A POSTROUTING -o eth0 -j MASQUERADE';
  expect(await idsOf(await iptables(['*nat', ...other, gateway]))).toEqual([]);
});

it('datagrams of this host are refused by OUTPUT', async () => {
  const rules = ['-A OUTPUT -o lo -j ACCEPT', '-A OUTPUT -p udp -m udp --dport 8285 -j REJECT'];
  const [problem] = await problemsOf(await iptables(rules));
  expect(problem).toMatchObject({
    id: 'udp_send_blocked',
    remedy: 'iptables -I OUTPUT -p udp --dport 8285 -j ACCEPT',
  });
  const owner = ['-A OUTPUT -m owner --uid-owner 0 -j ACCEPT', '-A OUTPUT -j DROP'];
  expect(await idsOf(await iptables(owner))).toEqual([]);
});

describe('packets between containers', () => {
  it.each([
    ['a REJECT before our jump', [`-A FORWARD ${REJECT}`, ...OURS], 'two nodes'],
    [
      "an operator's DROP of the network",
      ['-A FORWARD -s 100.96.0.0/16 -j DROP', ...OURS],
      'two nodes',
    ],
    ['a DROP of the device', ['-A FORWARD -o flannel0 -j DROP', ...OURS], 'those of others'],
    ['a DROP of the bridge', ['-A FORWARD -o docker0 -i flannel+ -j DROP', ...OURS], 'this one'],
    [
      'an isolation of bridges',
      ['-A FORWARD ! -i docker0 -o docker0 -j DROP', ...OURS],
      'this one',
    ],
    [
      'a range',
      ['-A FORWARD -m iprange --dst-range 100.96.0.0-100.96.255.255 -j DROP', ...OURS],
      'two nodes',
    ],
    [
      'a chain of it',
      [
        '-A FORWARD -j DOCKER-USER',
        '-A DOCKER-USER -i eth1 -j RETURN',
        '-A DOCKER-USER -j DROP',
        ...OURS,
      ],
      'two nodes',
    ],
    [
      'table mangle',
      ['*mangle', '-A FORWARD -d 100.64.0.0/10 -j DROP', '*filter', ...OURS],
      'two nodes',
    ],
    [
      "an operator's DROP in our chain",
      [OURS[0] ?? '', '-A FLANNEL-FWD -j DROP', ...OURS.slice(1)],
      'two nodes',
    ],
    [
      'all but some ports',
      ['-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT', '-A FORWARD -j DROP'],
      'two nodes',
    ],
    ['all but ping', ['-A FORWARD -p icmp -j ACCEPT', '-A FORWARD -j DROP'], 'two nodes'],
  ])('are refused by %s', async (_what, rules, whose) => {
    const [problem] = await problemsOf(await iptables(rules));
    expect(problem?.id).toBe('forward_blocked');
    expect(problem?.message).toContain(whose);
  });

  it.each([
    ['our jump before a REJECT', [...OURS, `-A FORWARD ${REJECT}`]],
    ["an operator's rule for one container", ['-A FORWARD -s 100.96.1.7/32 -j DROP', ...OURS]],
    ['one for one service', ['-A FORWARD -p tcp -m tcp --dport 25 -j REJECT', ...OURS]],
    [
      'one for another bridge',
      ['-A FORWARD -o br-1 -j DROP', '-A FORWARD -i br-1 -j DROP', ...OURS],
    ],
    ['one for half of the subnet', ['-A FORWARD -s 100.96.1.128/25 -j DROP', ...OURS]],
    ['one for one other node', ['-A FORWARD -d 100.96.3.0/24 -j DROP', ...OURS]],
    [
      'ts-forward of Tailscale',
      ['-A FORWARD -j T', '-A T -s 100.64.0.0/10 -o tailscale0 -j DROP', ...OURS],
    ],
    [
      'networkpolicy by marks',
      ['-A FORWARD -m mark ! --mark 0x10000/0x10000 -j A', '-A A -j RETURN', ...OURS],
    ],
    ['a set', ['-A FORWARD -m set ! --match-set pods src -j DROP', ...OURS]],
    [
      'what cannot be judged may accept',
      ['-A FORWARD -m set --match-set pods src -j ACCEPT', '-A FORWARD -j DROP'],
    ],
  ])('are not said to be refused: %s', async (_what, rules) => {
    expect(await idsOf(await iptables(rules, { FORWARD: 'DROP' }))).toEqual([]);
  });

  it('name the command that puts our jump in front, or accepts where we have none', async () => {
    const remedies = async (rules: string[]) =>
      (await problemsOf(await iptables(rules))).map(({ remedy }) => remedy);
    expect(await remedies(['-A FORWARD -o flannel0 -j DROP', ...OURS])).toEqual([
      'iptables -I FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
    ]);
    expect(await remedies(['-A FORWARD -o flannel0 -j DROP'])).toEqual([
      'iptables -I FORWARD -s 100.96.0.0/16 -j ACCEPT && iptables -I FORWARD -d 100.96.0.0/16 -j ACCEPT',
    ]);
  });

  it('go by an unknown way while there is no bridge: rules of devices are not judged', async () => {
    const rules = await iptables(['-A FORWARD -i docker0 -j ACCEPT', '-A FORWARD -j DROP']);
    expect(await idsOf(rules, { ...OVERLAY, bridges: [] })).toEqual(['forward_blocked']);
    expect((await problemsOf(rules, { ...OVERLAY, bridges: [] }))[0]?.message).toContain(
      'this one',
    );
  });
});

describe('rules of Docker 28', () => {
  const DOCKER = [
    '-A FORWARD -j DOCKER-USER',
    '-A FORWARD -j DOCKER-FORWARD',
    ...OURS,
    '-A DOCKER-USER -i eth9 -j RETURN',
    '-A DOCKER-FORWARD -j DOCKER-CT',
    '-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1',
    '-A DOCKER-FORWARD -j DOCKER-BRIDGE',
    '-A DOCKER-FORWARD -i docker0 -j ACCEPT',
    `-A DOCKER-CT -o docker0 ${ESTABLISHED}`,
    '-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2',
    '-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP',
    '-A DOCKER-BRIDGE -o docker0 -j DOCKER',
    '-A DOCKER -d 100.96.1.7/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT',
    '-A DOCKER ! -i docker0 -o docker0 -j DROP',
  ];

  it('refuse other nodes, and go by the chain that is left to operators', async () => {
    const [problem, ...more] = await problemsOf(await iptables(DOCKER));
    expect(more).toEqual([]);
    expect(problem).toMatchObject({
      id: 'forward_blocked',
      remedy: 'iptables -I DOCKER-USER -m comment --comment "flanneld forward" -j FLANNEL-FWD',
    });
    const mended = DOCKER.toSpliced(3, 0, '-A DOCKER-USER -j FLANNEL-FWD');
    expect(await idsOf(await iptables(mended))).toEqual([]);
  });

  it('leave alone what our exception spares', async () => {
    const at = DOCKER.indexOf('-A DOCKER-BRIDGE -o docker0 -j DOCKER') + 1;
    const excepted = DOCKER.toSpliced(at, 0, '-A DOCKER -d 100.96.0.0/16 -i flannel+ -j RETURN');
    expect(await idsOf(await iptables(excepted, { FORWARD: 'DROP' }))).toEqual([]);
  });

  it('refuse other nodes the containers that publish a port', async () => {
    const raw = ['*raw', '-A PREROUTING -d 100.96.1.7/32 ! -i docker0 -j DROP'];
    const foreign = '-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP';
    const [problem, ...more] = await problemsOf(await iptables([...raw, foreign]));
    expect(more).toEqual([]);
    expect(problem).toMatchObject({
      id: 'container_blocked',
      remedy:
        'iptables -t raw -I PREROUTING -s 100.96.0.0/16 -d 100.96.1.0/24 -i flannel0 -j ACCEPT',
    });
    expect(problem?.message).toContain('100.96.1.7');
    const mended = raw.toSpliced(1, 0, '-A PREROUTING -i flannel0 -j ACCEPT');
    expect(await idsOf(await iptables([...mended, foreign]))).toEqual([]);
  });
});

describe('answers of containers to this host', () => {
  it('are refused by the guard of Tailscale, and by what drops established connections', async () => {
    const tailscale = [
      '-A INPUT -j ts-input',
      '-A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP',
    ];
    const [problem] = await problemsOf(await iptables(tailscale));
    expect(problem).toMatchObject({
      id: 'host_answers_blocked',
      remedy:
        'iptables -I ts-input -s 100.96.0.0/16 -i flannel+ -m comment --comment "flannelette input" -j RETURN',
    });
    const excepted = tailscale.toSpliced(
      1,
      0,
      '-A ts-input -s 100.96.0.0/16 -i flannel+ -j RETURN',
    );
    expect(await idsOf(await iptables(excepted))).toEqual([]);
  });

  it('are no matter of a firewall that only refuses new ones', async () => {
    expect(await idsOf(await iptables(CENTOS_INPUT))).toEqual(['udp_port_blocked']);
  });
});

describe("containers' addresses", () => {
  const nat = async (...rules: string[]) => iptables(['*nat', ...rules]);
  const DOCKER = '-A POSTROUTING -s 100.96.1.0/24 ! -o docker0 -j MASQUERADE';
  const FLANNEL = [
    '-A POSTROUTING -j FLANNEL-POSTRTG',
    '-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN',
    '-A FLANNEL-POSTRTG -s 100.96.1.0/24 -d 100.96.0.0/16 -j RETURN',
    '-A FLANNEL-POSTRTG -s 100.96.0.0/16 -d 100.96.1.0/24 -j RETURN',
    '-A FLANNEL-POSTRTG -s 100.96.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully',
  ];

  it("are hidden by Docker's rule, which is replaced by the documents' one", async () => {
    for (const rules of [[DOCKER], [...FLANNEL, DOCKER], [DOCKER, ...FLANNEL]]) {
      const [problem, ...more] = await problemsOf(await nat(...rules));
      expect(more).toEqual([]);
      expect(problem).toMatchObject({
        id: 'container_address_hidden',
        remedy:
          'iptables -t nat -D POSTROUTING -s 100.96.1.0/24 ! -o docker0 -j MASQUERADE && ' +
          'iptables -t nat -A POSTROUTING -s 100.96.1.0/24 ! -d 100.96.0.0/16 ! -o docker0 -j MASQUERADE',
      });
    }
  });

  it.each([
    ['everything is masqueraded', ['-A POSTROUTING -j MASQUERADE']],
    ['everything out of the device', ['-A POSTROUTING -o flannel0 -j SNAT --to-source 10.168.0.2']],
    [
      'rules of an earlier subnet',
      [
        '-A POSTROUTING -j F',
        '-A F -s 100.96.9.0/24 -d 100.96.0.0/16 -j RETURN',
        '-A F -s 100.96.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE',
      ],
    ],
    [
      "behind kube-proxy's mark",
      [
        '*mangle',
        '-A PREROUTING -j CONNMARK --restore-mark',
        '*nat',
        '-A POSTROUTING -j K',
        '-A K -m mark ! --mark 0x4000/0x4000 -j RETURN',
        '-A K -j MASQUERADE',
        DOCKER,
      ],
    ],
  ])('are hidden: %s', async (_what, rules) => {
    expect(await idsOf(await iptables(['*nat', ...rules]))).toContain('container_address_hidden');
  });

  it.each([
    [
      "the documents' rule",
      ['-A POSTROUTING -s 100.96.1.0/24 ! -d 100.96.0.0/16 ! -o docker0 -j MASQUERADE'],
    ],
    ['rules of flannel alone', FLANNEL],
    ['another bridge', ['-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE']],
    ['the way out', ['-A POSTROUTING -o eth0 -j MASQUERADE']],
    [
      'kube-proxy alone',
      [
        '*mangle',
        '-A PREROUTING -j CONNMARK --restore-mark',
        '*nat',
        '-A POSTROUTING -j K',
        '-A K -m mark ! --mark 0x4000/0x4000 -j RETURN',
        '-A K -j MASQUERADE',
      ],
    ],
    [
      'a hairpin',
      ['-A POSTROUTING -s 100.96.1.7/32 -d 100.96.1.7/32 -p tcp -m tcp --dport 80 -j MASQUERADE'],
    ],
  ])('are kept: %s', async (_what, rules) => {
    expect(await idsOf(await iptables(['*nat', ...rules]))).toEqual([]);
  });

  it('are hidden from other hosts where that is asked for', async () => {
    expect(hidesContainers(await nat(...FLANNEL), OVERLAY)).toBe(true);
    expect(hidesContainers(await nat(DOCKER), OVERLAY)).toBe(true);
    expect(hidesContainers(await nat(), OVERLAY)).toBe(false);
    expect(hidesContainers(await nat('-A POSTROUTING -o eth1 -j MASQUERADE'), OVERLAY)).toBe(false);
  });
});

describe('tables of nftables', () => {
  type Expression = Record<string, unknown>;
  const match = (left: Expression, right: unknown, op = '=='): Expression => ({
    match: { op, left, right },
  });
  const meta = (key: string) => ({ meta: { key } });
  const field = (protocol: string, name: string) => ({ payload: { protocol, field: name } });
  const state = (...states: string[]) =>
    match({ ct: { key: 'state' } }, states.length === 1 ? states[0] : { set: states });
  const [ACCEPT, DROP] = [{ accept: null }, { drop: null }];
  const REJECTED = { reject: { type: 'icmpx', expr: 'admin-prohibited' } };

  /** Chains of `table inet t`: a hook and a policy for a base chain, then the rules. */
  function nft(
    chains: Record<
      string,
      { hook?: string; policy?: string; type?: string; rules: Expression[][] }
    >,
  ): RuleSet {
    const listed = Object.entries(chains).flatMap(([name, { hook, policy, type, rules }]) => [
      {
        chain: {
          family: 'inet',
          table: 't',
          name,
          handle: 1,
          ...(hook && { type: type ?? 'filter', hook, prio: 0, policy: policy ?? 'accept' }),
        },
      },
      ...rules.map((expr, index) => ({
        rule: { family: 'inet', table: 't', chain: name, handle: index + 2, expr },
      })),
    ]);
    const text = JSON.stringify({ nftables: [{ metainfo: {} }, ...listed] });
    return { chains: nftBaseChains(text), mark: 0 };
  }
  const input = (...rules: Expression[][]) => nft({ i: { hook: 'input', policy: 'drop', rules } });

  it.each([
    ['a policy', []],
    [
      'a policy behind what a server accepts',
      [
        [state('established', 'related'), ACCEPT],
        [match(meta('iifname'), 'lo'), ACCEPT],
        [match(field('tcp', 'dport'), { set: [22, { range: [80, 90] }] }), ACCEPT],
        [match(meta('l4proto'), { set: ['icmp', 'ipv6-icmp'] }), ACCEPT],
      ],
    ],
    [
      'a verdict map',
      [
        [
          {
            vmap: {
              key: { ct: { key: 'state' } },
              data: {
                set: [
                  ['established', ACCEPT],
                  ['new', DROP],
                ],
              },
            },
          },
        ],
      ],
    ],
    [
      'a verdict map of interfaces',
      [
        [
          {
            vmap: {
              key: meta('iifname'),
              data: {
                set: [
                  ['lo', ACCEPT],
                  ['eth0', DROP],
                ],
              },
            },
          },
        ],
        [ACCEPT],
      ],
    ],
    [
      'a REJECT of a prefix',
      [
        [match(field('ip', 'saddr'), { prefix: { addr: '10.168.0.0', len: 24 } }), REJECTED],
        [ACCEPT],
      ],
    ],
    ['the port', [[match(field('udp', 'dport'), 8285), DROP], [ACCEPT]]],
    ['all but another port', [[match(field('udp', 'dport'), 53, '!='), DROP], [ACCEPT]]],
    [
      'local addresses',
      [[match({ fib: { result: 'type', flags: ['daddr'] } }, 'local'), DROP], [ACCEPT]],
    ],
    [
      'the protocol',
      [[match(field('ip', 'protocol'), 'udp'), { counter: {} }, { log: null }, DROP], [ACCEPT]],
    ],
    [
      'a concatenation',
      [
        [
          match(
            { concat: [meta('iifname'), field('udp', 'dport')] },
            { set: [{ concat: ['eth0', 8285] }] },
          ),
          DROP,
        ],
        [ACCEPT],
      ],
    ],
    ['IPv4 as such', [[match(meta('nfproto'), 'ipv4'), DROP], [ACCEPT]]],
    [
      'what comes behind IPv6 rules',
      [
        [match(field('ip6', 'saddr'), 'fe80::1'), ACCEPT],
        [match(meta('nfproto'), 'ipv6'), ACCEPT],
      ],
    ],
  ] as [string, Expression[][]][])('refuse datagrams by %s', async (_what, rules) => {
    const [problem] = await problemsOf(input(...rules));
    expect(problem?.id).toBe('udp_port_blocked');
    expect(problem?.message).toContain('chain i of nft table inet t');
    expect(problem?.remedy).toBe('nft insert rule inet t i udp dport 8285 accept');
  });

  it.each([
    ['the port is accepted', [[match(field('udp', 'dport'), { set: [53, 8285] }), ACCEPT]]],
    ['the interface is', [[match(meta('iifname'), 'eth*'), ACCEPT]]],
    ['an unknown set is', [[match(field('ip', 'saddr'), '@nodes'), ACCEPT]]],
    ['an unknown meta is', [[match(meta('cgroup'), 5), ACCEPT]]],
    ['a rate is', [[{ limit: { rate: 5, per: 'second' } }, ACCEPT]]],
    ['a map is of a named set', [[{ vmap: { key: field('udp', 'dport'), data: '@ports' } }]]],
    ['a program decides', [[{ queue: { num: 1 } }]]],
    ['a match of iptables', [[{ xt: { type: 'match', name: 'set' } }, ACCEPT]]],
    ['everything is', [[ACCEPT]]],
  ] as [string, Expression[][]][])('are not said to refuse: %s', async (_what, rules) => {
    expect(await idsOf(input(...rules))).not.toContain('udp_port_blocked');
  });

  it('are judged by what is in their sets, unless packets or time change that', async () => {
    const listed = (set: Record<string, unknown>, ...rules: Expression[][]) => {
      const chain = {
        family: 'inet',
        table: 't',
        name: 'i',
        type: 'filter',
        hook: 'input',
        prio: 0,
        policy: 'drop',
      };
      const text = JSON.stringify({
        nftables: [
          set,
          { chain },
          ...rules.map((expr, handle) => ({
            rule: { family: 'inet', table: 't', chain: 'i', handle, expr },
          })),
        ],
      });
      return { chains: nftBaseChains(text), mark: 0 as const };
    };
    const accepting = [match(field('ip', 'saddr'), '@nodes'), ACCEPT];
    const set = (more: object) => ({ set: { name: 'nodes', table: 't', family: 'inet', ...more } });
    const prefix = (addr: string) => ({ prefix: { addr, len: 24 } });
    const blocked = async (more: object) =>
      (await idsOf(listed(set(more), accepting))).includes('udp_port_blocked');
    expect(await blocked({ elem: [prefix('10.168.0.0')] })).toBe(false);
    expect(await blocked({ elem: [prefix('192.0.2.0'), '192.0.2.9'] })).toBe(true);
    expect(await blocked({ elem: [{ elem: { val: prefix('192.0.2.0'), comment: 'x' } }] })).toBe(
      true,
    );
    expect(await blocked({ elem: [prefix('192.0.2.0')], flags: ['interval', 'timeout'] })).toBe(
      false,
    );
    expect(await blocked({})).toBe(false);
    const map = {
      map: {
        name: 'ways',
        table: 't',
        family: 'inet',
        map: 'verdict',
        elem: [
          ['lo', ACCEPT],
          ['eth0', DROP],
        ],
      },
    };
    const mapped = [[{ vmap: { key: meta('iifname'), data: '@ways' } }], [ACCEPT]];
    expect(await idsOf(listed(map, ...mapped))).toEqual(['udp_port_blocked']);
  });

  it('refuse what firewalld does not know', async () => {
    const rules = nft({
      filter_FORWARD: {
        hook: 'forward',
        rules: [
          [state('established', 'related'), ACCEPT],
          [match({ ct: { key: 'status' } }, 'dnat', 'in'), ACCEPT],
          [match(meta('iifname'), 'lo'), ACCEPT],
          [state('invalid'), DROP],
          [{ jump: { target: 'zones' } }],
          [REJECTED],
        ],
      },
      zones: {
        rules: [
          [match(meta('iifname'), 'eth0'), { goto: { target: 'public' } }],
          [{ goto: { target: 'public' } }],
        ],
      },
      public: {
        rules: [
          [match(meta('l4proto'), 'icmp'), ACCEPT],
          [match(meta('oifname'), 'eth0'), ACCEPT],
        ],
      },
    });
    expect(await problemsOf(rules)).toEqual([
      {
        id: 'forward_blocked',
        message:
          'packets between containers of two nodes are refused by chain filter_FORWARD of nft table inet t (handle 7: reject)',
        remedy:
          'nft insert rule inet t filter_FORWARD ip saddr 100.96.0.0/16 accept && ' +
          'nft insert rule inet t filter_FORWARD ip daddr 100.96.0.0/16 accept',
      },
    ]);
  });

  it('masquerade', async () => {
    const rules = nft({
      p: {
        hook: 'postrouting',
        type: 'nat',
        rules: [[match(meta('oifname'), 'docker0', '!='), { masquerade: null }]],
      },
    });
    expect((await problemsOf(rules))[0]?.remedy).toBe(
      'nft insert rule inet t p ip saddr 100.96.1.0/24 ip daddr 100.96.0.0/16 accept && ' +
        'nft insert rule inet t p ip saddr 100.96.0.0/16 ip daddr 100.96.1.0/24 accept',
    );
  });

  it('are read where an IPv4 packet goes through them', () => {
    const chain = (family: string, table: string, hook?: string) => ({
      chain: { family, table, name: 'c', ...(hook && { hook, type: 'filter', prio: 0 }) },
    });
    const text = JSON.stringify({
      nftables: [
        chain('ip', 'a', 'input'),
        chain('inet', 'b', 'forward'),
        chain('inet', 'b', 'input'),
        chain('ip6', 'c', 'input'),
        chain('netdev', 'd', 'ingress'),
        chain('ip', 'e'),
      ],
    });
    expect([...hookedTables(text)]).toEqual(['ip a', 'inet b']);
  });
});

it('a rule set without end is not judged, and nobody waits for it', async () => {
  const rules = Array.from(
    { length: 200_000 },
    (_, index) => `-A INPUT -s 192.0.2.${index % 250}/32 -j DROP`,
  );
  const set = await iptables([...rules, '-A INPUT -j DROP']);
  const started = performance.now();
  expect(await idsOf(set)).toEqual([]);
  expect(performance.now() - started).toBeLessThan(5_000);
});
