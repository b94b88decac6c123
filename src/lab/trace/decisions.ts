/** What decided each next step: the kernel's tables and bridges, and the daemons' leases, asked for. */
import type { DaemonStatus } from '../../daemon/status.js';
import { systemError } from '../../errors.js';
import { macAt } from '../../testbed/wire/packet.js';
import { containerPort, SWITCH, switchPort } from '../../testbed/topology.js';
import type { Carriages, DecidedStep, Place } from './carriage/carriage.js';
import type { Sighting } from './follow.js';
import { bridgePort, route, socket, veth, type Decision } from './look-up.js';
import type { TracePlan } from './plan.js';
import { TRACE_PORT } from './send.js';
import type { StepName } from './step.js';
import { endsInProcess } from './way.js';

export type Decisions = ReadonlyMap<StepName, readonly Decision[]>;

export interface DecisionSources {
  readonly plan: TracePlan;
  readonly carriages: Carriages;
  readonly sightings: readonly Sighting[];
  /** The sending and the receiving host's. */
  readonly near: DaemonStatus;
  readonly far: DaemonStatus;
}

/** Asks for every decision of the way. */
export async function readDecisions(sources: DecisionSources): Promise<Decisions> {
  const { plan, near, far, carriages } = sources;
  const { from, to } = plan;
  const destination = to.containerAddress;
  const source = from.containerAddress;
  const common = {
    plan,
    wire: { from: from.address, to: to.address },
    macOf: (step: StepName) => destinationMac(sources, step),
  };
  const sending: Place = { ...common, host: from, status: near };
  const receiving: Place = { ...common, host: to, status: far };
  const bridge = (step: StepName, namespace: string | undefined, name: string): Promise<Decision> =>
    bridgePort(namespace, name, destinationMac(sources, step));
  const decided: readonly DecidedStep[] = [
    ['sender', route(from.container, [destination])],
    ['container out', veth('eth0', `${from.host} ${containerPort(from)}`)],
    ['port in', bridge('port in', from.host, 'docker0')],
    ['docker0 in', route(from.host, [destination, 'from', source, 'iif', 'docker0'])],
    ...carriages.sending.decideSending(sending),
    ['eth0 out', veth('eth0', `switch ${switchPort(from)}`)],
    ['switch in', bridge('switch in', undefined, SWITCH)],
    ['switch out', veth(switchPort(to), `${to.host} eth0`)],
    ...carriages.receiving.decideReceiving(receiving),
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
  const found = new Map<StepName, readonly Decision[]>();
  for (const [step, list] of await Promise.all(entries)) {
    found.set(step, [...(found.get(step) ?? []), ...list]);
  }
  return found;
}

function delivery(plan: TracePlan): Decision {
  const { proto, to } = plan;
  return endsInProcess(plan)
    ? socket(`${proto.toUpperCase()} ${to.containerAddress}:${TRACE_PORT}`, 'the receiver')
    : socket('ICMP echo request', 'the kernel, which answers itself');
}

function destinationMac({ sightings }: DecisionSources, step: StepName): string {
  const sighting = sightings.find(({ tap }) => tap.name === step);
  if (sighting === undefined) throw systemError(`the packet was not seen at ${step}`);
  return macAt(sighting.frame, 0);
}
