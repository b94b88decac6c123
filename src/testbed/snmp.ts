/** The kernel's protocol counters of a network namespace of the lab. */
import { systemError } from '../errors.js';
import { parseSnmp, type Protocol } from '../host/snmp.js';
import { inNamespace, run } from './programs.js';

/** A counter by protocol and name. Throws where the kernel has none of that name. */
export type Snmp = (protocol: Protocol, name: string) => number;

export async function readSnmp(namespace: string): Promise<Snmp> {
  const { stdout } = await run(inNamespace(namespace, ['cat', '/proc/net/snmp']));
  return (protocol, name) => {
    const value = parseSnmp(stdout, protocol).get(name);
    if (value === undefined) throw systemError(`/proc/net/snmp has no ${protocol} ${name}`);
    return value;
  };
}
