/**
 * What others did to the tunnel's device. The data plane restores address, route and MTU by itself
 * (DataPlane.restoreDevice); here each look becomes a log line about what was restored, and problems
 * about what was left as it is, because somebody may want it so or because it is not ours to change.
 */
import { formatCidr, formatIpv4, type Cidr } from '../../config/ipv4.js';
import type { DeviceCheck } from '../../dataplane/dataplane.js';
import type { Logger } from '../../log.js';
import type { Problem } from '../../problems.js';
import { errnoName } from './errno.js';

/** This many restorations within this time are no accident: another program is at work. */
const CONTENDED_COUNT = 5;
const CONTENDED_MS = 60_000;

export interface ExpectedDevice {
  readonly name: string;
  /** Bytes. */
  readonly mtu: number;
  readonly network: Cidr;
}

export class DeviceWatch {
  readonly #log: Logger;
  readonly #now: () => number;
  #restorations: readonly number[] = [];

  /** `now` is a monotonic clock in milliseconds. */
  constructor(log: Logger, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  /** Takes one look in; returns every problem there is now. */
  note(expected: ExpectedDevice, check: DeviceCheck): readonly Problem[] {
    const restored = restoredParts(check);
    const now = this.#now();
    const before = this.#restorations.filter((at) => now - at < CONTENDED_MS);
    this.#restorations = restored.length === 0 ? before : [...before, now].slice(-CONTENDED_COUNT);
    const contended = this.#restorations.length >= CONTENDED_COUNT;
    if (restored.length > 0 && !contended) {
      this.#log.warn(
        { device: expected.name, restored },
        'another program changed the device; restored',
      );
    }
    return [...(contended ? [contention(expected)] : []), ...findProblems(expected, check)];
  }
}

function restoredParts(check: DeviceCheck): readonly string[] {
  return [
    ...(check.addressRestored ? ['address'] : []),
    ...(check.carrierRestored ? ['carrier'] : []),
    ...(check.mtuRestored ? ['MTU'] : []),
    ...(check.routeAdded ? ['route (was missing)'] : []),
    ...(check.routeReplaced ? ['route (was replaced)'] : []),
  ];
}

function contention({ name }: ExpectedDevice): Problem {
  return {
    id: 'device_contended',
    message:
      `another program changes ${name}, its address or its route again and again; each change is ` +
      'undone within a second and costs packets; see who it is with `ip monitor link address route`',
  };
}

function findProblems(expected: ExpectedDevice, check: DeviceCheck): readonly Problem[] {
  const { name, mtu, network } = expected;
  const problems: Problem[] = [];
  const now = check.name;
  if (now !== name) {
    problems.push({
      id: 'device_renamed',
      message: `${name} was renamed to ${now}: it forwards, but rules, captures and monitoring by its name miss it`,
      remedy: `ip link set ${now} down && ip link set ${now} name ${name} && ip link set ${name} up`,
    });
  }
  if (check.master !== '') {
    problems.push({
      id: 'device_enslaved',
      message: `${now} was put under ${check.master}: what comes out of it is not routed to containers`,
      remedy: `ip link set ${now} nomaster`,
    });
  }
  if (!check.up) {
    problems.push({
      id: 'device_down',
      message: `${now} was set down: nothing reaches other nodes from here, or this node from there`,
      remedy: `ip link set ${now} up`,
    });
    return problems;
  }
  if (check.mtu < mtu) {
    problems.push({
      id: 'device_mtu',
      message: `${now} was set to MTU ${check.mtu}, ${mtu} would fit: containers told ${mtu} depend on ICMP to learn it`,
      remedy: `ip link set ${now} mtu ${mtu}`,
    });
  }
  if (check.overlayTakenBy !== '') {
    problems.push({
      id: 'overlay_network_taken',
      message:
        `all of ${formatCidr(network)} is the own network of ${check.overlayTakenBy}: packets to other nodes' ` +
        `containers go there and not to ${now}; give it an address with a longer prefix`,
    });
  }
  if (check.refused !== 0) {
    const address = formatIpv4(check.refused);
    problems.push({
      id: 'overlay_refused',
      message:
        `this host sends nothing to ${address} of another node, although the route by ${now} is there: ` +
        `${errnoName(check.refusedErrno)}, from a policy rule or a route with a longer prefix; see \`ip rule\` and ` +
        `\`ip route show match ${address} table all\``,
    });
  }
  return problems;
}
