/** What decided each next step: the kernel's routes and bridges, and the daemons' leases, asked for. */
import { contains, parseCidr, parseIpv4 } from '../../config/ipv4.js';
import type { DaemonStatus } from '../../daemon/status.js';
import { systemError } from '../../errors.js';
import { inNamespace, run } from '../../testbed/programs.js';
import { TUNNEL_PORT } from '../../testbed/daemon-process.js';
import { macAt } from '../../testbed/wire/packet.js';
import { showRoute, type Route } from '../scenario/routes-check.js';
import { containerPort, SWITCH, switchPort } from '../../testbed/topology.js';
import type { Sighting } from './follow.js';
import type { TracePlan } from './plan.js';
import { TRACE_PORT } from './send.js';
import { endsInProcess, type StepName } from './way.js';

export interface Decision {
  readonly kind: 'route' | 'lease' | 'source check' | 'bridge' | 'veth' | 'TUN' | 'socket';
  /** What was looked up. */
  readonly key: string;
  /** What was found. */
  readonly found: string;
}

export type Decisions = ReadonlyMap<StepName, readonly Decision[]>;

export interface DecisionSources {
  readonly plan: TracePlan;
  readonly sightings: readonly Sighting[];
  /** The sending and the receiving host's. */
  readonly near: DaemonStatus;
  readonly far: DaemonStatus;
}

/** Asks for every decision of the way. */
export async function readDecisions(sources: DecisionSources): Promise<Decisions> {
  const { plan, near, far } = sources;
  const { from, to } = plan;
  const destination = to.containerAddress;
  const source = from.containerAddress;
  const wire = datagramOf(sources);
  const lease = leaseOf(near, destination);
  const bridge = (step: StepName, namespace: string | undefined, name: string): Promise<Decision> =>
    bridgePort(namespace, name, destinationMac(sources, step));
  const decided: readonly (readonly [StepName, ...(Decision | Promise<Decision>)[]])[] = [
    ['sender', route(from.container, [destination])],
    ['container out', veth('eth0', `${from.host} ${containerPort(from)}`)],
    ['port in', bridge('port in', from.host, 'docker0')],
    ['docker0 in', route(from.host, [destination, 'from', source, 'iif', 'docker0'])],
    ['flannel0 out', tun('read')],
    ['encapsulation', lease, route(from.host, [wire.to])],
    ['eth0 out', veth('eth0', `switch ${switchPort(from)}`)],
    ['switch in', bridge('switch in', undefined, SWITCH)],
    ['switch out', veth(switchPort(to), `${to.host} eth0`)],
    [
      'eth0 in',
      route(to.host, [wire.to, 'from', wire.from, 'iif', 'eth0']),
      socket(`UDP ${wire.to}:${TUNNEL_PORT}`, 'the daemon'),
    ],
    ['decapsulation', sourceCheck(far, plan, wire.from), tun('write')],
    ['flannel0 in', route(to.host, [destination, 'from', source, 'iif', 'flannel0'])],
    ['docker0 out', bridge('docker0 out', to.host, 'docker0')],
    ['port out', veth(containerPort(to), `${to.container} eth0`)],
    [
      'container in',
      route(to.container, [destination, 'from', source, 'iif', 'eth0']),
      delivery(plan),
    ],
  ];
  const entries = decided.map(async ([step, ...list]) => {
    return [step, await Promise.all(list.map((decision) => Promise.resolve(decision)))] as const;
  });
  return new Map(await Promise.all(entries));
}

/** `ip route get fibmatch` names the route of the table that matched. */
async function route(namespace: string, query: readonly string[]): Promise<Decision> {
  const argv = ['ip', '-j', 'route', 'get', 'fibmatch', ...query];
  const { stdout } = await run(inNamespace(namespace, argv));
  const [found] = JSON.parse(stdout) as Route[];
  if (found === undefined) throw systemError(`${argv.join(' ')} in ${namespace}: no route`);
  return { kind: 'route', key: query[0] ?? '', found: showRoute(found) };
}

/** The lease that a daemon's table has for an address. */
function leaseOf({ routes }: DaemonStatus, address: string): Decision {
  const ip = parseIpv4('address', address);
  const lease = routes.find(({ subnet }) => contains(parseCidr('subnet', subnet), ip));
  if (lease === undefined) throw systemError(`the daemon has no lease for ${address}`);
  return { kind: 'lease', key: address, found: `${lease.subnet} is held by ${lease.nextHop}` };
}

/** Whether the sender of the datagram holds the lease of the packet's source (README, --source-check). */
function sourceCheck(far: DaemonStatus, { from }: TracePlan, sender: string): Decision {
  const { found } = leaseOf(far, from.containerAddress);
  return { kind: 'source check', key: from.containerAddress, found: `${found}; sent by ${sender}` };
}

interface FdbEntry {
  readonly mac: string;
  readonly ifname: string;
  readonly state?: string;
}

/** Where a bridge sends a frame: up to its own host, or out of the port where the address was learnt. */
async function bridgePort(
  namespace: string | undefined,
  bridge: string,
  mac: string,
): Promise<Decision> {
  const links = await run(inNamespace(namespace, ['ip', '-j', 'link', 'show', 'dev', bridge]));
  const [own] = JSON.parse(links.stdout) as { readonly address: string }[];
  const key = `${mac} in ${bridge}`;
  if (own?.address === mac) return { kind: 'bridge', key, found: `${bridge} itself, up to IP` };
  const fdb = await run(inNamespace(namespace, ['bridge', '-j', 'fdb', 'show', 'br', bridge]));
  const entries = JSON.parse(fdb.stdout) as FdbEntry[];
  const learnt = entries.find((entry) => entry.mac === mac && entry.state !== 'permanent');
  return {
    kind: 'bridge',
    key,
    found: learnt === undefined ? 'every port' : `port ${learnt.ifname}`,
  };
}

function veth(device: string, peer: string): Decision {
  return { kind: 'veth', key: device, found: `its other end, ${peer}` };
}

function tun(what: 'read' | 'write'): Decision {
  const found = {
    read: 'the process that created the device reads it: the daemon',
    write: 'what the daemon writes enters the kernel here',
  };
  return { kind: 'TUN', key: 'flannel0', found: found[what] };
}

function socket(key: string, found: string): Decision {
  return { kind: 'socket', key, found };
}

function delivery(plan: TracePlan): Decision {
  const { proto, to } = plan;
  return endsInProcess(plan)
    ? socket(`${proto.toUpperCase()} ${to.containerAddress}:${TRACE_PORT}`, 'the receiver')
    : socket('ICMP echo request', 'the kernel, which answers itself');
}

/** Addresses of the datagram on the wire. */
function datagramOf({ sightings }: DecisionSources): { from: string; to: string } {
  const outer = sightings.find((sighting) => sighting.outer !== undefined)?.outer;
  if (outer === undefined) throw systemError('the packet was seen in no datagram');
  return { from: outer.ipv4.source, to: outer.ipv4.destination };
}

function destinationMac({ sightings }: DecisionSources, step: StepName): string {
  const sighting = sightings.find(({ tap }) => tap.name === step);
  if (sighting === undefined) throw systemError(`the packet was not seen at ${step}`);
  return macAt(sighting.frame, 0);
}
