/** The kernel's protocol counters of a network namespace, as /proc/net/snmp has them. */
import { readFileSync } from 'node:fs';
import { systemError } from '../errors.js';

/** A counter by protocol and name. */
export type Snmp = (protocol: 'Icmp' | 'Ip' | 'Udp', name: string) => number;

/** Those of this process's network namespace. */
export function readOwnSnmp(): Snmp {
  return parseSnmp(readFileSync('/proc/self/net/snmp', 'latin1'));
}

/** Each protocol has a line of names and one of values. */
export function parseSnmp(text: string): Snmp {
  return (protocol, name) => {
    const [names = [], values = []] = text
      .split('\n')
      .filter((line) => line.startsWith(`${protocol}:`))
      .map((line) => line.split(' '));
    const value = values[names.indexOf(name)];
    if (value === undefined) throw systemError(`/proc/net/snmp has no ${protocol} ${name}`);
    return Number(value);
  };
}
