/**
 * The outer header: whatever is in the inner one, DSCP and ECN are 0 (a peer that does not know of them
 * would lose a congestion mark), and UDP carries a checksum where user space sends. In mode kernel there
 * is none, as with VXLAN (docs/kernel-mode.md).
 */
import { afterEach, expect, it } from 'vitest';
import { Capture } from '../../src/testbed/capture.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { decodePacket } from '../../src/testbed/wire/packet.js';
import { TestLab } from '../support/test-lab.js';

const ETHERNET = 14;
const OUTER = ETHERNET + 20 + 8;
let lab: TestLab | undefined;
afterEach(() => lab?.tearDown());

it.each(['basic', 'batch', 'offload', 'kernel'] as const)('of mode %s', async (mode) => {
  lab = await TestLab.setUp({ mode }, { offload: false });
  const { near, far } = lab;
  const capture = await Capture.start({ namespace: near.host, filter: 'udp port 8285' });
  for (const tos of ['0x03', '0xb8', '0xff']) {
    const argv = ['ping', '-n', '-c', '1', '-W', '2', '-Q', tos, far.containerAddress];
    await run(inNamespace(near.container, argv));
  }
  await waitFor('the frames', 5_000, async () =>
    (await capture.frames()).length >= 6 ? true : undefined,
  );
  const frames = await capture.stop();
  const inner = new Set(frames.map((frame) => frame.readUInt8(OUTER + 1)));
  expect([...inner].sort((a, b) => a - b)).toEqual([0x03, 0xb8, 0xff]);
  const status = await lab.nearDaemon.status();
  const features = status.dataPlane?.features ?? [];
  const inKernel = features.some(({ name, state }) => name === 'kernel-path' && state === 'active');
  for (const frame of frames) {
    expect(frame.readUInt8(ETHERNET + 1)).toBe(0);
    const transport = decodePacket(frame.subarray(ETHERNET))?.transport;
    expect(transport?.checksumState).toBe(inKernel ? 'none' : 'right');
  }
});
