/**
 * What flanneld's extension backend hands to its commands (flannel v0.28, pkg/backend/extension):
 *
 *   PreStartupCommand    -> nothing; what it prints, on both streams, becomes the lease's BackendData
 *   PostStartupCommand   -> NETWORK, SUBNET and PUBLIC_IP of this host
 *   SubnetAddCommand,
 *   SubnetRemoveCommand  -> SUBNET and PUBLIC_IP of the other host, its BackendData on standard input
 *
 * A command line is split at white space and runs without a shell; $VAR in it is expanded. Nothing is
 * run when flanneld ends. IPV6SUBNET and PUBLIC_IPV6 are set as well and mean nothing here.
 */
import { isObject } from '../config/json.js';
import {
  formatCidr,
  formatIpv4,
  parseCidr,
  parseIpv4,
  type Cidr,
  type Ipv4,
} from '../config/ipv4.js';
import { inputError } from '../errors.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Who holds a subnet. */
export interface Holder {
  readonly subnet: Cidr;
  readonly publicIp: Ipv4;
}

/** This host, as PostStartupCommand is told of it. */
export interface OwnNetwork extends Holder {
  readonly network: Cidr;
}

const PROGRAM = 'flannelette';

/** Throws an input error that names the variable. */
export function readOwnNetwork(env: Environment): OwnNetwork {
  const text = required(env, 'NETWORK', '100.96.0.0/16');
  const network = parseCidr('NETWORK', text, { allowHostBits: true });
  return { network, ...readHolder(env) };
}

/** Throws an input error that names the variable. */
export function readHolder(env: Environment): Holder {
  return {
    subnet: parseCidr('SUBNET', required(env, 'SUBNET', '100.96.1.0/24')),
    publicIp: parseIpv4('PUBLIC_IP', required(env, 'PUBLIC_IP', '10.168.0.2')),
  };
}

function required(env: Environment, name: string, example: string): string {
  const text = env[name];
  if (text === undefined || text === '') {
    throw inputError(name, text, `the variable that flanneld sets, e.g. ${example}`);
  }
  return text;
}

export function showHolder({ subnet, publicIp }: Holder): string {
  return `${formatCidr(subnet)} via ${formatIpv4(publicIp)}`;
}

/** What PreStartupCommand prints: the same for as long as the tunnel is the same. */
export function backendData(udpPort: number): string {
  return JSON.stringify({ dataPlane: PROGRAM, udpPort });
}

/**
 * Throws an input error when the other host's BackendData says that packets for it would be lost. Empty
 * is taken: a call by hand. Lines around ours are another program's warnings.
 */
export function checkBackendData(text: string, udpPort: number): void {
  if (text.trim() === '') return;
  const ours = text.split('\n').map(parseLine).find(isOurs);
  if (ours === undefined) {
    throw inputError(
      'BackendData (standard input)',
      text.trim(),
      `what flannelette extension up prints, ${backendData(udpPort)}: the other host has another data plane`,
    );
  }
  if (ours.udpPort !== udpPort) {
    throw inputError(
      'BackendData (standard input), udpPort',
      ours.udpPort,
      `${udpPort}, the port of this host: give flannelette extension up the same --port on both`,
    );
  }
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function isOurs(value: unknown): value is { readonly udpPort?: unknown } {
  return isObject(value) && value['dataPlane'] === PROGRAM;
}
