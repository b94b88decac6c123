/** The plan as text, the comparison with what is there, and what puts it right. */
import { describe, expect, it } from 'vitest';
import { parseCidr } from '../../src/config/ipv4.js';
import { chainState, isInPlace, repairLines } from '../../src/firewall/iptables-state.js';
import {
  iptablesChains,
  nftTable,
  type FirewallPlan,
  type OwnChain,
} from '../../src/firewall/rules.js';
import { Wording } from '../../src/firewall/wording.js';

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
  const { forward } = chains();
  const saved = (...lines: string[]): string =>
    ['# Generated', '*nat', ':FLANNEL-FWD - [0:0]', 'COMMIT', '*filter', ...lines, 'COMMIT'].join(
      '\n',
    );
  const declared = ':FLANNEL-FWD - [0:0]';
  const rules = forward.rules.map((rule) => `-A ${rule}`);
  const jump = `-A ${forward.jump}`;
  const inPlace = (text: string, chain = forward) =>
    isInPlace(chain, chainState(text, chain), new Wording());
  const repair = (text: string, chain = forward) => repairLines(chain, chainState(text, chain));

  it('is in place with one jump and the rules in order, whatever is around them', () => {
    const others = ['-A FORWARD -j DOCKER', ':FLANNEL-FWD2 - [0:0]', '-A FLANNEL-FWD2 -j DROP'];
    expect(inPlace(saved(declared, ...others, jump, ...rules))).toBe(true);
  });

  it.each([
    ['table of another', ''],
    ['no chain', saved('-A FORWARD -j DOCKER')],
    ['no jump', saved(declared, ...rules)],
    ['two jumps', saved(declared, jump, jump, ...rules)],
    ['empty', saved(declared, jump)],
    ['a rule gone', saved(declared, jump, ...rules.slice(1))],
    ['a rule more', saved(declared, jump, ...rules, '-A FLANNEL-FWD -j DROP')],
    ['another order', saved(declared, jump, ...rules.toReversed())],
  ])('is not: %s', (_what, text) => {
    expect(inPlace(text)).toBe(false);
  });

  it('is repaired within its own table and chain', () => {
    expect(repair(saved(declared, jump, jump, jump))).toEqual([
      '*filter',
      declared,
      `-D ${forward.jump}`,
      `-D ${forward.jump}`,
      ...rules,
      'COMMIT',
    ]);
    expect(repair('')).toEqual(['*filter', declared, jump, ...rules, 'COMMIT']);
  });

  it('is removed when not wanted, but only emptied while another rule leads to it', () => {
    const unwanted = chains({ forward: false }).forward;
    const foreign = '-A FORWARD -i eth1 -j FLANNEL-FWD';
    expect(repair(saved(declared, jump, ...rules), unwanted)).toEqual([
      '*filter',
      declared,
      `-D ${forward.jump}`,
      '-X FLANNEL-FWD',
      'COMMIT',
    ]);
    expect(repair(saved(declared, foreign, ...rules), unwanted)).toEqual([
      '*filter',
      declared,
      'COMMIT',
    ]);
    expect(inPlace(saved(declared, foreign, ...rules), unwanted)).toBe(false);
    expect(inPlace(saved(declared, foreign), unwanted)).toBe(true);
    expect(inPlace(saved(), unwanted)).toBe(true);
  });
});

describe('the wording of a machine', () => {
  it('is learnt line for line', () => {
    const wording = new Wording();
    expect(wording.matches(['mark 0x4000'], ['mark 0x00004000'])).toBe(false);
    expect(wording.learn(['mark 0x4000'], ['mark 0x00004000'])).toBe(true);
    expect(wording.matches(['mark 0x4000'], ['mark 0x00004000'])).toBe(true);
    expect(wording.matches(['mark 0x4000'], ['mark 0x4000'])).toBe(true);
    expect(wording.matches(['mark 0x8000'], ['mark 0x00004000'])).toBe(false);
    expect(wording.learn(['a', 'b'], ['a'])).toBe(false);
    expect(wording.matches(['a', 'b'], ['a'])).toBe(false);
  });
});
