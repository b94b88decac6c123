/**
 * A firewall's rules and a packet, in one form for iptables and nftables, and the way a packet takes
 * through them. Pure.
 *
 *     hook  base chain, policy ─ rule ─ rule ─ jump ──> chain ─ rule ─ return
 *                                  each: matches the packet, does not, or cannot be judged
 *
 * Much cannot be judged from outside: members of a set, a rate, a mark another program gives. So the
 * question is never "is it dropped" but "is it dropped whatever such a match says"; a false alarm
 * costs an operator more than a silence.
 */
import type { Ipv4 } from '../../config/ipv4.js';

/** Undefined: cannot be judged. */
export type Tri = boolean | undefined;

export type Protocol = 'tcp' | 'udp' | 'icmp';

/** One sample packet of a kind; a TCP packet is a SYN unless established, an ICMP packet an echo request. */
export interface Packet {
  /** Undefined: not known; null: none, as at an output hook. */
  readonly iif: string | null | undefined;
  readonly oif: string | null | undefined;
  readonly source: Ipv4 | undefined;
  readonly destination: Ipv4 | undefined;
  readonly protocol: Protocol;
  /** Undefined for ICMP. */
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
  readonly state: 'new' | 'established';
  /** Whether the addresses are this host's own. */
  readonly fromHost: boolean;
  readonly toHost: boolean;
  /** 0 where nothing on this host gives marks, undefined where something does. */
  readonly mark: 0 | undefined;
}

export type Condition = (packet: Packet) => Tri;

export type Action =
  | { readonly kind: 'accept' | 'drop' | 'return' | 'continue' | 'translate' | 'unknown' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string };

export interface Rule {
  /** As its program prints it. */
  readonly text: string;
  readonly conditions: readonly Condition[];
  /** Depends on the packet in a verdict map only. */
  readonly action: (packet: Packet) => Action | undefined;
}

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

/** Whose table it is: which program prints it and changes it. */
export type Program = 'iptables' | 'iptables-legacy' | 'iptables-nft' | 'nft';

export interface BaseChain {
  readonly program: Program;
  /** nft's: `inet`, `ip`; of iptables always `ip`. */
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: Hook;
  readonly type: 'filter' | 'nat';
  readonly policy: 'accept' | 'drop';
  /** Undefined for a chain that is not there. */
  readonly rules: (chain: string) => readonly Rule[] | undefined;
}

export interface Verdict {
  readonly kind: 'accept' | 'drop' | 'translate';
  /** False when a rule that cannot be judged may have decided before. */
  readonly certain: boolean;
  /** What decided; undefined when it was the policy. */
  readonly rule: Rule | undefined;
  /** The chain that holds the rule, or the base chain. */
  readonly chain: string;
}

export function all(tris: Iterable<Tri>): Tri {
  let result: Tri = true;
  for (const tri of tris) {
    if (tri === false) return false;
    if (tri === undefined) result = undefined;
  }
  return result;
}

export function any(tris: Iterable<Tri>): Tri {
  let result: Tri = false;
  for (const tri of tris) {
    if (tri === true) return true;
    if (tri === undefined) result = undefined;
  }
  return result;
}

export function not(tri: Tri): Tri {
  return tri === undefined ? undefined : !tri;
}

/** What a condition says where it is turned round by `!`. */
export function negatedIf(negated: boolean, condition: Condition): Condition {
  return negated ? (packet) => not(condition(packet)) : condition;
}

/** Rules a packet may pass before its way counts as one that cannot be judged. */
const LONGEST_WAY = 2_000;
const DEEPEST = 32;

/** What becomes of a packet in a base chain. */
export function walk(base: BaseChain, packet: Packet): Verdict {
  const walker = new Walker(base, packet);
  const end = walker.chain(base.name, 0) ?? {
    kind: base.policy,
    rule: undefined,
    chain: base.name,
  };
  const certain = [...walker.alternatives].every((kind) => kind === end.kind);
  return { ...end, certain };
}

type End = Omit<Verdict, 'certain'>;

/**
 * Goes the way on which every rule that cannot be judged does not match, and notes where the packet
 * would have ended on the others.
 */
class Walker {
  readonly alternatives = new Set<Verdict['kind'] | 'unknown'>();
  readonly #base: BaseChain;
  readonly #packet: Packet;
  #passed = 0;

  constructor(base: BaseChain, packet: Packet) {
    this.#base = base;
    this.#packet = packet;
  }

  /** Undefined when the packet comes to the chain's end, or back from it. */
  chain(name: string, depth: number): End | undefined {
    const rules = this.#base.rules(name);
    if (rules === undefined || depth > DEEPEST) {
      this.alternatives.add('unknown');
      return undefined;
    }
    let mayHaveReturned = false;
    for (const rule of rules) {
      this.#passed += 1;
      if (this.#passed > LONGEST_WAY) this.alternatives.add('unknown');
      if (this.#passed > LONGEST_WAY) return undefined;
      const matches = all(rule.conditions.map((condition) => condition(this.#packet)));
      if (matches === false) continue;
      const end = this.#act(rule, name, depth);
      if (end === undefined) continue;
      if (end === 'return') {
        if (matches === true) return undefined;
        mayHaveReturned = true;
      } else if (matches === true && !mayHaveReturned) return end;
      else {
        this.alternatives.add(end.kind);
        // Only by that return does the packet go on behind a rule that ends its way.
        if (matches === true) return undefined;
      }
    }
    return undefined;
  }

  /** Where the rule takes a packet that it matches; undefined: to the next rule. */
  #act(rule: Rule, chain: string, depth: number): End | 'return' | undefined {
    const action = rule.action(this.#packet);
    switch (action?.kind) {
      case 'continue':
        return undefined;
      case 'return':
        return 'return';
      case 'drop':
      case 'accept':
      case 'translate':
        return { kind: action.kind, rule, chain };
      case 'jump':
      case 'goto':
        return (
          this.chain(action.chain, depth + 1) ?? (action.kind === 'goto' ? 'return' : undefined)
        );
      case 'unknown':
      case undefined:
        this.alternatives.add('unknown');
        return undefined;
    }
  }
}
