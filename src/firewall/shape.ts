/**
 * flannel's rules, told from everybody else's. Pure.
 *
 * The chains are shared: daemons with other Networks keep their rules in them, and operators add
 * some of their own. A rule is ours when it has the shape of one that flannel makes for our Network,
 * whatever the subnet in it: so the rules of a former subnet are found, and those of a daemon with
 * another Network are left. With N the Network, P any subnet in it:
 *
 *     P -> N, N -> P (and N -> N, flannel before 0.21)    RETURN
 *     outside N (nftables: outside P) -> P (N)            RETURN
 *     N -> not multicast, outside N -> N                  MASQUERADE
 *     N -> any, any -> N                                  ACCEPT
 *     P -> any, outside N, by a device, to a UDP port     DROP
 *     mark 0x4000                                         RETURN, the same rule for every Network
 *
 * In iptables each carries flannel's comment; a rule with any other match is somebody else's.
 */
import { containsCidr, formatCidr, parseCidr, sameCidr, type Cidr } from '../config/ipv4.js';
import { wordsOf } from './saved.js';

export interface RuleShape {
  readonly source: AddressMatch | undefined;
  readonly destination: AddressMatch | undefined;
  readonly mark: number | undefined;
  /** The interface a packet leaves by. */
  readonly device: string | undefined;
  /** UDP, to this port. */
  readonly port: number | undefined;
  readonly verdict: 'accept' | 'return' | 'masquerade' | 'drop';
  readonly fullyRandom: boolean;
}

interface AddressMatch {
  readonly negated: boolean;
  readonly cidr: Cidr;
}

/** kube-proxy's: what it masquerades itself. */
const KUBE_MARK = 0x4000;

/** Two rules do the same when these are equal. */
export function shapeKey(shape: RuleShape): string {
  const { source, destination, mark, device, port, verdict, fullyRandom } = shape;
  const address = (match: AddressMatch | undefined): string =>
    match === undefined ? 'any' : `${match.negated ? '!' : ''}${formatCidr(match.cidr)}`;
  const leaves = [device ?? '', port ?? ''];
  const words = [address(source), address(destination), mark ?? '', ...leaves];
  return [...words, verdict, fullyRandom].join(' ');
}

export function isMarkRule(shape: RuleShape): boolean {
  const { source, destination, mark, verdict } = shape;
  const anywhere = source === undefined && destination === undefined && !isNarrow(shape);
  return anywhere && mark === KUBE_MARK && verdict === 'return';
}

/** It is for some interface or port only, as no rule of flanneld is. */
function isNarrow({ device, port }: RuleShape): boolean {
  return device !== undefined || port !== undefined;
}

/** A rule of a flannel daemon with this Network. The rule of the mark belongs to all of them. */
export function isRuleOf(network: Cidr, shape: RuleShape): boolean {
  const { source, destination, mark, port, verdict } = shape;
  if (mark !== undefined || (verdict !== 'drop' && isNarrow(shape))) return false;
  const isNetwork = (match: AddressMatch | undefined): boolean =>
    match !== undefined && sameCidr(match.cidr, network);
  const isSubnet = (match: AddressMatch | undefined): boolean =>
    match !== undefined && containsCidr(network, match.cidr);
  const negated = [source?.negated === true, destination?.negated === true] as const;
  switch (verdict) {
    case 'accept':
      return (
        !negated[0] &&
        !negated[1] &&
        ((isNetwork(source) && destination === undefined) ||
          (isNetwork(destination) && source === undefined))
      );
    case 'return':
      return (
        !negated[1] &&
        ((isNetwork(source) && isSubnet(destination)) ||
          (isSubnet(source) && isNetwork(destination)))
      );
    case 'masquerade':
      return negated[0]
        ? isNetwork(source) && isNetwork(destination) && !negated[1]
        : isNetwork(source) && negated[1];
    case 'drop':
      return (
        port !== undefined &&
        isSubnet(source) &&
        !negated[0] &&
        (destination === undefined || (isNetwork(destination) && negated[1]))
      );
  }
}

const IPTABLES_VERDICTS: Readonly<Record<string, RuleShape['verdict']>> = {
  ACCEPT: 'accept',
  RETURN: 'return',
  MASQUERADE: 'masquerade',
  DROP: 'drop',
};
const NFT_VERDICTS: Readonly<Record<string, RuleShape['verdict']>> = {
  accept: 'accept',
  return: 'return',
  masquerade: 'masquerade',
  drop: 'drop',
};

const MATCHES: readonly string[] = ['comment', 'mark', 'udp'];

/** Shape of a rule of iptables-save with this comment; undefined when it has another, or other matches. */
export function iptablesShape(rule: string, comment: string): RuleShape | undefined {
  const [, ...words] = wordsOf(rule);
  const parts = new Parts();
  let commented = false;
  while (words.length > 0) {
    const negated = words[0] === '!';
    if (negated) words.shift();
    const [option, value = ''] = words.splice(0, 2);
    if (negated && option !== '-s' && option !== '-d') return undefined;
    if (option === '-s') parts.source(negated, value);
    else if (option === '-d') parts.destination(negated, value);
    else if (option === '--comment') commented = value === comment;
    else if (option === '--mark') parts.mark(value);
    else if (option === '-o') parts.device(value);
    else if (option === '--dport') parts.port(value);
    else if (option === '-p') parts.protocol(value);
    else if (option === '-j') parts.verdict(IPTABLES_VERDICTS[value]);
    else if (option === '--random-fully') {
      parts.fullyRandom();
      if (value !== '') return undefined;
    } else if (option !== '-m' || !MATCHES.includes(value)) return undefined;
  }
  return commented ? parts.shape : undefined;
}

/** Shape of a line of `nft list`, without its handle; undefined when it is no rule like flannel's. */
export function nftShape(rule: string): RuleShape | undefined {
  const words = rule.trim().split(/\s+/);
  const parts = new Parts();
  while (words.length > 0) {
    const word = words.shift();
    if (word === 'ip') {
      const field = words.shift();
      const negated = words[0] === '!=';
      if (negated) words.shift();
      const value = words.shift() ?? '';
      if (field === 'saddr') parts.source(negated, value);
      else if (field === 'daddr') parts.destination(negated, value);
      else return undefined;
    } else if (word === 'meta') {
      if (words[0] !== 'mark') return undefined;
    } else if (word === 'oifname') parts.device((words.shift() ?? '').replace(/^"(.*)"$/, '$1'));
    else if (word === 'udp') {
      if (words.shift() !== 'dport') return undefined;
      parts.protocol('udp');
      parts.port(words.shift() ?? '');
    } else if (word === 'counter') {
      if (words[0] === 'packets' && words[2] === 'bytes') words.splice(0, 4);
    } else if (word === 'mark') parts.mark(words.shift() ?? '');
    else if (word === 'fully-random') parts.fullyRandom();
    else parts.verdict(NFT_VERDICTS[word ?? '']);
  }
  return parts.shape;
}

/** A rule as it is read; one part that cannot be one of flannel's spoils it. */
class Parts {
  #source: AddressMatch | undefined;
  #destination: AddressMatch | undefined;
  #mark: number | undefined;
  #device: string | undefined;
  #port: number | undefined;
  #protocol: string | undefined;
  #verdict: RuleShape['verdict'] | undefined;
  #fullyRandom = false;
  #spoilt = false;

  get shape(): RuleShape | undefined {
    if (this.#spoilt || this.#verdict === undefined) return undefined;
    // A port without a protocol, or the reverse, is no rule of ours.
    if ((this.#port === undefined) !== (this.#protocol === undefined)) return undefined;
    return {
      source: this.#source,
      destination: this.#destination,
      mark: this.#mark,
      device: this.#device,
      port: this.#port,
      verdict: this.#verdict,
      fullyRandom: this.#fullyRandom,
    };
  }

  source(negated: boolean, text: string): void {
    this.#source = this.#address(negated, text);
  }

  destination(negated: boolean, text: string): void {
    this.#destination = this.#address(negated, text);
  }

  /** 0x4000/0x4000, or however a release prints it. */
  mark(text: string): void {
    const value = Number(text.split('/')[0]);
    if (Number.isInteger(value)) this.#mark = value;
    else this.#spoilt = true;
  }

  device(name: string): void {
    this.#device = name;
  }

  protocol(name: string): void {
    this.#protocol = name;
    if (name !== 'udp') this.#spoilt = true;
  }

  port(text: string): void {
    const value = Number(text);
    if (Number.isInteger(value)) this.#port = value;
    else this.#spoilt = true;
  }

  verdict(verdict: RuleShape['verdict'] | undefined): void {
    if (verdict === undefined || this.#verdict !== undefined) this.#spoilt = true;
    this.#verdict = verdict;
  }

  fullyRandom(): void {
    this.#fullyRandom = true;
  }

  #address(negated: boolean, text: string): AddressMatch | undefined {
    try {
      return { negated, cidr: parseCidr('rule', text.includes('/') ? text : `${text}/32`) };
    } catch {
      this.#spoilt = true;
      return undefined;
    }
  }
}
