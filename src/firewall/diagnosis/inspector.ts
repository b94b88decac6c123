/**
 * Reads every rule set that the kernel goes through and has it judged.
 *
 *     iptables-save, read anyway ───────┐
 *     the other iptables' save, if any ─┼─> base chains ─> judge ─> problems
 *     nft -j list, other tables only ───┘
 *
 * Programs that are missing leave nothing to judge. Legacy tables are not loaded just to look.
 */
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { formatCidr } from '../../config/ipv4.js';
import type { Problem } from '../../problems.js';
import { TAILSCALE_RANGE, tailscaleCommand, tailscaleGuard } from '../exceptions.js';
import { programEnvironment, runProgram } from '../run-program.js';
import { NFT_TABLE } from '../rules.js';
import { areSameTables, readSaved, type SavedTables } from '../saved.js';
import { givesMarks, iptablesBaseChains } from './iptables-rules.js';
import { hidesContainers, judge } from './judge.js';
import type { BaseChain, Program } from './model.js';
import { hookedTables, nftBaseChains, nftGivesMarks } from './nftables-rules.js';
import type { Tools } from './remedies.js';
import type { Overlay } from './sample-traffic.js';

/** Milliseconds that tables of nftables count as unchanged without a notification. */
const NFT_AGE_MS = 30_000;
/** Bytes of one table of nftables; a larger one is not judged. */
const LARGEST_LISTING = 2 * 1024 * 1024;

export interface Inspection {
  readonly problems: readonly Problem[];
  /** What containers send to other hosts may get an address of this host. */
  readonly masquerades: boolean;
}

interface Read {
  readonly chains: readonly BaseChain[];
  readonly marks: boolean;
}

const NOTHING: Read = { chains: [], marks: false };

export class FirewallInspector {
  readonly #prefix: readonly string[];
  #tools: Tools | undefined;
  /** The machine's iptables works on nf_tables; undefined until asked. */
  #onNft: boolean | undefined;
  #nft: Read = NOTHING;
  #nftReadAt = Number.NEGATIVE_INFINITY;

  /** `prefix` goes before each command line. */
  constructor(prefix: readonly string[] = []) {
    this.#prefix = prefix;
  }

  /** Tables of nftables are read again at the next inspection. */
  rulesChanged(): void {
    this.#nftReadAt = Number.NEGATIVE_INFINITY;
  }

  /** `saved`: what iptables-save printed, where it has been read. */
  async inspect(
    overlay: Overlay,
    saved: SavedTables | undefined,
    signal?: AbortSignal,
  ): Promise<Inspection> {
    const own = saved ?? (await this.#saved('iptables', signal));
    const other = await this.#otherIptables(own, signal);
    const managed = other?.program === 'iptables-nft' ? other.tables : own;
    await this.#readNft(managed, signal);
    const reads: Read[] = [
      readOf(own, 'iptables'),
      other === undefined ? NOTHING : readOf(other.tables, other.program),
      this.#nft,
    ];
    const rules = {
      chains: reads.flatMap(({ chains }) => chains),
      mark: reads.some(({ marks }) => marks) ? undefined : (0 as const),
    };
    this.#tools ??= await installedTools();
    const problems = await judge(rules, overlay, this.#tools);
    return {
      problems: [...tailscale(own, overlay), ...problems],
      masquerades: hidesContainers(rules, overlay),
    };
  }

  async #saved(program: Exclude<Program, 'nft'>, signal?: AbortSignal): Promise<SavedTables> {
    return readSaved(await this.#run(`${program}-save`, [], signal));
  }

  /** Empty when it fails. */
  async #run(program: string, args: readonly string[], signal?: AbortSignal): Promise<string> {
    try {
      return await runProgram(program, args, { prefix: this.#prefix, signal });
    } catch {
      signal?.throwIfAborted();
      return '';
    }
  }

  /** The tables of the kernel's other iptables, that this machine's programs do not show. */
  async #otherIptables(
    own: SavedTables,
    signal?: AbortSignal,
  ): Promise<{ program: Exclude<Program, 'nft'>; tables: SavedTables } | undefined> {
    this.#onNft ??= (await this.#run('iptables', ['--version'], signal)).includes('nf_tables');
    if (this.#onNft && !(await this.#hasLegacyTables())) return undefined;
    const program = this.#onNft ? ('iptables-legacy' as const) : ('iptables-nft' as const);
    const tables = await this.#saved(program, signal);
    // A wrapper named iptables may hide which of the two it is.
    return areSameTables(own, tables) ? undefined : { program, tables };
  }

  /** For our own network namespace; behind a prefix the program itself is asked. */
  async #hasLegacyTables(): Promise<boolean> {
    if (this.#prefix.length > 0) return true;
    const names = await readFile('/proc/self/net/ip_tables_names', 'utf8').catch(() => '');
    return names.trim() !== '';
  }

  async #readNft(managed: SavedTables, signal?: AbortSignal): Promise<void> {
    if (performance.now() - this.#nftReadAt < NFT_AGE_MS) return;
    this.#nftReadAt = performance.now();
    this.#nft = await this.#listNft(managed, signal);
  }

  /** With its sets where that is not too much, else without; empty when even that is. */
  async #listTable(family: string, name: string, signal?: AbortSignal): Promise<string> {
    for (const terse of [[], ['-t']]) {
      const args = ['-j', ...terse, 'list', 'table', family, name];
      const text = await this.#run('nft', args, signal);
      if (text.length <= LARGEST_LISTING) return text;
    }
    return '';
  }

  async #listNft(managed: SavedTables, signal?: AbortSignal): Promise<Read> {
    const chains: BaseChain[] = [];
    let marks = false;
    try {
      const listing = await this.#run('nft', ['-j', 'list', 'chains'], signal);
      for (const table of listing === '' ? [] : hookedTables(listing)) {
        const [family = '', name = ''] = table.split(' ');
        const isIptables = family === 'ip' && managed.has(name);
        if (isIptables || name === NFT_TABLE) continue;
        const text = await this.#listTable(family, name, signal);
        if (text === '') continue;
        chains.push(...nftBaseChains(text));
        marks ||= nftGivesMarks(text);
        await nextTurn();
      }
    } catch (error) {
      // No JSON: nothing can be said of these tables.
      if (!(error instanceof SyntaxError)) throw error;
    }
    return { chains, marks };
  }
}

function readOf(tables: SavedTables, program: Exclude<Program, 'nft'>): Read {
  return { chains: iptablesBaseChains(tables, program), marks: givesMarks(tables) };
}

/** Tailscale numbers its own hosts from this Network's range, whatever its rules do. */
function tailscale(tables: SavedTables, { network }: Overlay): Problem[] {
  const known = tailscaleGuard(tables, network);
  if (known === undefined) return [];
  const found =
    `Tailscale takes ${formatCidr(TAILSCALE_RANGE)} as its own ("-A ${known.guard}"), and Network ` +
    `${formatCidr(network)} overlaps it`;
  if (!known.excepted) {
    const message = `${found}: what containers of other nodes send to this host is dropped, answers as well`;
    return [{ id: 'tailscale_range', message, remedy: tailscaleCommand(network, 'iptables') }];
  }
  const message =
    `${found}: what comes out of the overlay is excepted from that rule, but containers may have ` +
    'addresses of hosts of the tailnet; better is a Network outside of that range';
  return [{ id: 'tailscale_range', message }];
}

async function installedTools(): Promise<Tools> {
  const path = (programEnvironment().PATH ?? '').split(delimiter).filter((entry) => entry !== '');
  const has = async (program: string): Promise<boolean> => {
    const found = await Promise.all(path.map((entry) => exists(join(entry, program))));
    return found.includes(true);
  };
  return { firewallCmd: await has('firewall-cmd'), ufw: await has('ufw') };
}

async function exists(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  );
}
