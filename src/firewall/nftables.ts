/**
 * flanneld's rules by nft(8): a table of our own, `ip flannel-ipv4`.
 *
 * The table is ours alone, so it is compared and replaced as a whole: `nft list table`, and when
 * that differs one `nft -f -`, which the kernel takes as a whole or not at all. The table is
 * deleted and made again in it (`add` first, so that `delete` finds one); no packet sees it absent.
 * Comments are set but not compared: kernels before 5.10 forget them.
 */
import { FlannelletteError, messageOf, systemError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Firewall } from './interface.js';
import { isMissing, runProgram } from './program.js';
import { isEmptyPlan, NFT_TABLE, nftTable, type FirewallPlan } from './rules.js';
import { Wording } from './wording.js';

/** Something a machine may refuse and the rules work without; tried in this order. */
interface Dialect {
  /** Comments on table and chains: nft 0.9.7. */
  readonly comments: boolean;
  readonly randomFully: boolean;
}
const DIALECTS: readonly [Dialect, ...Dialect[]] = [
  { comments: true, randomFully: true },
  { comments: false, randomFully: true },
  { comments: true, randomFully: false },
  { comments: false, randomFully: false },
];

const REMOVAL = `add table ip ${NFT_TABLE}\ndelete table ip ${NFT_TABLE}\n`;

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
    if (isEmptyPlan(plan)) return this.#removeIfAny(signal);
    const listing = rulesOf(await this.#list(signal));
    const [first, ...others] = this.#dialect === undefined ? DIALECTS : [this.#dialect];
    if (this.#wording.matches(rulesOf(inDialect(plan, first)), listing)) return false;
    try {
      await this.#replace(plan, first, signal);
    } catch (error) {
      const taken = isRefusal(error) && (await this.#firstTaken(plan, others, signal));
      if (!taken) throw error;
      this.#log.warn({ ...taken, reason: messageOf(error) }, 'nft: this machine refuses a feature');
      this.#dialect = taken;
    }
    return true;
  }

  async clean(signal?: AbortSignal): Promise<void> {
    if ((await this.#list(signal)) !== '') await this.#load(REMOVAL, signal);
  }

  async #removeIfAny(signal: AbortSignal | undefined): Promise<boolean> {
    try {
      if ((await this.#list(signal)) === '') return false;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
    await this.#load(REMOVAL, signal);
    return true;
  }

  async #firstTaken(
    plan: FirewallPlan,
    dialects: readonly Dialect[],
    signal: AbortSignal | undefined,
  ): Promise<Dialect | undefined> {
    for (const dialect of dialects) {
      try {
        await this.#replace(plan, dialect, signal);
        return dialect;
      } catch (error) {
        if (!isRefusal(error)) throw error;
      }
    }
    return undefined;
  }

  async #replace(
    plan: FirewallPlan,
    dialect: Dialect,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const table = inDialect(plan, dialect);
    await this.#load(`${REMOVAL}${table}`, signal);
    const printed = rulesOf(await this.#list(signal));
    if (this.#wording.learn(rulesOf(table), printed)) return;
    throw systemError(
      `nft: table ${NFT_TABLE} is not as it was just made: another program changes it`,
    );
  }

  /** What nft prints of our table; empty when there is none. */
  async #list(signal: AbortSignal | undefined): Promise<string> {
    try {
      const args = ['list', 'table', 'ip', NFT_TABLE];
      return await runProgram('nft', args, { prefix: this.#prefix, signal });
    } catch (error) {
      if (isRefusal(error) && error.message.includes('No such file or directory')) return '';
      throw error;
    }
  }

  async #load(input: string, signal: AbortSignal | undefined): Promise<void> {
    await runProgram('nft', ['-f', '-'], { prefix: this.#prefix, input, signal });
  }
}

function inDialect(plan: FirewallPlan, { comments, randomFully }: Dialect): string {
  const table = nftTable({ ...plan, randomFully: plan.randomFully && randomFully });
  return comments ? table : table.replaceAll(COMMENT, '');
}

/** A comment of a table or chain, on a line of its own. */
const COMMENT = /^\s*comment ".*"\n/gm;

/** The lines that take effect. */
function rulesOf(table: string): string[] {
  const lines = table.replaceAll(COMMENT, '').split('\n');
  return lines.map((line) => line.trim()).filter((line) => line !== '');
}

/** nft ran and said no. */
function isRefusal(error: unknown): error is FlannelletteError {
  return error instanceof FlannelletteError && error.field === 'nft' && !isMissing(error);
}
