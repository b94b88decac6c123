/**
 * The hand-over to Docker and CNI: a shell-readable file with this host's subnet and MTU.
 *
 * The format is flanneld's to the byte, and a reader never sees half of it. The file stays when the
 * daemon ends, and tells the next run which subnet this host had.
 */
import { unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { firstHost, formatCidr, formatIpv4, parseCidr } from '../config/ipv4.js';
import type { Cidr } from '../config/ipv4.js';
import { errnoOf, messageOf, systemError } from '../errors.js';
import { parseAssignments } from './assignments.js';
import { replaceFile } from './atomic-file.js';
import { readBounded } from './bounded-read.js';

/** Four short lines; people add some of their own. */
const MAX_BYTES = 65_536;

export interface SubnetEnv {
  readonly network: Cidr;
  /** Written as its first host address, 10.5.72.1/24: Docker's `--bip`. */
  readonly subnet: Cidr;
  /** MTU of the overlay device in bytes. */
  readonly mtu: number;
  readonly ipMasq: boolean;
}

export function formatSubnetEnv(env: SubnetEnv): string {
  return [
    `FLANNEL_NETWORK=${formatCidr(env.network)}`,
    `FLANNEL_SUBNET=${formatIpv4(firstHost(env.subnet))}/${env.subnet.prefix}`,
    `FLANNEL_MTU=${env.mtu}`,
    `FLANNEL_IPMASQ=${env.ipMasq}`,
    '',
  ].join('\n');
}

/** Throws a system error naming the path and errno; no temporary file is left then. */
export async function writeSubnetEnv(path: string, env: SubnetEnv): Promise<void> {
  try {
    await replaceFile(path, formatSubnetEnv(env));
    // The one name that version 0.1 used, and left when it was killed.
    await unlink(join(dirname(path), `.${basename(path)}`)).catch(() => undefined);
  } catch (error) {
    const code = errnoOf(error);
    throw systemError(`cannot write the subnet file ${path} (${messageOf(error)})`, {
      ...(code === undefined ? {} : { code }),
      field: '--subnet-file',
      value: path,
      cause: error,
    });
  }
}

/**
 * What an earlier run, or flanneld, wrote; undefined when there is no file or nothing in it is known.
 *
 * @example
 * ```ts
 * const subnet = (await readSubnetEnv('/run/flannel/subnet.env'))?.subnet;
 * ```
 */
export async function readSubnetEnv(path: string): Promise<Partial<SubnetEnv> | undefined> {
  try {
    return parseSubnetEnv((await readBounded(path, { maxBytes: MAX_BYTES })).text);
  } catch {
    return undefined;
  }
}

/**
 * A line that makes no sense is as good as absent: it must not cost this host the subnet another line
 * says. Of lines that say the same twice the last counts, as in a shell.
 */
export function parseSubnetEnv(text: string): Partial<SubnetEnv> | undefined {
  const env: { -readonly [K in keyof SubnetEnv]?: SubnetEnv[K] } = {};
  for (const { name, value } of parseAssignments(text)) {
    if (name === 'FLANNEL_NETWORK' || name === 'FLANNEL_SUBNET') {
      const cidr = firstCidr(value);
      if (cidr !== undefined) env[name === 'FLANNEL_NETWORK' ? 'network' : 'subnet'] = cidr;
    } else if (name === 'FLANNEL_MTU') {
      if (/^\d{1,6}$/.test(value)) env.mtu = Number(value);
    } else if (name === 'FLANNEL_IPMASQ') {
      if (value === 'true' || value === 'false') env.ipMasq = value === 'true';
    }
  }
  return Object.keys(env).length === 0 ? undefined : env;
}

/** flanneld may write several, separated by commas. Host bits are expected: a host's address. */
function firstCidr(text: string): Cidr | undefined {
  try {
    return parseCidr('subnet.env', text.split(',', 1)[0] ?? '', { allowHostBits: true });
  } catch {
    return undefined;
  }
}
