/**
 * How this machine's programs print our rules.
 *
 * Rules are compared as text, and releases differ in how they print one and the same rule (a mark
 * as 0x4000 or 0x00004000, a priority as a name or a number). A firewall that insisted on one
 * wording would repair sound rules at each resync. So after a repair the rules are read back: what
 * is printed then, line for line, is what the plan looks like here.
 */
export class Wording {
  readonly #printed = new Map<string, string>();

  /** True when `listing` is the intended text or what was printed after that text was applied. */
  matches(intended: readonly string[], listing: readonly string[]): boolean {
    const wanted = intended.join('\n');
    const found = listing.join('\n');
    return found === wanted || found === this.#printed.get(wanted);
  }

  /** Remembers what was read back. False when a line is missing or was added: then it is not it. */
  learn(intended: readonly string[], listing: readonly string[]): boolean {
    if (listing.length !== intended.length) return false;
    if (!this.matches(intended, listing)) {
      this.#printed.set(intended.join('\n'), listing.join('\n'));
    }
    return true;
  }
}
