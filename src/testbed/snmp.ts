/** The kernel's protocol counters of a network namespace of the lab. */
import { parseSnmp, type Snmp } from '../host/snmp.js';
import { inNamespace, run } from './programs.js';

export async function readSnmp(namespace: string): Promise<Snmp> {
  const { stdout } = await run(inNamespace(namespace, ['cat', '/proc/net/snmp']));
  return parseSnmp(stdout);
}
