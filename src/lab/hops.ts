/**
 * Packets at each hop, from the kernel's interface counters and the daemons' own.
 */
import type { DaemonProcess } from './daemon-process.js';
import { inNamespace, run } from './commands.js';
import { readSnmp } from './snmp.js';
import type { HostPlan } from './topology.js';

/** Packets one way and back at one hop; the order of hops is that of the way from near to far. */
export interface Hop {
  readonly where: string;
  readonly device: string;
  readonly forward: number;
  readonly back: number;
}

export interface Drop {
  readonly where: string;
  readonly reason: string;
  readonly packets: number;
}

export interface HopCounts {
  readonly hops: readonly Hop[];
  readonly drops: readonly Drop[];
}

interface LinkCounters {
  readonly rx: number;
  readonly tx: number;
  readonly txDropped: number;
}

/** Counts now; subtract an earlier count with `since`. */
export async function countHops(
  near: HostPlan,
  far: HostPlan,
  daemons: readonly [DaemonProcess, DaemonProcess],
): Promise<HopCounts> {
  const [nearHost, farHost, nearContainer, farContainer] = await Promise.all([
    readLinks(near.host),
    readLinks(far.host),
    readLinks(near.container),
    readLinks(far.container),
  ]);
  const [nearDaemon, farDaemon] = await Promise.all(daemons.map(readDaemon));
  const hops: Hop[] = [];
  // An interface counts what enters it on the way there, and what leaves it on the way back.
  const add = (where: string, device: string, links: Links, outward: boolean): void => {
    const { rx, tx } = links.get(device) ?? NOTHING;
    hops.push({ where, device, forward: outward ? tx : rx, back: outward ? rx : tx });
  };
  add(near.container, 'eth0', nearContainer, true);
  add(near.host, 'docker0', nearHost, false);
  add(near.host, 'flannel0', nearHost, true);
  hops.push({
    where: near.host,
    device: 'daemon',
    ...(nearDaemon?.carried('encapsulate') ?? NO_HOP),
  });
  add(near.host, 'eth0', nearHost, true);
  add(far.host, 'eth0', farHost, false);
  hops.push({
    where: far.host,
    device: 'daemon',
    ...(farDaemon?.carried('decapsulate') ?? NO_HOP),
  });
  add(far.host, 'flannel0', farHost, false);
  add(far.host, 'docker0', farHost, true);
  add(far.container, 'eth0', farContainer, false);

  const drops: Drop[] = [];
  for (const [plan, links, daemon] of [
    [near, nearHost, nearDaemon],
    [far, farHost, farDaemon],
  ] as const) {
    drops.push({
      where: `${plan.host} flannel0`,
      reason: 'queue full',
      packets: links.get('flannel0')?.txDropped ?? 0,
    });
    drops.push({
      where: `${plan.host} UDP socket`,
      reason: 'buffer full',
      packets: await readUdpBufferErrors(plan.host),
    });
    drops.push(...(daemon?.drops(plan.host) ?? []));
  }
  // What the tunnel delivered and the receiving program was too slow to read.
  for (const plan of [near, far]) {
    drops.push({
      where: `${plan.container} UDP socket`,
      reason: 'buffer full',
      packets: await readUdpBufferErrors(plan.container),
    });
  }
  return { hops, drops };
}

export function since(now: HopCounts, earlier: HopCounts): HopCounts {
  return {
    hops: now.hops.map((hop, index) => {
      const before = earlier.hops[index];
      return {
        ...hop,
        forward: hop.forward - (before?.forward ?? 0),
        back: hop.back - (before?.back ?? 0),
      };
    }),
    drops: now.drops.map((drop, index) => ({
      ...drop,
      packets: drop.packets - (earlier.drops[index]?.packets ?? 0),
    })),
  };
}

type Links = ReadonlyMap<string, LinkCounters>;
const NOTHING: LinkCounters = { rx: 0, tx: 0, txDropped: 0 };
const NO_HOP = { forward: 0, back: 0 };

interface LinkJson {
  ifname: string;
  stats64: { rx: { packets: number }; tx: { packets: number; dropped: number } };
}

async function readLinks(namespace: string): Promise<Links> {
  const { stdout } = await run(inNamespace(namespace, ['ip', '-j', '-s', 'link']));
  return new Map(
    (JSON.parse(stdout) as LinkJson[]).map(({ ifname, stats64 }) => [
      ifname,
      { rx: stats64.rx.packets, tx: stats64.tx.packets, txDropped: stats64.tx.dropped },
    ]),
  );
}

async function readUdpBufferErrors(namespace: string): Promise<number> {
  return (await readSnmp(namespace))('Udp', 'RcvbufErrors');
}

async function readDaemon(daemon: DaemonProcess): Promise<{
  carried: (outward: 'encapsulate' | 'decapsulate') => { forward: number; back: number };
  drops: (where: string) => Drop[];
}> {
  const threads = (await daemon.status()).dataPlane?.threads ?? [];
  const sent = (direction: string): number =>
    threads.find((thread) => thread.direction === direction)?.sentPackets ?? 0;
  return {
    carried: (outward) => ({
      forward: sent(outward),
      back: sent(outward === 'encapsulate' ? 'decapsulate' : 'encapsulate'),
    }),
    drops: (where) =>
      threads.flatMap((thread) =>
        Object.entries(thread.drops).map(([reason, packets]) => ({
          where: `${where} daemon, ${thread.direction}`,
          reason: reason.replaceAll('_', ' '),
          packets,
        })),
      ),
  };
}
