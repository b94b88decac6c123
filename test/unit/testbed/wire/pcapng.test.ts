import { expect, it } from 'vitest';
import { writePcapng } from '../../../../src/testbed/wire/pcapng.js';
import { readPcapng } from '../../../support/pcapng.js';

const INTERFACES = [
  { name: 'container-1 eth0', linkType: 1 },
  { name: 'host-1 flannel0', linkType: 101 },
];

it('writes what a reader of the format reads back, whatever the lengths', () => {
  const packets = [0, 1, 2, 3, 4, 1_500].map((bytes, index) => ({
    at: index % 2,
    timeNs: 1_700_000_000_123_456_789n + BigInt(index),
    frame: Buffer.alloc(bytes, index),
    direction: index % 2 === 0 ? ('out' as const) : ('in' as const),
    comment: 'x'.repeat(index),
  }));
  const file = readPcapng(writePcapng('flannelette trace', INTERFACES, packets));
  expect(file.application).toBe('flannelette trace');
  expect(file.interfaces).toEqual(INTERFACES.map((one) => ({ ...one, resolution: 9 })));
  expect(file.packets).toEqual(packets);
});

it('writes a file without packets', () => {
  expect(readPcapng(writePcapng('none', [], []))).toEqual({
    application: 'none',
    interfaces: [],
    packets: [],
  });
});
