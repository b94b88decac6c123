/**
 * flanneld's rules by iptables(8), legacy or nf_tables: whichever the machine's programs are.
 *
 *     iptables-save ──> our rules and jumps as they are ──┐ equal: nothing to do
 *     plan ──> our rules and jumps as they should be ─────┴ else: one iptables-restore --noflush,
 *                                                           then read back
 *
 * iptables-save runs without `-t`: it then prints the tables that are there and, with legacy
 * iptables, does not load the nat module (and with it connection tracking) just to look.
 */
import { FlannelletteError, messageOf, systemError } from '../errors.js';
import type { Logger } from '../log.js';
import { exceptionLines } from './exceptions.js';
import type { Firewall } from './firewall-interface.js';
import { chainState, isInPlace, repairLines, type ChainState } from './iptables-state.js';
import { isMissing, runProgram, type ProgramOptions } from './run-program.js';
import {
  iptablesChains,
  isEmptyPlan,
  ownNetworks,
  type FirewallPlan,
  type OwnChain,
} from './rules.js';
import { readSaved, type SavedTables } from './saved.js';
import { Wording } from './wording.js';

/** The first release with MASQUERADE --random-fully and iptables-restore --wait. */
const RECENT = [1, 6, 2] as const;
/** Seconds to wait for the lock of legacy iptables; within program.ts's limit. */
const LOCK_SECONDS = 5;
/** Another daemon may change the chains between our look and our change. */
const ATTEMPTS = 3;

/** `iptables` is what the machine's alternatives point to. */
export type IptablesPrograms = 'iptables' | 'iptables-legacy' | 'iptables-nft';

interface Found {
  readonly chain: OwnChain;
  readonly state: ChainState;
}

export class IptablesFirewall implements Firewall {
  readonly kind = 'iptables';
  readonly #log: Logger;
  readonly #prefix: readonly string[];
  readonly #programs: IptablesPrograms;
  readonly #wording = new Wording();
  #saved: SavedTables | undefined;
  /** Undefined until asked. */
  #recent: boolean | undefined;
  /** False once the machine has refused --random-fully. */
  #randomFully = true;

  /** `prefix` goes before each command line. */
  constructor(
    log: Logger,
    prefix: readonly string[] = [],
    programs: IptablesPrograms = 'iptables',
  ) {
    this.#log = log;
    this.#prefix = prefix;
    this.#programs = programs;
  }

  get saved(): SavedTables | undefined {
    return this.#saved;
  }

  async apply(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean> {
    this.#saved = undefined;
    const randomFully = plan.masquerade && plan.randomFully && (await this.#random(signal));
    try {
      return await this.#make({ ...plan, randomFully }, signal);
    } catch (error) {
      if (isEmptyPlan(plan) && isMissing(error)) return false;
      if (!randomFully || !this.#isRefusal(error)) throw error;
      // Perhaps refused for --random-fully: only then does it go through without.
      const changed = await this.#make({ ...plan, randomFully: false }, signal);
      this.#withoutRandom(messageOf(error));
      return changed;
    }
  }

  async clean(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean> {
    return this.#make({ ...plan, masquerade: false, forward: false }, signal);
  }

  async #make(plan: FirewallPlan, signal: AbortSignal | undefined): Promise<boolean> {
    for (let attempt = 1; ; attempt += 1) {
      const found = await this.#look(plan, signal);
      const input = this.#repair(plan, found);
      if (input.length === 0) return attempt > 1;
      if (!(await this.#restore(plan, input, signal)) && attempt < ATTEMPTS) continue;
      const after = await this.#learn(plan, input, found, signal);
      if (this.#repair(plan, after).length === 0) {
        this.#tell(found, input);
        return true;
      }
      if (attempt === ATTEMPTS) throw this.#unchanged(after);
    }
  }

  /** Looks at what a change has made, and learns this machine's words for it. */
  async #learn(
    plan: FirewallPlan,
    input: readonly string[],
    before: readonly Found[],
    signal: AbortSignal | undefined,
  ): Promise<readonly Found[]> {
    const after = await this.#look(plan, signal);
    const wrong = after.filter(({ chain, state }) => chain.wanted && !isInPlace(chain, state));
    const learnt = wrong.map(({ chain, state }) => {
      const former = before.find((found) => found.chain.name === chain.name)?.state.rules ?? [];
      const deleted = input.flatMap((line) => (line.startsWith('-D ') ? [line.slice(3)] : []));
      const kept = without(textsOf(former), deleted);
      return this.#wording.learn(without(textsOf(state.rules), kept), addedTo(chain.name, input));
    });
    return learnt.includes(true) ? this.#look(plan, signal) : after;
  }

  /** False when the rules were others than the input is for: it has to be made again. */
  async #restore(
    plan: FirewallPlan,
    input: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    try {
      await this.#load(input, signal);
      return true;
    } catch (error) {
      // One line that names what is not there any more spoils the whole input.
      const found = await this.#look(plan, signal);
      if (input.join() !== this.#repair(plan, found).join()) return false;
      // Releases before 1.6.2 do not delete by its text a rule that a later one made.
      const flushing = this.#repair(plan, found, 'flush');
      if (!this.#isRefusal(error) || input.join() === flushing.join()) throw error;
      await this.#load(flushing, signal);
      return true;
    }
  }

  async #look(plan: FirewallPlan, signal: AbortSignal | undefined): Promise<readonly Found[]> {
    const tables = await readSaved(await this.#run('-save', [], { signal }));
    this.#saved = tables;
    return iptablesChains(plan).map((chain) => ({
      chain,
      state: chainState(tables, chain, ownNetworks(plan), this.#wording),
    }));
  }

  /** Input for iptables-restore; empty when everything is as it should be. */
  #repair(plan: FirewallPlan, found: readonly Found[], how?: 'flush'): string[] {
    const lines = new Map<string, string[]>();
    for (const { chain, state } of found) {
      if (!isInPlace(chain, state)) lines.set(chain.table, repairLines(chain, state, how));
    }
    const exception = this.#saved === undefined ? [] : exceptionLines(this.#saved, plan);
    if (exception.length > 0) lines.set('filter', [...(lines.get('filter') ?? []), ...exception]);
    return [...lines].flatMap(([table, body]) => [`*${table}`, ...body, 'COMMIT']);
  }

  async #load(input: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const wait = (await this.#isRecent(signal)) ? [`--wait=${LOCK_SECONDS}`] : [];
    const text = `${input.join('\n')}\n`;
    await this.#run('-restore', ['--noflush', ...wait], { input: text, signal });
  }

  /** What an operator would wonder about: rules of ours in front of rules of theirs. */
  #tell(before: readonly Found[], input: readonly string[]): void {
    for (const { chain, state } of before) {
      const { place, catchAll } = state;
      if (!chain.wanted || place.kind === 'anywhere' || catchAll === undefined) continue;
      this.#log.warn(
        { rule: `-A ${catchAll.rule}`, jump: chain.name },
        `a rule of ${chain.hook} refuses everything before ${chain.name} is reached: ` +
          `the jump to ${chain.name} now stands before it`,
      );
    }
    for (const rule of input.filter((line) => /^-I (?:ts-input|DOCKER) /.test(line))) {
      this.#log.warn({ rule }, 'the overlay is excepted from rules of another program');
    }
  }

  #unchanged(found: readonly Found[]): Error {
    const wrong = found.find(({ chain, state }) => !isInPlace(chain, state));
    const where =
      wrong === undefined
        ? 'an exception in table filter'
        : `chain ${wrong.chain.name} of table ${wrong.chain.table}`;
    return systemError(
      `${this.#programs}: ${where} is not as it was just made: another program changes it, or ` +
        'iptables-save and iptables-restore are of different kinds',
    );
  }

  async #random(signal: AbortSignal | undefined): Promise<boolean> {
    if (this.#randomFully && !(await this.#isRecent(signal))) {
      this.#withoutRandom('iptables is older than 1.6.2');
    }
    return this.#randomFully;
  }

  #withoutRandom(reason: string): void {
    this.#randomFully = false;
    this.#log.warn({ reason }, 'masquerading without --random-fully: this machine refuses it');
  }

  async #isRecent(signal: AbortSignal | undefined): Promise<boolean> {
    this.#recent ??= isRecent(await this.#run('', ['--version'], { signal }));
    return this.#recent;
  }

  async #run(
    suffix: '' | '-save' | '-restore',
    args: readonly string[],
    options: ProgramOptions,
  ): Promise<string> {
    return runProgram(`${this.#programs}${suffix}`, args, { ...options, prefix: this.#prefix });
  }

  /** iptables-restore ran and said no, to something other than the wait for its lock. */
  #isRefusal(error: unknown): boolean {
    return (
      error instanceof FlannelletteError &&
      error.field === `${this.#programs}-restore` &&
      !isMissing(error) &&
      !error.message.includes('xtables lock')
    );
  }
}

function textsOf(rules: ChainState['rules']): string[] {
  return rules.map(({ text }) => text);
}

/** What is left of a list when each of `taken` is taken out once. */
function without(list: readonly string[], taken: readonly string[]): string[] {
  const left = [...taken];
  return list.filter((text) => {
    const at = left.indexOf(text);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

/** The rules that input for iptables-restore puts into a chain, as after `-A`. */
function addedTo(chain: string, input: readonly string[]): string[] {
  const line = new RegExp(`^-(?:A ${chain}|I ${chain} \\d+) (.*)$`);
  return input.flatMap((text) => {
    const rule = line.exec(text)?.[1];
    return rule === undefined ? [] : [`${chain} ${rule}`];
  });
}

/** From `iptables v1.8.9 (nf_tables)`: 1.6.2 or later. */
function isRecent(version: string): boolean {
  const [, ...parts] = /v(\d+)\.(\d+)\.(\d+)/.exec(version) ?? [];
  const found = parts.map(Number);
  const differs = RECENT.findIndex((part, index) => part !== found[index]);
  return differs < 0 || (found[differs] ?? 0) > (RECENT[differs] ?? 0);
}
