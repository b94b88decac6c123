/**
 * flanneld's rules by iptables(8), legacy or nf_tables: whichever the machine's programs are.
 *
 *     iptables-save ──> our chains and jumps as they are ──┐ equal: nothing to do
 *     plan ──> our chains and jumps as they should be ─────┴ else: one iptables-restore --noflush,
 *                                                            then read back
 *
 * iptables-save runs without `-t`: it then prints the tables that are there and, with legacy
 * iptables, does not load the nat module (and with it connection tracking) just to look.
 */
import type { Cidr } from '../config/ipv4.js';
import { FlannelletteError, messageOf, systemError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Firewall } from './interface.js';
import { chainState, isInPlace, repairLines } from './iptables-state.js';
import { isMissing, runProgram, type ProgramOptions } from './program.js';
import { iptablesChains, isEmptyPlan, type FirewallPlan, type OwnChain } from './rules.js';
import { Wording } from './wording.js';

/** The first release with MASQUERADE --random-fully and iptables-restore --wait. */
const RECENT = [1, 6, 2] as const;
/** Seconds to wait for the lock of legacy iptables; within program.ts's limit. */
const LOCK_SECONDS = 5;

export class IptablesFirewall implements Firewall {
  readonly kind = 'iptables';
  readonly #log: Logger;
  readonly #prefix: readonly string[];
  readonly #wording = new Wording();
  /** Undefined until asked. */
  #recent: boolean | undefined;
  /** False once the machine has refused --random-fully. */
  #randomFully = true;

  /** `prefix` goes before each command line. */
  constructor(log: Logger, prefix: readonly string[] = []) {
    this.#log = log;
    this.#prefix = prefix;
  }

  async apply(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean> {
    const randomFully = plan.masquerade && plan.randomFully && (await this.#random(signal));
    try {
      return await this.#make({ ...plan, randomFully }, signal);
    } catch (error) {
      if (isEmptyPlan(plan) && isMissing(error)) return false;
      if (!randomFully || !isRefusal(error)) throw error;
      // Perhaps refused for --random-fully: only then does it go through without.
      const changed = await this.#make({ ...plan, randomFully: false }, signal);
      this.#withoutRandom(messageOf(error));
      return changed;
    }
  }

  async clean(signal?: AbortSignal): Promise<void> {
    await this.#make(NOTHING, signal);
  }

  async #make(plan: FirewallPlan, signal: AbortSignal | undefined): Promise<boolean> {
    const saved = await this.#run('iptables-save', [], { signal });
    const different = iptablesChains(plan)
      .map((chain) => ({ chain, state: chainState(saved, chain) }))
      .filter(({ chain, state }) => !isInPlace(chain, state, this.#wording));
    if (different.length === 0) return false;
    const input = different.flatMap(({ chain, state }) => repairLines(chain, state));
    const wait = (await this.#isRecent(signal)) ? [`--wait=${LOCK_SECONDS}`] : [];
    await this.#run('iptables-restore', ['--noflush', ...wait], {
      input: `${input.join('\n')}\n`,
      signal,
    });
    await this.#readBack(
      different.map(({ chain }) => chain),
      signal,
    );
    return true;
  }

  async #readBack(chains: readonly OwnChain[], signal: AbortSignal | undefined): Promise<void> {
    const saved = await this.#run('iptables-save', [], { signal });
    for (const chain of chains) {
      const state = chainState(saved, chain);
      if (chain.wanted) this.#wording.learn(chain.rules, state.rules);
      if (isInPlace(chain, state, this.#wording)) continue;
      throw systemError(
        `iptables: chain ${chain.name} of table ${chain.table} is not as it was just made: another ` +
          'program changes it, or iptables-save and iptables-restore are of different kinds',
      );
    }
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
    this.#recent ??= isRecent(await this.#run('iptables', ['--version'], { signal }));
    return this.#recent;
  }

  async #run(program: string, args: readonly string[], options: ProgramOptions): Promise<string> {
    return runProgram(program, args, { ...options, prefix: this.#prefix });
  }
}

const ANY: Cidr = { network: 0, prefix: 0 };
const NOTHING: FirewallPlan = {
  network: ANY,
  subnet: ANY,
  masquerade: false,
  forward: false,
  randomFully: false,
};

/** iptables-restore ran and said no, to something other than the wait for its lock. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof FlannelletteError &&
    error.field === 'iptables-restore' &&
    !isMissing(error) &&
    !error.message.includes('xtables lock')
  );
}

/** From `iptables v1.8.9 (nf_tables)`: 1.6.2 or later. */
function isRecent(version: string): boolean {
  const [, ...parts] = /v(\d+)\.(\d+)\.(\d+)/.exec(version) ?? [];
  const found = parts.map(Number);
  const differs = RECENT.findIndex((part, index) => part !== found[index]);
  return differs < 0 || (found[differs] ?? 0) > (RECENT[differs] ?? 0);
}
