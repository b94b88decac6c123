import { describe, expect, it } from 'vitest';
import {
  checkEtcd,
  configEntry,
  leaseEntry,
  type EtcdEntry,
} from '../../../../src/lab/scenario/etcd-check.js';
import { labBackend, networkConfig } from '../../../../src/lab/backends/registry.js';
import { hostPlan } from '../../../../src/testbed/topology.js';

const CONFIG: EtcdEntry = {
  key: '/coreos.com/network/config',
  value: '{"Network":"100.96.0.0/16","Backend":{"Type":"udp","Port":8285}}',
  leaseSeconds: undefined,
};
const FIRST: EtcdEntry = {
  key: '/coreos.com/network/subnets/100.96.1.0-24',
  value: '{"PublicIP":"10.168.0.2","PublicIPv6":null}',
  leaseSeconds: 86_400,
};
const SECOND: EtcdEntry = {
  key: '/coreos.com/network/subnets/100.96.2.0-24',
  value: '{"PublicIP":"10.168.0.3","PublicIPv6":null}',
  leaseSeconds: 86_400,
};

/** As the lab expects them; what they are is written out above. */
async function expected(): Promise<EtcdEntry[]> {
  const backend = labBackend('udp');
  const leases = [hostPlan(1), hostPlan(2)].map(async (plan) =>
    leaseEntry(plan, await backend.leaseValue(plan)),
  );
  return [configEntry(networkConfig(backend)), ...(await Promise.all(leases))];
}

describe('checkEtcd', () => {
  it("passes for exactly flannel's keys and values", async () => {
    const entries = [CONFIG, FIRST, SECOND];
    expect(checkEtcd(entries, await expected())).toEqual({ ok: true, entries, problems: [] });
  });

  const wrong: [string, EtcdEntry[], string][] = [
    ['a lease that is missing', [CONFIG, FIRST], `missing: ${SECOND.key}`],
    ['a configuration that is missing', [FIRST, SECOND], `missing: ${CONFIG.key}`],
    [
      'one byte more in a value',
      [CONFIG, { ...FIRST, value: `${FIRST.value} ` }, SECOND],
      `${FIRST.key} is ${FIRST.value} , expected ${FIRST.value}`,
    ],
    [
      "another host's address",
      [CONFIG, { ...FIRST, value: SECOND.value }, SECOND],
      `${FIRST.key} is ${SECOND.value}, expected ${FIRST.value}`,
    ],
    [
      'a configuration that was changed',
      [{ ...CONFIG, value: '{}' }, FIRST, SECOND],
      `${CONFIG.key} is {}, expected ${CONFIG.value}`,
    ],
    [
      'a lease that never ends',
      [CONFIG, FIRST, { ...SECOND, leaseSeconds: undefined }],
      `${SECOND.key} never ends, expected one that ends after 86400 s`,
    ],
    [
      'a lease of an hour',
      [CONFIG, FIRST, { ...SECOND, leaseSeconds: 3_600 }],
      `${SECOND.key} ends after 3600 s, expected one that ends after 86400 s`,
    ],
    [
      'a key of nobody',
      [CONFIG, FIRST, SECOND, { ...SECOND, key: '/coreos.com/network/subnets/100.96.9.0-24' }],
      'belongs to no host: /coreos.com/network/subnets/100.96.9.0-24',
    ],
    [
      'a key written otherwise',
      [CONFIG, FIRST, { ...SECOND, key: '/coreos.com/network/subnets/100.96.2.0/24' }],
      `missing: ${SECOND.key}`,
    ],
  ];
  it.each(wrong)('fails for %s, and says so', async (_what, entries, problem) => {
    const check = checkEtcd(entries, await expected());
    expect(check.ok).toBe(false);
    expect(check.problems[0]).toBe(problem);
    expect(check.entries).toEqual(entries);
  });
});
