/** The kernel's protocol counters of a network namespace, as /proc/net/snmp has them. */
import { readFileSync } from 'node:fs';

export type Protocol = 'Icmp' | 'Ip' | 'Udp';

/** A protocol's counters of this process's network namespace, by name; old kernels have fewer. */
export function readOwnSnmp(protocol: Protocol): ReadonlyMap<string, number> {
  return parseSnmp(readFileSync('/proc/self/net/snmp', 'latin1'), protocol);
}

/** Each protocol has a line of names and one of values. */
export function parseSnmp(text: string, protocol: Protocol): ReadonlyMap<string, number> {
  const [names = [], values = []] = text
    .split('\n')
    .filter((line) => line.startsWith(`${protocol}:`))
    .map((line) => line.split(' ').slice(1));
  return new Map(names.map((name, index) => [name, Number(values[index])]));
}
