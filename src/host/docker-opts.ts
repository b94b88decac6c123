/**
 * Docker's options out of the subnet file, as flannel's dist/mk-docker-opts.sh writes them: a file
 * of shell assignments that a systemd unit of Docker reads as its EnvironmentFile.
 *
 *   FLANNEL_SUBNET=100.96.1.1/24        DOCKER_OPT_BIP="--bip=100.96.1.1/24"
 *   FLANNEL_MTU=1472              ->    DOCKER_OPT_IPMASQ="--ip-masq=true"
 *   FLANNEL_IPMASQ=false                DOCKER_OPT_MTU="--mtu=1472"
 *                                       DOCKER_OPTS=" --bip=100.96.1.1/24 --ip-masq=true --mtu=1472"
 *
 * One of the two masquerades: Docker does when the daemon does not, hence the opposite values.
 *
 * The output is that of the script of v0.28 to the byte; that of its bash ancestors (up to v0.7)
 * had a space at the end of the last line. Where the script takes apart a DOCKER_OPT_ value with a
 * space in it, or stumbles over line ends of Windows, we do not.
 */
import { formatCidr, formatIpv4, parseCidr, type Cidr } from '../config/ipv4.js';
import { errnoOf, inputError, messageOf, systemError } from '../errors.js';
import { parseAssignments } from './assignments.js';
import { writeOutput } from './atomic-file.js';
import { readBounded } from './bounded-read.js';

/** As of subnet.env; variables of others may stand there. */
const MAX_BYTES = 65_536;

/** What the options are made of. */
export interface DockerSource {
  /** As in FLANNEL_SUBNET; Docker gets the text, whose host bits are its bridge's address. */
  readonly subnet: Cidr | undefined;
  /** The environment and over it the subnet file, by name. */
  readonly variables: ReadonlyMap<string, string>;
  /** What is left out, for want of a value or of the file: a line each. */
  readonly missing: readonly string[];
}

export interface DockerOptsStyle {
  /** A variable for each option: DOCKER_OPT_BIP, DOCKER_OPT_IPMASQ, DOCKER_OPT_MTU. */
  readonly individual: boolean;
  /** One variable with all of them. */
  readonly combined: boolean;
  /** Name of that variable. */
  readonly combinedKey: string;
  /** Without `--ip-masq`, for a Docker too old to know it. */
  readonly omitIpMasq: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Without the file, or a value in it, the options are left out, as by the script. Throws an error that
 * names `--subnet-file`, the path and what is wrong with a file or value that is there.
 */
export async function readDockerSource(
  path: string,
  omitIpMasq: boolean,
  env: Environment = {},
): Promise<DockerSource> {
  let text: string;
  try {
    ({ text } = await readBounded(path, { maxBytes: MAX_BYTES }));
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT') {
      const missing = `--subnet-file: there is no ${path}: flannelette run writes it once it has a lease`;
      const source = parseDockerSource('', `--subnet-file ${path}`, omitIpMasq, env);
      return { ...source, missing: [missing, ...source.missing] };
    }
    throw systemError(
      `--subnet-file: cannot read ${path} (${messageOf(error)}): expected a readable file of FLANNEL_ lines`,
      {
        ...(code === undefined ? {} : { code }),
        field: '--subnet-file',
        value: path,
        cause: error,
      },
    );
  }
  return parseDockerSource(text, `--subnet-file ${path}`, omitIpMasq, env);
}

/** `where` is the field in errors. */
function parseDockerSource(
  text: string,
  where: string,
  omitIpMasq: boolean,
  env: Environment,
): DockerSource {
  const variables = new Map<string, string>();
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined) variables.set(name, value);
  }
  for (const { name, value } of parseAssignments(text)) variables.set(name, value);
  const missing: string[] = [];
  const valueOf = (name: string, option: string): string | undefined => {
    const value = variables.get(name) ?? '';
    if (value !== '') return value;
    missing.push(`${where}: ${name} is missing: ${option} is left out`);
    return undefined;
  };
  const check = (name: string, value: string, good: boolean, expected: string): void => {
    if (!good) throw inputError(`${where}: ${name}`, value, expected);
  };
  const subnet = valueOf('FLANNEL_SUBNET', '--bip');
  const mtu = valueOf('FLANNEL_MTU', '--mtu');
  const ipMasq = omitIpMasq ? undefined : valueOf('FLANNEL_IPMASQ', '--ip-masq');
  const cidr =
    subnet === undefined
      ? undefined
      : parseCidr(`${where}: FLANNEL_SUBNET`, subnet, { allowHostBits: true });
  if (mtu !== undefined) {
    check('FLANNEL_MTU', mtu, /^[1-9]\d{0,5}$/.test(mtu), 'a number of bytes such as 1472');
  }
  if (ipMasq !== undefined) {
    check('FLANNEL_IPMASQ', ipMasq, ipMasq === 'true' || ipMasq === 'false', 'true or false');
  }
  return { subnet: cidr, variables, missing };
}

/**
 * The file's text. As in the script, variables DOCKER_OPT_... and the combined one that are set
 * already, in the environment or in the subnet file, are kept: options of ours are added to them.
 */
export function formatDockerOpts(source: DockerSource, style: DockerOptsStyle): string {
  const variables = new Map(source.variables);
  const set = (name: string, from: string, option: (value: string) => string): void => {
    const value = source.variables.get(from) ?? '';
    if (value !== '') variables.set(name, option(value));
  };
  set('DOCKER_OPT_BIP', 'FLANNEL_SUBNET', (subnet) => `--bip=${subnet}`);
  set('DOCKER_OPT_MTU', 'FLANNEL_MTU', (mtu) => `--mtu=${mtu}`);
  if (!style.omitIpMasq) {
    set('DOCKER_OPT_IPMASQ', 'FLANNEL_IPMASQ', (masq) => `--ip-masq=${masq !== 'true'}`);
  }
  const options = [...variables]
    .filter(([name]) => /^DOCKER_OPT_\w*$/.test(name))
    .map(([name, value]) => ({ name, value }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));

  const lines: string[] = [];
  if (style.individual) lines.push(...options.map(({ name, value }) => `${name}="${value}"`));
  if (style.combined) {
    const before = variables.get(style.combinedKey) ?? '';
    const all = options.map(({ value }) => ` ${value}`).join('');
    lines.push(`${style.combinedKey}="${before === '' ? '' : `${before} `}${all}"`);
  }
  return lines.map((line) => `${line}\n`).join('');
}

/**
 * Replaces the file, or the one a symbolic link leads to; a device or a pipe (/dev/stdout) is
 * written to. Throws a system error that names `--docker-file`, path and errno.
 */
export async function writeDockerOpts(path: string, text: string): Promise<void> {
  try {
    await writeOutput(path, text);
  } catch (error) {
    const code = errnoOf(error);
    throw systemError(
      `--docker-file: cannot write ${path} (${messageOf(error)}): expected a file in a directory this user may write to`,
      {
        ...(code === undefined ? {} : { code }),
        field: '--docker-file',
        value: path,
        cause: error,
      },
    );
  }
}

/**
 * The gateway another route to exactly `subnet` goes through, in the text of /proc/net/route;
 * undefined when there is none. Such a route competes with that of Docker's bridge for the host's own
 * containers; the script refuses it too.
 */
export function routeElsewhere(subnet: Cidr, routes: string): string | undefined {
  for (const line of routes.split('\n').slice(1)) {
    // Columns: Iface Destination Gateway Flags RefCnt Use Metric Mask; hexadecimal, little-endian.
    const [, destination, gateway, , , , , mask] = line.trim().split(/\s+/);
    if (mask === undefined || gateway === undefined || gateway === '00000000') continue;
    const route = `${littleEndian(destination)}/${prefixOf(mask)}`;
    if (route === formatCidr(subnet)) return littleEndian(gateway);
  }
  return undefined;
}

function littleEndian(hexadecimal = ''): string {
  return formatIpv4(Buffer.from(hexadecimal, 'hex').reverse().readUInt32BE());
}

function prefixOf(mask: string): number {
  return Number.parseInt(mask, 16).toString(2).replaceAll('0', '').length;
}
