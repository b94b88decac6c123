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
 * had a space at the end of the last line. Where the script goes on without a subnet file or a
 * value, or takes apart a DOCKER_OPT_ value with a space in it, we do not.
 */
import { readFile, realpath, stat, writeFile } from 'node:fs/promises';
import { formatCidr, formatIpv4, parseCidr, type Cidr } from '../config/ipv4.js';
import { errnoOf, inputError, messageOf, systemError } from '../errors.js';
import { replaceFile } from './atomic-file.js';

/** Values of the subnet file, as they stand there. */
export interface DockerSource {
  /** Of FLANNEL_SUBNET; Docker gets the text, whose host bits are its bridge's address. */
  readonly subnet: Cidr;
  /** Every assignment in the file by name. */
  readonly assignments: ReadonlyMap<string, string>;
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

/** Throws an error that names `--subnet-file`, the path and what is wrong with it. */
export async function readDockerSource(path: string, omitIpMasq: boolean): Promise<DockerSource> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = errnoOf(error);
    const advice =
      code === 'ENOENT'
        ? 'expected the file that flannelette run writes once it has a lease'
        : 'expected a readable file of FLANNEL_ lines';
    throw systemError(`--subnet-file: cannot read ${path} (${messageOf(error)}): ${advice}`, {
      ...(code === undefined ? {} : { code }),
      field: '--subnet-file',
      value: path,
      cause: error,
    });
  }
  return parseDockerSource(text, `--subnet-file ${path}`, omitIpMasq);
}

/** `where` begins the message of an input error: a value is missing or makes no sense. */
export function parseDockerSource(text: string, where: string, omitIpMasq: boolean): DockerSource {
  const assignments = parseAssignments(text);
  const subnet = assignments.get('FLANNEL_SUBNET') ?? '';
  const mtu = assignments.get('FLANNEL_MTU') ?? '';
  const ipMasq = assignments.get('FLANNEL_IPMASQ') ?? '';
  const check = (name: string, value: string, good: boolean, expected: string): void => {
    if (!good) throw inputError(`${where}: ${name}`, value === '' ? undefined : value, expected);
  };
  check('FLANNEL_SUBNET', subnet, subnet !== '', "the host's subnet such as 100.96.1.1/24");
  const cidr = parseCidr(`${where}: FLANNEL_SUBNET`, subnet, { allowHostBits: true });
  check('FLANNEL_MTU', mtu, /^[1-9]\d{0,5}$/.test(mtu), 'a number of bytes such as 1472');
  if (!omitIpMasq) {
    check('FLANNEL_IPMASQ', ipMasq, ipMasq === 'true' || ipMasq === 'false', 'true or false');
  }
  return { subnet: cidr, assignments };
}

/** Lines NAME=VALUE, the value bare or in quotes, as daemons write them: no shell runs here. */
function parseAssignments(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^\s*([A-Za-z_]\w*)=(?:"([^"]*)"|'([^']*)'|(\S*))\s*(?:#.*)?$/.exec(line);
    if (match?.[1] !== undefined) found.set(match[1], match[2] ?? match[3] ?? match[4] ?? '');
  }
  return found;
}

/**
 * The file's text. As in the script, variables DOCKER_OPT_... and the combined one that are set
 * already, in `env` or in the subnet file, are kept: options of ours are added to them.
 */
export function formatDockerOpts(
  { assignments }: DockerSource,
  style: DockerOptsStyle,
  env: Environment = {},
): string {
  const variables = new Map([...Object.entries(env), ...assignments]);
  variables.set('DOCKER_OPT_BIP', `--bip=${assignments.get('FLANNEL_SUBNET') ?? ''}`);
  variables.set('DOCKER_OPT_MTU', `--mtu=${assignments.get('FLANNEL_MTU') ?? ''}`);
  if (!style.omitIpMasq) {
    const masquerades = assignments.get('FLANNEL_IPMASQ') === 'true';
    variables.set('DOCKER_OPT_IPMASQ', `--ip-masq=${!masquerades}`);
  }
  const options = [...variables]
    .filter(([name, value]) => /^DOCKER_OPT_\w*$/.test(name) && value !== undefined)
    .map(([name, value = '']) => ({ name, value }))
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
    const there = await stat(path).catch(() => undefined);
    if (there === undefined) await replaceFile(path, text);
    else if (there.isFile()) await replaceFile(await realpath(path), text);
    else await writeFile(path, text);
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
