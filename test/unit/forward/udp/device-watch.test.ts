import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { DeviceWatch } from '../../../../src/forward/udp/device-watch.js';
import { parseCidr } from '../../../../src/config/ipv4.js';
import type { DeviceCheck } from '../../../../src/dataplane/dataplane.js';
import { SOUND_DEVICE } from '../../../support/fake-dataplane.js';

const EXPECTED = {
  name: 'flannel0',
  mtu: 1472,
  network: parseCidr('network', '100.96.0.0/16'),
};

function setUp() {
  const lines: Record<string, unknown>[] = [];
  const log = pino(
    { base: null },
    { write: (text: string) => void lines.push(JSON.parse(text) as Record<string, unknown>) },
  );
  let now = 0;
  const watch = new DeviceWatch(log, () => now);
  const note = (found: Partial<DeviceCheck> = {}, seconds = 1) => {
    now += seconds * 1_000;
    return watch.note(EXPECTED, { ...SOUND_DEVICE, ...found });
  };
  return { lines, note };
}

describe('DeviceWatch', () => {
  it('says nothing about a device that is as it should be', () => {
    const { lines, note } = setUp();
    expect(note()).toEqual([]);
    expect(lines).toEqual([]);
  });

  it('logs what was restored, each time', () => {
    const { lines, note } = setUp();
    expect(note({ routeAdded: true })).toEqual([]);
    note({ addressRestored: true, carrierRestored: true, mtuRestored: true, routeReplaced: true });
    expect(lines.map(({ restored }) => restored)).toEqual([
      ['route (was missing)'],
      ['address', 'carrier', 'MTU', 'route (was replaced)'],
    ]);
    expect(lines[0]).toMatchObject({ device: 'flannel0', level: 40 });
  });

  it('names a program that changes it again and again, and stops logging each time', () => {
    const { lines, note } = setUp();
    for (let look = 0; look < 4; look += 1) expect(note({ routeReplaced: true })).toEqual([]);
    for (let look = 0; look < 100; look += 1) {
      expect(note({ routeReplaced: true })).toMatchObject([{ id: 'device_contended' }]);
    }
    expect(lines).toHaveLength(4);
    expect(note({}, 50)).toMatchObject([{ id: 'device_contended' }]);
    expect(note({}, 11)).toEqual([]);
  });

  it('takes changes that are far apart for no contention', () => {
    const { lines, note } = setUp();
    for (let look = 0; look < 20; look += 1) expect(note({ routeAdded: true }, 15)).toEqual([]);
    expect(lines).toHaveLength(20);
  });

  it.each<[string, Partial<DeviceCheck>, string, string | undefined]>([
    ['device_down', { up: false }, 'flannel0 was set down', 'ip link set flannel0 up'],
    [
      'device_mtu',
      { mtu: 1000 },
      'set to MTU 1000, 1472 would fit',
      'ip link set flannel0 mtu 1472',
    ],
    [
      'device_renamed',
      { name: 'tunnel' },
      'flannel0 was renamed to tunnel',
      'ip link set tunnel down && ip link set tunnel name flannel0 && ip link set flannel0 up',
    ],
    [
      'overlay_network_taken',
      { overlayTakenBy: 'docker0' },
      'all of 100.96.0.0/16 is the own network of docker0',
      undefined,
    ],
    [
      'device_enslaved',
      { master: 'vrf0' },
      'flannel0 was put under vrf0',
      'ip link set flannel0 nomaster',
    ],
    [
      'overlay_refused',
      { refused: 0x64600201, refusedErrno: 13 },
      'sends nothing to 100.96.2.1 of another node, although the route by flannel0 is there: EACCES',
      undefined,
    ],
  ])('%s: %j', (id, found, message, remedy) => {
    const problems = setUp().note(found);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ id, message: expect.stringContaining(message) as string });
    expect(problems[0]?.remedy).toBe(remedy);
  });

  it('names one thing after another by the name the device has now', () => {
    const { note } = setUp();
    expect(note({ name: 'tunnel', up: false })).toMatchObject([
      { id: 'device_renamed' },
      { id: 'device_down', remedy: 'ip link set tunnel up' },
    ]);
  });
});
