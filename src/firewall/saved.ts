/**
 * What iptables-save prints, by table and chain.
 *
 * A node with 50,000 services prints tens of MiB, so reading gives the event loop its turn in
 * between; rules stay the text they are until somebody asks about one of them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Lines read at a time: a few milliseconds. */
const SLICE = 5_000;

export interface SavedChain {
  /** ACCEPT or DROP for a built-in chain; undefined for other chains. */
  readonly policy: string | undefined;
  /** What follows `-A `, so each begins with the chain's name. */
  readonly rules: string[];
}

/** Chains by name. */
export type SavedTable = ReadonlyMap<string, SavedChain>;
/** Tables by name: filter, nat, mangle, raw, security. */
export type SavedTables = ReadonlyMap<string, SavedTable>;

/** Lines that make no sense are passed over: warnings are printed among the tables. */
export async function readSaved(text: string): Promise<SavedTables> {
  const reader = new SavedReader();
  for (let from = 0, lines = 1; from < text.length; lines += 1) {
    const newline = text.indexOf('\n', from);
    const end = newline < 0 ? text.length : newline;
    reader.take(text.slice(from, end).trimEnd());
    from = end + 1;
    if (lines % SLICE === 0) await nextTurn();
  }
  return reader.tables;
}

class SavedReader {
  readonly tables = new Map<string, Map<string, SavedChain>>();
  #table: Map<string, SavedChain> | undefined;

  take(line: string): void {
    if (line.startsWith('-A ')) {
      const rule = line.slice('-A '.length);
      this.#table?.get(firstWord(rule))?.rules.push(rule);
    } else if (line.startsWith(':')) {
      const [name = '', policy = '-'] = line.slice(1).split(' ');
      this.#table?.set(name, { policy: policy === '-' ? undefined : policy, rules: [] });
    } else if (line.startsWith('*')) {
      this.#table = new Map();
      this.tables.set(line.slice(1), this.#table);
    } else if (line === 'COMMIT') {
      this.#table = undefined;
    }
  }
}

/** The same rules in the same chains: two programs show one and the same tables of the kernel. */
export function areSameTables(a: SavedTables, b: SavedTables): boolean {
  const isSame = (one: SavedChain, other: SavedChain | undefined): boolean =>
    one.rules.length === other?.rules.length &&
    one.rules.every((rule, index) => rule === other.rules[index]);
  return (
    a.size === b.size &&
    [...a].every(([name, chains]) => {
      const others = b.get(name);
      return (
        chains.size === others?.size &&
        [...chains].every(([chain, found]) => isSame(found, others.get(chain)))
      );
    })
  );
}

function firstWord(text: string): string {
  const space = text.indexOf(' ');
  return space < 0 ? text : text.slice(0, space);
}

/** The words of a rule; what is in double quotes is one, without them. */
export function wordsOf(rule: string): string[] {
  const words = rule.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  return words.map((word) =>
    word.startsWith('"') ? word.slice(1, -1).replaceAll(/\\(.)/g, '$1') : word,
  );
}
