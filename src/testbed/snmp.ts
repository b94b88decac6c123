/** The kernel's protocol counters of a network namespace. */
import { systemError } from '../errors.js';
import { inNamespace, run } from './programs.js';

/** A counter by protocol and name, as /proc/net/snmp has them. */
export type Snmp = (protocol: 'Icmp' | 'Ip' | 'Udp', name: string) => number;

export async function readSnmp(namespace: string): Promise<Snmp> {
  const { stdout } = await run(inNamespace(namespace, ['cat', '/proc/net/snmp']));
  return parseSnmp(stdout);
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
