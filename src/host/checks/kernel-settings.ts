/**
 * Kernel settings under /proc/sys/net/ipv4 that the overlay needs otherwise.
 *
 * rp_filter 1 drops a packet that comes in by another device than answers to its source would leave
 * by; what counts is the higher of `all` and the device's own (ip-sysctl.rst). Containers' packets to
 * other hosts' own addresses are the case: they leave by the external interface, and what is answered
 * to them comes back through the tunnel. Masqueraded ones are not: the host's address is answered.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ipv4 } from '../../config/ipv4.js';
import type { Problem } from '../../problems.js';
import { waysTo } from './routing.js';
import type { OverlayView } from './view.js';

const SETTINGS = '/proc/sys/net/ipv4';
const STRICT = 1;
/** Nodes whose datagrams are looked at. */
const SAMPLED = 8;

export async function checkSettings(view: OverlayView): Promise<Problem[]> {
  const settings = new Settings();
  const found = await Promise.all([
    forwarding(settings, view),
    reversePath(settings, view),
    datagrams(settings, view),
  ]);
  return found.flat();
}

class Settings {
  /** Undefined when it is not there, as of a device that is gone. */
  async read(...path: string[]): Promise<number | undefined> {
    try {
      const value = Number(await readFile(join(SETTINGS, ...path), 'utf8'));
      return Number.isNaN(value) ? undefined : value;
    } catch {
      return undefined;
    }
  }

  async isStrict(device: string): Promise<boolean> {
    const own = await this.read('conf', device, 'rp_filter');
    const every = await this.read('conf', 'all', 'rp_filter');
    return own !== undefined && Math.max(own, every ?? 0) === STRICT;
  }
}

async function forwarding(settings: Settings, view: OverlayView): Promise<Problem[]> {
  if ((await settings.read('ip_forward')) === 0) {
    return [off('net.ipv4.ip_forward', 'packets of containers and for them are not forwarded')];
  }
  const found: Problem[] = [];
  for (const device of [view.device, ...view.bridges]) {
    if ((await settings.read('conf', device, 'forwarding')) !== 0) continue;
    const whose = device === view.device ? 'from other nodes' : 'of containers';
    found.push(off(keyOf(device, 'forwarding'), `packets ${whose} are not forwarded`));
  }
  return found;
}

function off(key: string, effect: string): Problem {
  return {
    id: 'ip_forward_off',
    message: `forwarding is off (${key} is 0): ${effect}`,
    remedy: `sysctl -w ${key}=1`,
  };
}

async function reversePath(settings: Settings, view: OverlayView): Promise<Problem[]> {
  // Without a device of the overlay's own, what comes in by the external interface is answered there.
  if (view.masquerades || view.device === view.external.name) return [];
  const cases = [
    [view.device, "answers of other hosts' own addresses to containers here are dropped"],
    [view.external.name, "packets of other nodes' containers to this host's address are dropped"],
  ] as const;
  const found: Problem[] = [];
  for (const [device, effect] of cases) {
    if (await settings.isStrict(device)) found.push(strict(device, effect));
  }
  return found;
}

/** Datagrams come in by the external interface: so must the way back lead, where the filter is strict. */
async function datagrams(settings: Settings, view: OverlayView): Promise<Problem[]> {
  const { external, device, peers, routing } = view;
  if (!(await settings.isStrict(external.name))) return [];
  const step = Math.max(1, Math.ceil(peers.length / SAMPLED));
  const addresses: Ipv4[] = peers
    .filter((_peer, index) => index % step === 0)
    .map(({ address }) => address);
  const ways = waysTo(addresses, routing);
  const other = [...ways.values()].find(
    (way) => way.device !== external.name && way.device !== device && way.device !== 'lo',
  );
  if (other === undefined) return [];
  return [
    strict(
      external.name,
      `datagrams of other nodes are dropped, as the route back to them leaves by ${other.device}`,
    ),
  ];
}

function strict(device: string, effect: string): Problem {
  const key = keyOf(device, 'rp_filter');
  return {
    id: 'rp_filter_strict',
    message: `reverse path filtering is strict on ${device} (rp_filter is 1 there or of all devices): ${effect}`,
    remedy: `sysctl -w ${key}=2`,
  };
}

/** A dot in a device's name is a slash in a key (sysctl(8)). */
function keyOf(device: string, name: string): string {
  return `net.ipv4.conf.${device.replaceAll('.', '/')}.${name}`;
}
