/**
 * The network configuration, one JSON text shared by every node of the cluster.
 *
 * The rules are flanneld's (`pkg/subnet/config.go`), since both read the same text: field names
 * match in any case as Go's decoder does, `null` leaves a default, unknown fields are ignored, and
 * 0 means "not set" for SubnetLen, SubnetMin and SubnetMax. Beyond flanneld, SubnetMin above
 * SubnetMax and every wrong type are refused with the field's name. What is in Backend besides its Type
 * is the backend's to read (src/network/registry.ts).
 */
import { FlannelletteError, inputError, messageOf } from '../errors.js';
import {
  broadcast,
  cidrOf,
  contains,
  formatCidr,
  formatIpv4,
  parseCidr,
  parseIpv4,
  subnetSize,
  type Cidr,
  type Ipv4,
} from './ipv4.js';
import { field, fieldName, isDeeperThan, isObject, type JsonObject } from './json.js';

const DEFAULT_BACKEND = 'udp';

/** Limit of the text in characters; a configuration has some hundred. */
const MAX_TEXT_LENGTH = 65_536;
const MAX_DEPTH = 32;

/** Code of an error about what flannelette does not do. */
const UNSUPPORTED = 'EUNSUPPORTED';

/** Keys of flannel's configuration (`pkg/subnet/config.go`). */
const KNOWN_KEYS = [
  'EnableIPv4',
  'EnableIPv6',
  'EnableNFTables',
  'Network',
  'IPv6Network',
  'SubnetMin',
  'SubnetMax',
  'IPv6SubnetMin',
  'IPv6SubnetMax',
  'SubnetLen',
  'IPv6SubnetLen',
  'Backend',
];
/** Keys that every backend has; the others are the backend's own. */
const BACKEND_TYPE_KEY = 'Type';

export interface BackendConfig {
  /** Lower case. Any name is accepted here; the daemon refuses those it does not have. */
  readonly type: string;
  /** The whole Backend object as written: the backend reads its own settings there. */
  readonly raw: Record<string, unknown>;
}

export interface NetworkConfig {
  readonly network: Cidr;
  /** Prefix length of each host's subnet: Network's + 2 .. 30. */
  readonly subnetLen: number;
  /** First and last subnet handed out, as network addresses. */
  readonly subnetMin: Ipv4;
  readonly subnetMax: Ipv4;
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  readonly enableNFTables: boolean;
  readonly backend: BackendConfig;
}

/** Throws an input error naming the field, its value and what was expected. */
export function parseNetworkConfig(text: string, field = 'network config'): NetworkConfig {
  const document = parseObject(text, field);

  const enableIPv4 = booleanField(document, 'EnableIPv4', true);
  const enableIPv6 = booleanField(document, 'EnableIPv6', false);
  const enableNFTables = booleanField(document, 'EnableNFTables', false);
  if (enableIPv6) throw unsupported('EnableIPv6', true, 'false: IPv6 is not supported');
  if (!enableIPv4) throw unsupported('EnableIPv4', false, 'true: only IPv4 is supported');

  const network = networkField(document);
  const subnetLen = subnetLenField(document, network);
  const { subnetMin, subnetMax } = subnetRange(document, network, subnetLen);
  return {
    network,
    subnetLen,
    subnetMin,
    subnetMax,
    enableIPv4,
    enableIPv6,
    enableNFTables,
    backend: backendField(document),
  };
}

/**
 * True for an error of parseNetworkConfig about what flannelette does not do, as opposed to what makes
 * no sense: to wait for it to change is of no use.
 */
export function isUnsupported(error: unknown): boolean {
  return error instanceof FlannelletteError && error.code === UNSUPPORTED;
}

export interface UnknownKey {
  /** `SubnetLength`, `Backend.Prot`. */
  readonly path: string;
  /** What stands before the key itself in `path`. */
  readonly parent: string;
  /** The keys there are at that place. */
  readonly known: readonly string[];
}

/**
 * Unknown keys of a configuration, which flanneld accepts, too: most are slips. Those of
 * flannel's IPv6 are known. `backendKeys` are the backend's; without them its part is not looked at.
 */
export function unknownKeys(text: string, backendKeys?: readonly string[]): UnknownKey[] {
  const document = parseObject(text, 'network config');
  const unknownIn = (
    object: JsonObject,
    known: readonly string[],
    parent: string,
  ): UnknownKey[] => {
    const lower = known.map((name) => name.toLowerCase());
    return Object.keys(object)
      .filter((name) => !lower.includes(name.toLowerCase()))
      .map((name) => ({ path: `${parent}${name}`, parent, known }));
  };
  const backend = field(document, 'Backend');
  return [
    ...unknownIn(document, KNOWN_KEYS, ''),
    ...(isObject(backend) && backendKeys !== undefined
      ? unknownIn(backend, [BACKEND_TYPE_KEY, ...backendKeys], 'Backend.')
      : []),
  ];
}

/** What differs, the backend's own settings apart, as `NAME OLD -> NEW`. */
export function configDifferences(before: NetworkConfig, after: NetworkConfig): string[] {
  const values = (config: NetworkConfig): [string, string][] => [
    ['Network', formatCidr(config.network)],
    ['SubnetLen', String(config.subnetLen)],
    ['SubnetMin', formatIpv4(config.subnetMin)],
    ['SubnetMax', formatIpv4(config.subnetMax)],
    ['EnableNFTables', String(config.enableNFTables)],
    ['Backend.Type', config.backend.type],
  ];
  const now = new Map(values(after));
  return values(before)
    .filter(([name, value]) => now.get(name) !== value)
    .map(([name, value]) => `${name} ${value} -> ${now.get(name) ?? ''}`);
}

/** True when a host may hold this subnet: right length, between SubnetMin and SubnetMax. */
export function isSubnetInRange(config: NetworkConfig, subnet: Cidr): boolean {
  return (
    subnet.prefix === config.subnetLen &&
    subnet.network >= config.subnetMin &&
    subnet.network <= config.subnetMax
  );
}

function unsupported(name: string, value: unknown, expected: string): FlannelletteError {
  const { message } = inputError(name, value, expected);
  return new FlannelletteError('input', message, { field: name, value, code: UNSUPPORTED });
}

function parseObject(text: string, field: string): JsonObject {
  if (text.length > MAX_TEXT_LENGTH) {
    throw inputError(field, excerpt(text), `JSON of at most ${MAX_TEXT_LENGTH} characters`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw inputError(field, excerpt(text), `JSON (${messageOf(error)})`);
  }
  if (!isObject(value)) throw inputError(field, value, 'a JSON object with at least Network');
  if (isDeeperThan(value, MAX_DEPTH)) {
    throw inputError(field, excerpt(text), `JSON nested at most ${MAX_DEPTH} levels deep`);
  }
  return value;
}

function networkField(document: JsonObject): Cidr {
  const text = stringField(document, 'Network', 'an IPv4 subnet such as 100.96.0.0/16');
  if (text === undefined || text === '') {
    throw inputError('Network', text, 'an IPv4 subnet such as 100.96.0.0/16');
  }
  const network = parseCidr('Network', text, { allowHostBits: true });
  // flanneld takes 0.0.0.0/0 for a missing Network.
  if (network.prefix === 0) throw inputError('Network', text, 'a subnet narrower than /0');
  return network;
}

function subnetLenField(document: JsonObject, network: Cidr): number {
  const value = field(document, 'SubnetLen') ?? 0;
  const smallest = network.prefix + 2;
  if (value === 0) {
    if (network.prefix > 28) {
      throw inputError('Network', formatCidr(network), 'a prefix of at most /28: four hosts fit');
    }
    return network.prefix <= 22 ? 24 : smallest;
  }
  if (typeof value !== 'number' || !Number.isInteger(value) || value < smallest || value > 30) {
    const expected =
      smallest > 30
        ? `a Network wide enough for four subnets of at most /30; ${formatCidr(network)} is not`
        : `a whole number from ${smallest} (four subnets fit into ${formatCidr(network)}) to 30`;
    throw inputError('SubnetLen', value, expected);
  }
  return value;
}

function subnetRange(
  document: JsonObject,
  network: Cidr,
  subnetLen: number,
): { subnetMin: Ipv4; subnetMax: Ipv4 } {
  const size = subnetSize(subnetLen);
  // The first subnet is left out: its network address is that of Network itself.
  const first = network.network + size;
  const last = broadcast(network) - size + 1;
  const subnetMin = boundField(document, 'SubnetMin', network, subnetLen) ?? first;
  const subnetMax = boundField(document, 'SubnetMax', network, subnetLen) ?? last;
  if (subnetMin > subnetMax) {
    throw inputError(
      'SubnetMin',
      formatIpv4(subnetMin),
      `at most SubnetMax ${formatIpv4(subnetMax)}`,
    );
  }
  return { subnetMin, subnetMax };
}

function boundField(
  document: JsonObject,
  name: 'SubnetMin' | 'SubnetMax',
  network: Cidr,
  subnetLen: number,
): Ipv4 | undefined {
  const text = stringField(document, name, 'an IPv4 address inside Network');
  if (text === undefined) return undefined;
  const ip = parseIpv4(name, text);
  if (ip === 0) return undefined;
  if (!contains(network, ip)) throw inputError(name, text, `an address in ${formatCidr(network)}`);
  const aligned = cidrOf(ip, subnetLen).network;
  if (aligned !== ip) {
    throw inputError(
      name,
      text,
      `the start of a /${subnetLen} subnet, e.g. ${formatIpv4(aligned)}`,
    );
  }
  return ip;
}

function backendField(document: JsonObject): BackendConfig {
  const name = fieldName(document, 'Backend');
  if (name === undefined) return { type: DEFAULT_BACKEND, raw: {} };
  const raw = document[name];
  if (!isObject(raw)) {
    throw inputError('Backend', raw, 'an object with Type, e.g. {"Type":"udp","Port":8285}');
  }
  const type = field(raw, 'Type');
  if (typeof type !== 'string' || type === '') {
    throw inputError('Backend.Type', type, 'the name of a backend, e.g. "udp"');
  }
  return { type: type.toLowerCase(), raw };
}

function booleanField(document: JsonObject, name: string, fallback: boolean): boolean {
  const value = field(document, name) ?? fallback;
  if (typeof value !== 'boolean') throw inputError(name, value, 'true or false');
  return value;
}

function stringField(document: JsonObject, name: string, expected: string): string | undefined {
  const value = field(document, name) ?? undefined;
  if (value !== undefined && typeof value !== 'string') throw inputError(name, value, expected);
  return value;
}

/** Enough of a broken text to recognise it by, on one line. */
function excerpt(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
