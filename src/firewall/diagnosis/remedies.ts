/**
 * The commands that mend what the judge found. Each adds the narrowest exception that does, at the
 * head of the chain where the packets are lost; an operator's own rule is never deleted by it. Where
 * firewalld or ufw owns the rules the command is theirs, since they would take a rule of ours away.
 */
import { formatCidr } from '../../config/ipv4.js';
import { TAILSCALE_CHAIN, tailscaleCommand } from '../exceptions.js';
import type { BaseChain, Verdict } from './model.js';
import type { Overlay } from './sample-traffic.js';

/** Programs that are installed. */
export interface Tools {
  readonly firewallCmd: boolean;
  readonly ufw: boolean;
}

const RELOAD = 'firewall-cmd --reload';

/** Accepts the tunnel's datagrams, to this host or (`output`) from it. */
export function acceptDatagrams(base: BaseChain, port: number, tools: Tools): string {
  if (base.hook !== 'output' && isFirewalld(base) && tools.firewallCmd) {
    return `firewall-cmd --permanent --add-port=${port}/udp && ${RELOAD}`;
  }
  if (isUfw(base) && tools.ufw)
    return `ufw allow ${base.hook === 'output' ? 'out ' : ''}${port}/udp`;
  return insert(base, [{ iptables: `-p udp --dport ${port}`, nft: `udp dport ${port}` }]);
}

/** Accepts what comes from the overlay and what goes to it. */
export function acceptOverlay(
  base: BaseChain,
  verdict: Verdict,
  { network }: Overlay,
  tools: Tools,
): string {
  const text = formatCidr(network);
  if (isFirewalld(base) && tools.firewallCmd) return trust(text);
  const chain = 'FLANNEL-FWD';
  if (base.table === 'filter' && base.hook === 'forward' && base.rules(chain) !== undefined) {
    if (verdict.chain === chain && verdict.rule !== undefined) {
      return `${base.program} ${quoted(verdict.rule.text).replace(/^-A/, '-D')}`;
    }
    const comment = '-m comment --comment "flanneld forward"';
    return `${base.program} -I ${frontOf(base)} ${comment} -j ${chain}`;
  }
  return insert(base, [
    { iptables: `-s ${text}`, nft: `ip saddr ${text}` },
    { iptables: `-d ${text}`, nft: `ip daddr ${text}` },
  ]);
}

/** Docker puts its own chains in front of others again and again; this one is left to operators. */
function frontOf(base: BaseChain): string {
  const [first] = base.rules(base.name) ?? [];
  const docker = 'DOCKER-USER';
  return first?.text === `-A ${base.name} -j ${docker}` ? docker : base.name;
}

/** Accepts what comes out of the overlay for containers here. */
export function acceptContainers(base: BaseChain, { network, subnet, device }: Overlay): string {
  const [from, to] = [formatCidr(network), formatCidr(subnet)];
  return insert(base, [
    {
      iptables: `-s ${from} -d ${to} -i ${device}`,
      nft: `iifname "${device}" ip saddr ${from} ip daddr ${to}`,
    },
  ]);
}

/** Accepts what containers of other nodes answer to this host. */
export function acceptAnswers(
  base: BaseChain,
  { chain }: Verdict,
  { network, device }: Overlay,
  tools: Tools,
): string {
  if (base.program !== 'nft' && chain === TAILSCALE_CHAIN) {
    return tailscaleCommand(network, base.program);
  }
  const text = formatCidr(network);
  if (isFirewalld(base) && tools.firewallCmd) return trust(text);
  const states = '-m conntrack --ctstate RELATED,ESTABLISHED';
  return insert(base, [
    {
      iptables: `-s ${text} -i ${device} ${states}`,
      nft: `iifname "${device}" ip saddr ${text} ct state established,related`,
    },
  ]);
}

/** Keeps containers' addresses: Docker's rule gets the exception it lacks, any other one in front. */
export function keepAddresses(base: BaseChain, verdict: Verdict, overlay: Overlay): string {
  const [subnet, network] = [formatCidr(overlay.subnet), formatCidr(overlay.network)];
  const rule = quoted(verdict.rule?.text ?? '');
  const docker = /^-A (\S+) (-s \S+) (! -o \S+ -j MASQUERADE.*)$/.exec(rule);
  if (docker !== null && base.program !== 'nft') {
    const [, chain = '', source = '', rest = ''] = docker;
    const command = `${base.program} -t nat`;
    return (
      `${command} -D ${chain} ${source} ${rest} && ` +
      `${command} -A ${chain} ${source} ! -d ${network} ${rest}`
    );
  }
  return insert(base, [
    {
      iptables: `-s ${subnet} -d ${network}`,
      nft: `ip saddr ${subnet} ip daddr ${network}`,
    },
    {
      iptables: `-s ${network} -d ${subnet}`,
      nft: `ip saddr ${network} ip daddr ${subnet}`,
    },
  ]);
}

function trust(network: string): string {
  return `firewall-cmd --permanent --zone=trusted --add-source=${network} && ${RELOAD}`;
}

function insert(
  base: BaseChain,
  matches: readonly { readonly iptables: string; readonly nft: string }[],
): string {
  const { program, family, table, name } = base;
  const commands = matches.map((match) =>
    program === 'nft'
      ? `nft insert rule ${family} ${table} ${name} ${match.nft} accept`
      : `${program} ${table === 'filter' ? '' : `-t ${table} `}-I ${name} ${match.iptables} -j ACCEPT`,
  );
  return commands.join(' && ');
}

/** A comment may hold what a shell would take for a command. */
function quoted(rule: string): string {
  return rule.replaceAll(/[$`]/g, '\\$&');
}

function isFirewalld({ program, table, rules }: BaseChain): boolean {
  if (program === 'nft') return table === 'firewalld';
  return rules('INPUT_ZONES') !== undefined || rules('FORWARD_IN_ZONES') !== undefined;
}

function isUfw({ rules }: BaseChain): boolean {
  return rules('ufw-before-input') !== undefined;
}
