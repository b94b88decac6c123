import { expect, it } from 'vitest';
import { parseSnmp, readOwnSnmp } from '../../../src/host/snmp.js';

const TEXT =
  'Ip: Forwarding FragCreates\nIp: 1 12\nUdp: NoPorts RcvbufErrors\nUdp: 3 4\nUdpLite: NoPorts\nUdpLite: 9\n';

it("has a protocol's counters by name", () => {
  expect([...parseSnmp(TEXT, 'Udp')]).toEqual([
    ['NoPorts', 3],
    ['RcvbufErrors', 4],
  ]);
  expect(parseSnmp(TEXT, 'Ip').get('FragCreates')).toBe(12);
  expect(parseSnmp(TEXT, 'Icmp').size).toBe(0);
});

it('reads those of this network namespace', () => {
  expect(readOwnSnmp('Udp').get('InErrors')).toBeGreaterThanOrEqual(0);
});
