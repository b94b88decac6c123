/**
 * The hand-over to Docker and CNI: a shell-readable file with this host's subnet and MTU.
 *
 * The format is flanneld's to the byte. The file is written beside its place and renamed over it, so
 * a reader sees the old or the new one, never half. It stays when the daemon ends, and tells the
 * next run which subnet this host had.
 */
import { mkdir, open, readFile, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { firstHost, formatCidr, formatIpv4, parseCidr } from '../config/ipv4.js';
import type { Cidr } from '../config/ipv4.js';
import { errnoOf, messageOf, systemError } from '../errors.js';

export interface SubnetEnv {
  readonly network: Cidr;
  /** Written as its first host address, 10.5.72.1/24: Docker's `--bip`. */
  readonly subnet: Cidr;
  /** Of the overlay device, in bytes. */
  readonly mtu: number;
  readonly ipMasq: boolean;
}

const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;

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
  // A fixed name, as flanneld's: what a killed run left is written over, not added to.
  const temporary = join(dirname(path), `.${basename(path)}`);
  let opened = false;
  try {
    await mkdir(dirname(path), { recursive: true, mode: DIRECTORY_MODE });
    const file = await open(temporary, 'w', FILE_MODE);
    opened = true;
    try {
      await file.chmod(FILE_MODE);
      await file.writeFile(formatSubnetEnv(env));
      // A full disk may speak only now; and the name must not outlive the content in a crash.
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    if (opened) await unlink(temporary).catch(() => undefined);
    const code = errnoOf(error);
    throw systemError(`cannot write the subnet file ${path} (${messageOf(error)})`, {
      ...(code === undefined ? {} : { code }),
      field: '--subnet-file',
      value: path,
      cause: error,
    });
  }
}

/** What an earlier run wrote; undefined when missing, or when any known line makes no sense. */
export async function readSubnetEnv(path: string): Promise<Partial<SubnetEnv> | undefined> {
  try {
    return parseSubnetEnv(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
}

export function parseSubnetEnv(text: string): Partial<SubnetEnv> | undefined {
  let network: Cidr | undefined;
  let subnet: Cidr | undefined;
  let mtu: number | undefined;
  let ipMasq: boolean | undefined;
  for (const line of text.split('\n')) {
    const [, name, value = ''] = /^\s*(FLANNEL_[A-Z0-9_]+)=(.*?)\s*$/.exec(line) ?? [];
    if (name === 'FLANNEL_NETWORK') {
      network = tryParseCidr(value);
      if (network === undefined) return undefined;
    } else if (name === 'FLANNEL_SUBNET') {
      subnet = tryParseCidr(value);
      if (subnet === undefined) return undefined;
    } else if (name === 'FLANNEL_MTU') {
      if (!/^\d{1,6}$/.test(value)) return undefined;
      mtu = Number(value);
    } else if (name === 'FLANNEL_IPMASQ') {
      if (value !== 'true' && value !== 'false') return undefined;
      ipMasq = value === 'true';
    }
  }
  const env: Partial<SubnetEnv> = {
    ...(network === undefined ? {} : { network }),
    ...(subnet === undefined ? {} : { subnet }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(ipMasq === undefined ? {} : { ipMasq }),
  };
  return Object.keys(env).length === 0 ? undefined : env;
}

/** Host bits are expected: FLANNEL_SUBNET is a host address. */
function tryParseCidr(text: string): Cidr | undefined {
  try {
    return parseCidr('subnet.env', text, { allowHostBits: true });
  } catch {
    return undefined;
  }
}
