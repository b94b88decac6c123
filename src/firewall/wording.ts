/**
 * How this machine's programs print our rules.
 *
 * Rules are recognised by their parts (shape.ts), and releases agree on those. Should one print a rule
 * in other words all the same, sound rules would be added again at each check. So after a change what
 * is new in a chain, when it is as much as was added, is taken for just that, line for line.
 */
export class Wording {
  readonly #given = new Map<string, string>();

  /** The rule as we gave it, for what the machine prints of it. */
  meaning(printed: string): string {
    return this.#given.get(printed) ?? printed;
  }

  /** `fresh` is what is new in a chain. False when nothing could be told from it. */
  learn(fresh: readonly string[], added: readonly string[]): boolean {
    if (fresh.length === 0 || fresh.length !== added.length) return false;
    for (const [index, printed] of fresh.entries()) {
      this.#given.set(printed, added[index] ?? printed);
    }
    return true;
  }
}
