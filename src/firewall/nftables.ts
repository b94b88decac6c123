/**
 * flanneld's rules by nft(8): table `ip flannel-ipv4`.
 *
 * As with iptables: listed, compared, and when something of ours is not as it should be changed by
 * one `nft -f -`, then listed again. Rules of others in the table stay (nftables-state.ts).
 */
import { FlannelletteError, messageOf, systemError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Firewall } from './firewall-interface.js';
import { nftCommands, parseListing, type Dialect, type ListedTable } from './nftables-state.js';
import { isMissing, runProgram } from './run-program.js';
import {
  isEmptyPlan,
  nftChains,
  NFT_TABLE,
  ownNetworks,
  type FirewallPlan,
  type NftChain,
} from './rules.js';
import { Wording } from './wording.js';

/** Tried in this order. */
const DIALECTS: readonly [Dialect, ...Dialect[]] = [
  { comments: true, randomFully: true },
  { comments: false, randomFully: true },
  { comments: true, randomFully: false },
  { comments: false, randomFully: false },
];
/** Another daemon may change the table between our look and our change. */
const ATTEMPTS = 3;

export class NftablesFirewall implements Firewall {
  readonly kind = 'nftables';
  readonly #log: Logger;
  readonly #prefix: readonly string[];
  readonly #wording = new Wording();
  /** The first that this machine has taken. */
  #dialect: Dialect | undefined;

  /** `prefix` goes before each command line. */
  constructor(log: Logger, prefix: readonly string[] = []) {
    this.#log = log;
    this.#prefix = prefix;
  }

  async apply(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean> {
    try {
      return await this.#make(plan, signal);
    } catch (error) {
      if (isEmptyPlan(plan) && isMissing(error)) return false;
      throw error;
    }
  }

  async clean(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean> {
    return this.#make({ ...plan, masquerade: false, forward: false }, signal);
  }

  async #make(plan: FirewallPlan, signal: AbortSignal | undefined): Promise<boolean> {
    for (let attempt = 1; ; attempt += 1) {
      const table = await this.#list(signal);
      const input = this.#commands(plan, table);
      if (input === '') return attempt > 1;
      if (!(await this.#change(plan, table, input, signal)) && attempt < ATTEMPTS) continue;
      const after = await this.#list(signal);
      this.#learn(plan, input, table, after);
      if (this.#commands(plan, after) === '') return true;
      if (attempt < ATTEMPTS) continue;
      throw systemError(
        `nft: table ${NFT_TABLE} is not as it was just made: another program changes it`,
      );
    }
  }

  /** This machine's words for what was added to a chain, where they are others than ours. */
  #learn(plan: FirewallPlan, input: string, before: ListedTable, after: ListedTable): void {
    if (this.#commands(plan, after) === '') return;
    for (const [name, { rules }] of after.chains) {
      const former = new Set(before.chains.get(name)?.rules.map(({ handle }) => handle));
      const fresh = rules.filter(({ handle }) => !former.has(handle)).map(({ text }) => text);
      const line = new RegExp(
        `^(?:add|insert) rule ip ${NFT_TABLE} ${name} (?:position \\d+ )?(.*)$`,
      );
      const added = input.split('\n').flatMap((command) => line.exec(command)?.[1] ?? []);
      this.#wording.learn(fresh, added);
    }
  }

  #chains(plan: FirewallPlan, dialect: Dialect): readonly NftChain[] {
    return nftChains({ ...plan, randomFully: plan.randomFully && dialect.randomFully });
  }

  #commands(
    plan: FirewallPlan,
    table: ListedTable,
    dialect: Dialect = this.#dialect ?? DIALECTS[0],
  ): string {
    const chains = this.#chains(plan, dialect);
    const commands = nftCommands(chains, table, ownNetworks(plan), dialect, this.#wording);
    return commands.map((command) => `${command}\n`).join('');
  }

  /** False when the table was another than the input is for. */
  async #change(
    plan: FirewallPlan,
    table: ListedTable,
    input: string,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    try {
      await this.#load(input, signal);
      return true;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (this.#commands(plan, await this.#list(signal)) !== input) return false;
      const taken = await this.#firstTaken(plan, table, signal);
      if (taken === undefined) throw error;
      this.#log.warn({ ...taken, reason: messageOf(error) }, 'nft: this machine refuses a feature');
      this.#dialect = taken;
      return true;
    }
  }

  async #firstTaken(
    plan: FirewallPlan,
    table: ListedTable,
    signal: AbortSignal | undefined,
  ): Promise<Dialect | undefined> {
    for (const dialect of this.#dialect === undefined ? DIALECTS.slice(1) : []) {
      try {
        await this.#load(this.#commands(plan, table, dialect), signal);
        return dialect;
      } catch (error) {
        if (!isRefusal(error)) throw error;
      }
    }
    return undefined;
  }

  async #list(signal: AbortSignal | undefined): Promise<ListedTable> {
    try {
      const args = ['-a', 'list', 'table', 'ip', NFT_TABLE];
      return parseListing(await runProgram('nft', args, { prefix: this.#prefix, signal }));
    } catch (error) {
      if (isRefusal(error) && error.message.includes('No such file or directory')) {
        return parseListing('');
      }
      throw error;
    }
  }

  async #load(input: string, signal: AbortSignal | undefined): Promise<void> {
    await runProgram('nft', ['-f', '-'], { prefix: this.#prefix, input, signal });
  }
}

/** nft ran and said no. */
function isRefusal(error: unknown): error is FlannelletteError {
  return error instanceof FlannelletteError && error.field === 'nft' && !isMissing(error);
}
