/**
 * The hand-over to Docker and CNI: a shell-readable file with this host's subnet and MTU.
 *
 * The format is flanneld's to the byte, and a reader never sees half of it. The file stays when the
 * daemon ends, and tells the next run which subnet this host had.
 */
import { firstHost, formatCidr, formatIpv4, parseCidr } from '../config/ipv4.js';
import type { Cidr } from '../config/ipv4.js';
import { errnoOf, messageOf, systemError } from '../errors.js';
import { readRegular } from '../regular-file.js';
import { replaceFile } from './atomic-file.js';

export interface SubnetEnv {
  readonly network: Cidr;
  /** Written as its first host address, 10.5.72.1/24: Docker's `--bip`. */
  readonly subnet: Cidr;
  /** Of the overlay device, in bytes. */
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

/** What an earlier run wrote; undefined when missing, or when any known line makes no sense. */
export async function readSubnetEnv(path: string): Promise<Partial<SubnetEnv> | undefined> {
  try {
    return parseSubnetEnv(await readRegular(path));
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
