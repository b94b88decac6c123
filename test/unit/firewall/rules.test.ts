/** The plan as text, the comparison with what is there, and what puts it right. */
import { describe, expect, it } from 'vitest';
import { parseCidr } from '../../../src/config/ipv4.js';
import { chainState, isInPlace, repairLines } from '../../../src/firewall/iptables-state.js';
import {
  GUARD_CHAIN,
  iptablesChains,
  nftTable,
  type FirewallPlan,
  type OwnChain,
} from '../../../src/firewall/rules.js';
import { readSaved } from '../../../src/firewall/saved.js';

const PLAN: FirewallPlan = {
  network: parseCidr('network', '100.96.0.0/16'),
  subnet: parseCidr('subnet', '100.96.1.0/24'),
  masquerade: true,
  forward: true,
  randomFully: true,
};

function chains(plan: Partial<FirewallPlan> = {}): { masq: OwnChain; forward: OwnChain } {
  const [masq, forward] = iptablesChains({ ...PLAN, ...plan });
  if (masq === undefined || forward === undefined) throw new Error('two chains');
  return { masq, forward };
}

describe('iptables rules', () => {
  it('are those of flanneld, in its order', () => {
    const { masq, forward } = chains();
    expect(masq).toMatchObject({ table: 'nat', name: 'FLANNEL-POSTRTG', wanted: true });
    expect(masq.jump).toBe('POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG');
    const masqueraded = '-m comment --comment "flanneld masq" -j';
    expect(masq.rules).toEqual([
      `FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${masqueraded} RETURN`,
      `FLANNEL-POSTRTG -s 100.96.1.0/24 -d 100.96.0.0/16 ${masqueraded} RETURN`,
      `FLANNEL-POSTRTG -s 100.96.0.0/16 -d 100.96.1.0/24 ${masqueraded} RETURN`,
      `FLANNEL-POSTRTG ! -s 100.96.0.0/16 -d 100.96.1.0/24 ${masqueraded} RETURN`,
      `FLANNEL-POSTRTG -s 100.96.0.0/16 ! -d 224.0.0.0/4 ${masqueraded} MASQUERADE --random-fully`,
      `FLANNEL-POSTRTG ! -s 100.96.0.0/16 -d 100.96.0.0/16 ${masqueraded} MASQUERADE --random-fully`,
    ]);
    expect(forward).toMatchObject({ table: 'filter', name: 'FLANNEL-FWD', wanted: true });
    expect(forward.jump).toBe('FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD');
    expect(forward.rules).toEqual([
      'FLANNEL-FWD -s 100.96.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
      'FLANNEL-FWD -d 100.96.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
    ]);
  });

  it('leave --random-fully out when not asked for', () => {
    expect(chains({ randomFully: false }).masq.rules.slice(4)).toEqual([
      'FLANNEL-POSTRTG -s 100.96.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE',
      'FLANNEL-POSTRTG ! -s 100.96.0.0/16 -d 100.96.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE',
    ]);
  });

  it('are none for a chain that is not wanted', () => {
    const { masq, forward } = chains({ masquerade: false, forward: false });
    expect(masq).toMatchObject({ wanted: false, rules: [] });
    expect(forward).toMatchObject({ wanted: false, rules: [] });
  });
});

describe('the guard of the tunnel', () => {
  const TUNNEL = { port: 8285, device: 'eth0', direct: false };
  const guard = (plan: Partial<FirewallPlan>): OwnChain => {
    const chain = iptablesChains({ ...PLAN, ...plan }).at(-1);
    if (chain?.name !== GUARD_CHAIN) throw new Error('no guard');
    return chain;
  };
  const comment = '-m comment --comment "flannelette guard" -j';
  const own = `FLANNELETTE-GUARD -s 100.96.1.0/24 -o eth0 -p udp -m udp --dport 8285 ${comment} DROP`;

  it('drops what containers send to its port by the external interface', () => {
    const chain = guard({ tunnel: TUNNEL });
    expect(chain).toMatchObject({ table: 'mangle', hook: 'FORWARD', wanted: true, rules: [own] });
    expect(chain.jump).toBe(`FORWARD ${comment} FLANNELETTE-GUARD`);
  });

  it.each([
    [
      'containers send each other by that interface',
      { direct: true },
      '! -d 100.96.0.0/16 -o eth0 ',
    ],
    ['the name would be a pattern', { device: 'eth+' }, '! -d 100.96.0.0/16 '],
  ])('goes by the destination where %s', (_what, change, match) => {
    const { rules } = guard({ tunnel: { ...TUNNEL, ...change } });
    expect(rules).toEqual([own.replace('-o eth0 ', match)]);
    const table = nftTable({ ...PLAN, tunnel: { ...TUNNEL, ...change } });
    expect(table).toContain('ip saddr 100.96.1.0/24 ip daddr != 100.96.0.0/16 ');
  });

  it.each([
    ['nothing travels in UDP', {}],
    ['no rules are asked for', { tunnel: TUNNEL, masquerade: false, forward: false }],
  ])('is not there where %s', (_what, plan) => {
    expect(guard(plan)).toMatchObject({ wanted: false, rules: [] });
    expect(nftTable({ ...PLAN, ...plan })).not.toContain('guard');
  });

  it.each([
    ['of a former subnet', own.replace('100.96.1.0', '100.96.7.0'), 'own'],
    ['of a former port', own.replace('8285', '8286'), 'own'],
    ['of another Network', own.replace('100.96.', '100.97.'), 'another flannel'],
    ["that is an operator's", own.replace('-o eth0', '-i eth0'), 'foreign'],
    ['for TCP', own.replaceAll('udp', 'tcp'), 'foreign'],
  ])('knows a rule %s', async (_what, rule, owner) => {
    const text = `*mangle\n:FLANNELETTE-GUARD - [0:0]\n-A ${rule}\nCOMMIT`;
    const { rules } = chainState(await readSaved(text), guard({ tunnel: TUNNEL }), [PLAN.network]);
    expect(rules).toMatchObject([{ owner }]);
  });
});

describe('nftables rules', () => {
  it.each([
    ['both', {}, ['postrtg', 'forward']],
    ['masquerading only', { forward: false }, ['postrtg']],
    ['forwarding only', { masquerade: false }, ['forward']],
  ])('have the wanted chains, %s', (_what, plan, names) => {
    const table = nftTable({ ...PLAN, ...plan });
    expect([...table.matchAll(/^\tchain (\w+) /gm)].map((match) => match[1])).toEqual(names);
  });

  it('masquerade fully-random when asked for', () => {
    expect(nftTable(PLAN).match(/masquerade fully-random$/gm)).toHaveLength(2);
    expect(nftTable({ ...PLAN, randomFully: false })).not.toContain('fully-random');
  });
});

describe('the state of a chain', () => {
  const { forward, masq } = chains();
  const table = (name: string, ...lines: string[]): string =>
    ['# Generated', `*${name}`, ...lines, 'COMMIT'].join('\n');
  const saved = (...lines: string[]): string =>
    `${table('nat', ':FLANNEL-FWD - [0:0]')}\n${table('filter', ...lines)}`;
  const declared = ':FLANNEL-FWD - [0:0]';
  const built = ':FORWARD ACCEPT [0:0]';
  const rules = forward.rules.map((rule) => `-A ${rule}`);
  const jump = `-A ${forward.jump}`;
  const state = async (text: string, chain = forward) =>
    chainState(await readSaved(text), chain, [PLAN.network]);
  const inPlace = async (text: string, chain = forward) =>
    isInPlace(chain, await state(text, chain));
  const repair = async (text: string, chain = forward) =>
    repairLines(chain, await state(text, chain));

  const drop = '-A FLANNEL-FWD -s 100.96.1.9/32 -j DROP';
  const blue = rules.map((rule) => rule.replace('100.96.', '100.97.'));

  it.each([
    ['with others around them', ['-A FORWARD -j DOCKER', ':FLANNEL-FWD2 - [0:0]'], rules],
    ["with an operator's rule in front", [], [drop, ...rules]],
    ["with an operator's rule between", [], [rules[0], drop, rules[1]]],
    ["with another daemon's rules", [], [...blue, ...rules]],
    ["with another daemon's rules mixed in", [], [blue[0], rules[0], blue[1], rules[1]]],
  ])('is in place: one jump, the rules in order, %s', async (_what, others, body) => {
    expect(await inPlace(saved(built, declared, ...others, jump, ...(body as string[])))).toBe(
      true,
    );
  });

  it.each([
    ['table of another', ''],
    ['no chain', saved(built, '-A FORWARD -j DOCKER')],
    ['no jump', saved(built, declared, ...rules)],
    ['two jumps', saved(built, declared, jump, jump, ...rules)],
    ['empty', saved(built, declared, jump)],
    ['a rule gone', saved(built, declared, jump, ...rules.slice(1))],
    ['a rule twice', saved(built, declared, jump, ...rules, rules[0] ?? '')],
    ['another order', saved(built, declared, jump, ...rules.toReversed())],
    ['only those of another Network', saved(built, declared, jump, ...blue)],
  ])('is not: %s', async (_what, text) => {
    expect(await inPlace(text)).toBe(false);
  });

  it('is repaired within its own table and chain', async () => {
    expect(await repair(saved(built, declared, jump, jump, jump))).toEqual([
      ...rules,
      ...[1, 2, 3].map(() => `-D ${forward.jump}`),
      jump,
    ]);
    expect(await repair('')).toEqual(['-N FLANNEL-FWD', ...rules, jump]);
  });

  it('gets a missing rule without a chain being emptied, in the place of the first of ours', async () => {
    const text = saved(built, declared, jump, drop, rules[1] ?? '', ...blue);
    expect(await repair(text)).toEqual([
      `-D ${forward.rules[1] ?? ''}`,
      `-I FLANNEL-FWD 2${(forward.rules[0] ?? '').slice('FLANNEL-FWD'.length)}`,
      `-I FLANNEL-FWD 3${(forward.rules[1] ?? '').slice('FLANNEL-FWD'.length)}`,
    ]);
  });

  it.each([
    ['another subnet of the Network', '-s 100.96.9.0/24 -d 100.96.0.0/16', 'RETURN'],
    ['as a destination', '-s 100.96.0.0/16 -d 100.96.9.0/24', 'RETURN'],
    ['for clients outside', '! -s 100.96.0.0/16 -d 100.96.9.0/24', 'RETURN'],
    ['of flannel before 0.21', '-s 100.96.0.0/16 -d 100.96.0.0/16', 'RETURN'],
    ['without --random-fully', '-s 100.96.0.0/16 ! -d 224.0.0.0/4', 'MASQUERADE'],
  ])('knows a stale rule of ours: %s', async (_what, match, target) => {
    const stale = `FLANNEL-POSTRTG ${match} -m comment --comment "flanneld masq" -j ${target}`;
    const masqRules = masq.rules.map((rule) => `-A ${rule}`);
    const text = table('nat', ':FLANNEL-POSTRTG - [0:0]', `-A ${stale}`, ...masqRules);
    expect(await repair(text, masq)).toContain(`-D ${stale}`);
  });

  it.each([
    ['of another Network', '-s 100.97.0.0/16 ! -d 224.0.0.0/4', 'flanneld masq'],
    ['of a wider Network', '-s 100.96.0.0/12 ! -d 224.0.0.0/4', 'flanneld masq'],
    ['of a narrower Network', '-s 100.96.0.0/20 ! -d 224.0.0.0/4', 'flanneld masq'],
    ['without the comment', '-s 100.96.0.0/16 ! -d 224.0.0.0/4', 'mine'],
    ['with another match', '-s 100.96.0.0/16 -o eth1', 'flanneld masq'],
  ])('leaves a rule that is not ours: %s', async (_what, match, comment) => {
    const other = `FLANNEL-POSTRTG ${match} -m comment --comment "${comment}" -j MASQUERADE`;
    const masqRules = masq.rules.map((rule) => `-A ${rule}`);
    const masqJump = `-A ${masq.jump}`;
    const text = table(
      'nat',
      ...[':POSTROUTING ACCEPT [0:0]', ':FLANNEL-POSTRTG - [0:0]', masqJump],
      ...[...masqRules, `-A ${other}`],
    );
    expect(await inPlace(text, masq)).toBe(true);
    const unwanted = chains({ masquerade: false }).masq;
    expect(await repair(text, unwanted)).not.toContain(`-D ${other}`);
    expect(await repair(text, unwanted)).not.toContain('-X FLANNEL-POSTRTG');
  });

  it('shares the rule of the mark, and leaves it to whoever still needs it', async () => {
    const [mark = '', ...own] = masq.rules.map((rule) => `-A ${rule}`);
    const others = own.map((rule) => rule.replaceAll('100.96.', '100.97.'));
    const frame = (...body: string[]) =>
      table(
        'nat',
        ...[':POSTROUTING ACCEPT [0:0]', ':FLANNEL-POSTRTG - [0:0]', `-A ${masq.jump}`],
        ...body,
      );
    expect(await inPlace(frame(mark, ...others, ...own), masq)).toBe(true);
    expect(await inPlace(frame(...own, mark, ...others), masq)).toBe(false);
    const unwanted = chains({ masquerade: false }).masq;
    const both = await repair(frame(mark, ...others, ...own), unwanted);
    expect(both).toEqual(own.map((rule) => rule.replace('-A', '-D')));
    const alone = await repair(frame(mark, ...own), unwanted);
    expect(alone).toEqual([
      ...[mark, ...own].map((rule) => rule.replace('-A', '-D')),
      `-D ${masq.jump}`,
      '-X FLANNEL-POSTRTG',
    ]);
  });

  it('takes the rules of a former Network away when told of it', async () => {
    const text = saved(built, declared, jump, ...blue, ...rules);
    const former = chainState(await readSaved(text), forward, [
      PLAN.network,
      parseCidr('network', '100.97.0.0/16'),
    ]);
    expect(isInPlace(forward, former)).toBe(false);
    expect(repairLines(forward, former)).toEqual([
      ...[...blue, ...rules].map((rule) => rule.replace('-A', '-D')),
      ...rules,
    ]);
  });

  it('is removed when not wanted, but stays while another rule leads to it', async () => {
    const unwanted = chains({ forward: false }).forward;
    const foreign = '-A FORWARD -i eth1 -j FLANNEL-FWD';
    const gone = rules.map((rule) => rule.replace('-A', '-D'));
    expect(await repair(saved(built, declared, jump, ...rules), unwanted)).toEqual([
      ...gone,
      `-D ${forward.jump}`,
      '-X FLANNEL-FWD',
    ]);
    expect(await repair(saved(built, declared, foreign, ...rules), unwanted)).toEqual(gone);
    expect(await inPlace(saved(built, declared, foreign, ...rules), unwanted)).toBe(false);
    expect(await inPlace(saved(built, declared, foreign), unwanted)).toBe(true);
    expect(await inPlace(saved(), unwanted)).toBe(true);
    expect(await inPlace(saved(built, declared, jump), unwanted)).toBe(false);
  });
});

describe('the jump of FORWARD', () => {
  const { forward } = chains();
  const rules = forward.rules.map((rule) => `-A ${rule}`);
  const jump = `-A ${forward.jump}`;
  const REJECT = '-j REJECT --reject-with icmp-host-prohibited';
  const inner = (chain: string) =>
    `${chain} -m comment --comment "flannelette forward" -j FLANNEL-FWD`;
  const BUILT_IN = ['INPUT', 'FORWARD', 'OUTPUT'].map((name) => `:${name} ACCEPT [0:0]`);

  async function repair(...lines: string[]): Promise<string[]> {
    const named = new Set(lines.flatMap((line) => /^-A (\S+)/.exec(line)?.[1] ?? []));
    const made = [...named].filter((name) => !['INPUT', 'FORWARD', 'OUTPUT'].includes(name));
    const declared = ['FLANNEL-FWD', ...made].map((name) => `:${name} - [0:0]`);
    const text = ['*filter', ...BUILT_IN, ...declared, ...lines, ...rules, 'COMMIT'].join('\n');
    const state = chainState(await readSaved(text), forward, [PLAN.network]);
    return isInPlace(forward, state) ? [] : repairLines(forward, state);
  }
  const at = (place: number) => `-I FORWARD ${place}${forward.jump.slice('FORWARD'.length)}`;

  it.each([
    ['before a REJECT', [`-A FORWARD ${REJECT}`], 1],
    ['before a DROP', ['-A FORWARD -j DROP'], 1],
    ['before a commented one', ['-A FORWARD -m comment --comment "no -j ACCEPT" -j DROP'], 1],
    ['before one of new connections', ['-A FORWARD -m conntrack --ctstate NEW -j DROP'], 1],
    ['the same turned round', ['-A FORWARD -m state ! --state ESTABLISHED -j DROP'], 1],
    ["behind an operator's rule", ['-A FORWARD -s 192.0.2.1/32 -j DROP', '-A FORWARD -j DROP'], 2],
    ['behind rules of devices', ['-A FORWARD -o eth9 -j DROP', '-A FORWARD -j DROP'], 2],
    [
      'before refusals of protocols that end in it',
      [
        '-A FORWARD -p tcp -m tcp --dport 25 -j REJECT',
        '-A FORWARD -m limit --limit 5/min -j LOG --log-prefix "no: "',
        '-A FORWARD -m addrtype --dst-type BROADCAST -j DROP',
        '-A FORWARD -p tcp -j REJECT --reject-with tcp-reset',
        '-A FORWARD -p udp -j REJECT',
        '-A FORWARD -j REJECT --reject-with icmp-proto-unreachable',
      ],
      2,
    ],
    [
      'before refusals of TCP and of UDP',
      ['-A FORWARD -p tcp -j REJECT --reject-with tcp-reset', '-A FORWARD -p udp -j DROP'],
      1,
    ],
    [
      'behind the state',
      ['-A FORWARD -m conntrack --ctstate INVALID -j DROP', '-A FORWARD -j DROP'],
      2,
    ],
  ])('stands %s', async (_what, others, place) => {
    expect(await repair(...others)).toEqual([at(place)]);
    expect(await repair(...others, jump)).toEqual([`-D ${forward.jump}`, at(place)]);
    const before = others.toSpliced(place - 1, 0, jump);
    expect(await repair(...before)).toEqual([]);
  });

  it.each([
    [
      'an operator put it in front',
      [jump, '-A FORWARD -s 192.0.2.1/32 -j DROP', '-A FORWARD -j DROP'],
    ],
    ['nothing refuses everything', ['-A FORWARD -o eth9 -j DROP', jump]],
    ['everything is accepted before', ['-A FORWARD -j ACCEPT', '-A FORWARD -j DROP', jump]],
    [
      'a chain returns before its DROP',
      ['-A FORWARD -j C', '-A C -j RETURN', '-A C -j DROP', jump],
    ],
    [
      'a chain accepts before its DROP',
      ['-A FORWARD -j C', '-A C -j ACCEPT', '-A C -j DROP', jump],
    ],
    ['the chain of a device refuses', ['-A FORWARD -o eth9 -j C', '-A C -j DROP', jump]],
    ['one protocol is refused', ['-A FORWARD -p udp -j DROP', jump]],
    [
      'one is refused, and then something else decides',
      [
        '-A FORWARD -p udp -j DROP',
        '-A FORWARD -o eth9 -j ACCEPT',
        '-A FORWARD -p tcp -j DROP',
        jump,
      ],
    ],
    [
      'all but established connections of flags',
      ['-A FORWARD -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP', jump],
    ],
    ['a rate refuses', ['-A FORWARD -m limit --limit 5/min -j DROP', jump]],
    ['a set refuses', ['-A FORWARD -m set --match-set bad src -j DROP', jump]],
  ])('stays where it is: %s', async (_what, lines) => {
    expect(await repair(...lines)).toEqual([]);
  });

  it('also stands inside a chain, before what refuses everything there', async () => {
    const lines = ['-A FORWARD -j DOCKER-USER', jump];
    const user = ['-A DOCKER-USER -s 192.0.2.1/32 -j DROP', '-A DOCKER-USER -j DROP'];
    const inserted = `-I DOCKER-USER 2${inner('DOCKER-USER').slice('DOCKER-USER'.length)}`;
    expect(await repair(...lines, ...user)).toEqual([inserted]);
    const placed = user.toSpliced(1, 0, `-A ${inner('DOCKER-USER')}`);
    expect(await repair(...lines, ...placed)).toEqual([]);
    // Behind it, it is moved; without need, it goes.
    const behind = [...user, `-A ${inner('DOCKER-USER')}`];
    expect(await repair(...lines, ...behind)).toEqual([`-D ${inner('DOCKER-USER')}`, inserted]);
    const calm = placed.slice(0, 2);
    expect(await repair(...lines, ...calm)).toEqual([`-D ${inner('DOCKER-USER')}`]);
  });

  it('goes round a chain that others use for some packets, and never into it', async () => {
    const lines = ['-A FORWARD -s 192.0.2.1/32 -j LOGDROP', '-A FORWARD -j LOGDROP'];
    const chain = ['-A LOGDROP -m limit --limit 5/min -j LOG', '-A LOGDROP -j DROP'];
    expect(await repair(...lines, jump, ...chain)).toEqual([`-D ${forward.jump}`, at(2)]);
  });

  it('goes as deep as the chains do', async () => {
    const lines = [
      '-A FORWARD -j A',
      jump,
      '-A A -j B',
      '-A B -s 192.0.2.1/32 -j DROP',
      '-A B -j DROP',
    ];
    expect(await repair(...lines)).toEqual([`-I B 2${inner('B').slice('B'.length)}`]);
    const shared = ['-A INPUT -j B', ...lines];
    expect(await repair(...shared)).toEqual([]);
  });

  it('goes round a chain that INPUT shares, and not round rules that refuse some', async () => {
    const shared = ['-A INPUT -j RH', '-A FORWARD -j RH'];
    const accepting = ['-A RH -p tcp -m tcp --dport 22 -j ACCEPT', `-A RH ${REJECT}`];
    expect(await repair(...shared, jump, ...accepting)).toEqual([`-D ${forward.jump}`, at(1)]);
    const refusing = ['-A RH -s 192.0.2.1/32 -j DROP', ...accepting];
    expect(await repair(...shared, jump, ...refusing)).toEqual([]);
  });
});

describe('what iptables-save prints', () => {
  it('is read table by table, whatever is printed between', async () => {
    const tables = await readSaved(
      '# Warning: iptables-legacy tables present\n*nat\n:A - [0:0]\n-A A -j RETURN\nCOMMIT\n*filter\n:INPUT DROP [3:4]\n:A - [0:0]\n-A A -m comment --comment "a b" -j ACCEPT\nCOMMIT\n',
    );
    expect(tables.get('nat')?.get('A')?.rules).toEqual(['A -j RETURN']);
    expect(tables.get('filter')?.get('INPUT')).toEqual({ policy: 'DROP', rules: [] });
    expect(tables.get('filter')?.get('A')?.rules).toEqual([
      'A -m comment --comment "a b" -j ACCEPT',
    ]);
  });

  it('gives others their turn while it is long', async () => {
    const rules = Array.from({ length: 100_000 }, () => '-A A -j RETURN');
    let turns = 0;
    const timer = setInterval(() => (turns += 1), 0);
    const tables = await readSaved(['*nat', ':A - [0:0]', ...rules, 'COMMIT'].join('\n'));
    clearInterval(timer);
    expect(tables.get('nat')?.get('A')?.rules).toHaveLength(100_000);
    expect(turns).toBeGreaterThan(0);
  });
});
