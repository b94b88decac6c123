/** ip-route(8): routes as text, which every release prints; `-json` came with 4.13. */
import { execFile } from 'node:child_process';
import {
  formatCidr,
  formatIpv4,
  parseCidr,
  tryParseIpv4,
  type Cidr,
  type Ipv4,
} from '../../config/ipv4.js';
import { errnoOf, messageOf, systemError } from '../../errors.js';

/** Milliseconds; a full Internet table takes a second or two. */
const LIMIT_MS = 10_000;
const MAX_OUTPUT = 64 * 1024 * 1024;

export interface KernelRoute {
  /** As `ip route` prints it. */
  readonly text: string;
  /** `unicast`, `blackhole`, `local`, ... */
  readonly type: string;
  readonly destination: Cidr;
  /** Interface of the first next hop; undefined for a blackhole and the like. */
  readonly device: string | undefined;
  /** `main` unless said. */
  readonly table: string;
}

const TYPES = new Set([
  'anycast',
  'blackhole',
  'broadcast',
  'local',
  'multicast',
  'nat',
  'prohibit',
  'throw',
  'unreachable',
]);

/** The routes of all tables to `network` or a part of it. */
export async function routesWithin(network: Cidr, signal?: AbortSignal): Promise<KernelRoute[]> {
  const argv = ['-4', '-o', 'route', 'show', 'table', 'all', 'root', formatCidr(network)];
  const output = await ip(argv, { signal });
  return output.split('\n').flatMap((line) => parseRoute(line.trim()) ?? []);
}

export function parseRoute(line: string): KernelRoute | undefined {
  const words = line.split(/\s+/);
  const type = TYPES.has(words[0] ?? '') ? (words.shift() ?? '') : 'unicast';
  const [destination = ''] = words;
  if (!/^[\d.]+(?:\/\d+)?$/.test(destination)) return undefined;
  try {
    const text = destination.includes('/') ? destination : `${destination}/32`;
    return {
      text: line.replaceAll(/\s+/g, ' '),
      type,
      destination: parseCidr('route', text),
      device: after(words, 'dev'),
      table: after(words, 'table') ?? 'main',
    };
  } catch {
    return undefined;
  }
}

function after(words: readonly string[], key: string): string | undefined {
  const at = words.indexOf(key);
  return at < 0 ? undefined : words[at + 1];
}

/** By which device and table the kernel would send to an address. */
export interface Way {
  readonly device: string;
  readonly table: string;
}

/** The ways to these addresses; one that the kernel refuses to send to is left out. */
export async function waysTo(
  addresses: readonly Ipv4[],
  signal?: AbortSignal,
): Promise<ReadonlyMap<Ipv4, Way>> {
  const input = addresses.map((address) => `route get ${formatIpv4(address)}\n`).join('');
  const argv = ['-4', '-o', '-force', '-batch', '-'];
  const ways = new Map<Ipv4, Way>();
  if (addresses.length === 0) return ways;
  for (const line of (await ip(argv, { input, signal, accept: 1 })).split('\n')) {
    const words = line.trim().split(/\s+/);
    if (words[0] === 'local') words.shift();
    const address = tryParseIpv4(words[0] ?? '');
    const device = after(words, 'dev');
    if (address === undefined || device === undefined) continue;
    ways.set(address, { device, table: after(words, 'table') ?? 'main' });
  }
  return ways;
}

function refusal(argv: readonly string[], error: Error): Error {
  if (errnoOf(error) === 'ENOENT') {
    return systemError('ip is not installed (Debian package iproute2)', { cause: error });
  }
  return systemError(`ip ${argv.join(' ')}: ${messageOf(error)}`, { cause: error });
}

interface Options {
  readonly input?: string;
  readonly signal?: AbortSignal | undefined;
  /** An exit code besides 0 that is no failure. */
  readonly accept?: number;
}

async function ip(
  argv: readonly string[],
  { input = '', signal, accept }: Options,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      env: { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
      maxBuffer: MAX_OUTPUT,
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL' as const,
      ...(signal && { signal }),
    };
    const child = execFile('ip', argv, options, (error, stdout) => {
      if (error === null || error.code === accept) resolve(stdout);
      else reject(refusal(argv, error));
    });
    child.stdin?.on('error', () => undefined).end(input);
  });
}
