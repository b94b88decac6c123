/**
 * Our part of iptables-save's output, and the iptables-restore input that puts it right. Pure.
 *
 * Input for `iptables-restore --noflush`: declaring a chain empties it or makes it, and touches no
 * other; a table takes effect as a whole at its COMMIT. So a chain is never seen half filled, and
 * only the tables that differ are named.
 */
import type { OwnChain } from './rules.js';
import type { Wording } from './wording.js';

export interface ChainState {
  readonly exists: boolean;
  readonly rules: readonly string[];
  /** How often the built-in chain has our jump. */
  readonly jumps: number;
  /** A rule that is not ours leads to our chain: the chain cannot be deleted, only emptied. */
  readonly referenced: boolean;
}

/** What `iptables-save` says of a chain of ours. */
export function chainState(saved: string, chain: OwnChain): ChainState {
  const lines = tableLines(saved, chain.table);
  const leadsHere = new RegExp(` -[jg] ${chain.name}$`);
  const rules = lines.filter((line) => line.startsWith(`-A ${chain.name} `));
  const leading = lines.filter((line) => line.startsWith('-A ') && leadsHere.test(line));
  const jumps = leading.filter((line) => line === `-A ${chain.jump}`).length;
  return {
    exists: lines.some((line) => line.startsWith(`:${chain.name} `)),
    rules: rules.map((line) => line.slice('-A '.length)),
    jumps,
    referenced: leading.length > jumps,
  };
}

/** Lines of one table, without those of the others; none when the table is not loaded. */
function tableLines(saved: string, table: string): string[] {
  const lines = saved.split('\n').map((line) => line.trimEnd());
  const start = lines.indexOf(`*${table}`);
  return start < 0 ? [] : lines.slice(start + 1, lines.indexOf('COMMIT', start));
}

export function isInPlace(chain: OwnChain, state: ChainState, wording: Wording): boolean {
  if (chain.wanted) {
    return state.exists && state.jumps === 1 && wording.matches(chain.rules, state.rules);
  }
  return isGone(state);
}

function isGone(state: ChainState): boolean {
  return state.jumps === 0 && (!state.exists || (state.referenced && state.rules.length === 0));
}

/** Lines of iptables-restore input that make a chain what it should be, with its table's frame. */
export function repairLines(chain: OwnChain, state: ChainState): string[] {
  const declared = `:${chain.name} - [0:0]`;
  const unjump = `-D ${chain.jump}`;
  const body = chain.wanted
    ? [
        declared,
        // -D takes the first it finds, and the last one stays.
        ...Array.from({ length: state.jumps - 1 }, () => unjump),
        ...(state.jumps === 0 ? [`-A ${chain.jump}`] : []),
        ...chain.rules.map((rule) => `-A ${rule}`),
      ]
    : [
        declared,
        ...Array.from({ length: state.jumps }, () => unjump),
        ...(state.referenced ? [] : [`-X ${chain.name}`]),
      ];
  return [`*${chain.table}`, ...body, 'COMMIT'];
}
