/**
 * The check of what daemons leave in etcd: under flannel's prefix exactly the configuration and one
 * lease a host, each key and value to the byte, because flanneld reads them too; each lease attached
 * to a grant of 24 h, so that it ends by itself when its host never comes back.
 *
 * The expected text is made by the lab (backends), not by the code that is checked.
 */
import type { HostPlan } from '../../testbed/topology.js';

/** flannel's, in etcd. */
export const ETCD_PREFIX = '/coreos.com/network';
const LEASE_SECONDS = 86_400;

/** A key and value as UTF-8. What is no UTF-8 shows as U+FFFD, which no expected text has. */
export interface EtcdEntry {
  readonly key: string;
  readonly value: string;
  /** What its grant was made for; undefined for a key without one, which never ends. */
  readonly leaseSeconds: number | undefined;
}

export interface EtcdCheck {
  readonly ok: boolean;
  readonly entries: readonly EtcdEntry[];
  readonly problems: readonly string[];
}

export function configEntry(config: object): EtcdEntry {
  const value = JSON.stringify(config);
  return { key: `${ETCD_PREFIX}/config`, value, leaseSeconds: undefined };
}

export function leaseKey(plan: HostPlan): string {
  return `${ETCD_PREFIX}/subnets/${plan.subnet.replace('/', '-')}`;
}

export function leaseEntry(plan: HostPlan, value: string): EtcdEntry {
  return { key: leaseKey(plan), value, leaseSeconds: LEASE_SECONDS };
}

export function checkEtcd(found: readonly EtcdEntry[], expected: readonly EtcdEntry[]): EtcdCheck {
  const problems = expected.flatMap((entry) => {
    const stored = found.find(({ key }) => key === entry.key);
    return stored === undefined ? [`missing: ${entry.key}`] : compare(stored, entry);
  });
  for (const { key } of found) {
    if (!expected.some((entry) => entry.key === key)) problems.push(`belongs to no host: ${key}`);
  }
  return { ok: problems.length === 0, entries: found, problems };
}

function compare(found: EtcdEntry, expected: EtcdEntry): string[] {
  const problems: string[] = [];
  if (found.value !== expected.value) {
    problems.push(`${found.key} is ${found.value}, expected ${expected.value}`);
  }
  if (found.leaseSeconds !== expected.leaseSeconds) {
    const ends = ({ leaseSeconds }: EtcdEntry): string =>
      leaseSeconds === undefined ? 'never ends' : `ends after ${leaseSeconds} s`;
    problems.push(`${found.key} ${ends(found)}, expected one that ${ends(expected)}`);
  }
  return problems;
}
