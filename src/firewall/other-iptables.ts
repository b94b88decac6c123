/**
 * The iptables that this machine's programs do not show. The kernel goes through the rules of both,
 * so what a flannel daemon left in the other one, when the machine's alternatives were changed or
 * from a container with its own iptables, is in force beside ours: with a former subnet in it, it
 * masquerades traffic inside the overlay.
 */
import type { Logger } from '../log.js';
import type { Cleanable } from './firewall-interface.js';
import { IptablesFirewall } from './iptables.js';
import { runProgram } from './run-program.js';
import type { FirewallPlan } from './rules.js';
import { areSameTables, readSaved } from './saved.js';

export class OtherIptables implements Cleanable {
  readonly kind = 'iptables';
  readonly #log: Logger;
  readonly #prefix: readonly string[];

  constructor(log: Logger, prefix: readonly string[]) {
    this.#log = log;
    this.#prefix = prefix;
  }

  async clean(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean> {
    const options = { prefix: this.#prefix, signal };
    const version = await runProgram('iptables', ['--version'], options);
    const programs = version.includes('nf_tables') ? 'iptables-legacy' : 'iptables-nft';
    const [own, other] = await Promise.all(
      (['iptables', programs] as const).map(async (name) =>
        readSaved(await runProgram(`${name}-save`, [], options)),
      ),
    );
    // A wrapper of that name may hide which of the two it is.
    if (own !== undefined && other !== undefined && areSameTables(own, other)) return false;
    const firewall = new IptablesFirewall(this.#log, this.#prefix, programs);
    const changed = await firewall.clean(plan, signal);
    if (changed) {
      this.#log.warn(
        { programs },
        "flannel's rules of an earlier run were in the other iptables: removed",
      );
    }
    return changed;
  }
}
