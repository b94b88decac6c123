import { describe, expect, it } from 'vitest';
import { bootClock, endsIn, expiryTime, Moment, remainingMs } from '../../../src/lease/expiry.js';

const HOUR = 3_600_000;
const START = Date.parse('2026-01-01T00:00:00Z');

/** Two clocks: time passes for both, and somebody sets the first. */
function setUp() {
  const at = { wall: START, boot: 5_000 };
  const clocks = { now: () => at.wall, boot: () => at.boot };
  return {
    clocks,
    pass: (ms: number) => {
      at.wall += ms;
      at.boot += ms;
    },
    set: (ms: number) => {
      at.wall += ms;
    },
  };
}

describe('the end of a lease', () => {
  it.each([48 * HOUR, -48 * HOUR])('is as far away as before when the clock is set by %d', (by) => {
    const { clocks, pass, set } = setUp();
    const lease = endsIn(24 * HOUR, clocks);
    pass(HOUR);
    set(by);
    expect(remainingMs(lease, clocks)).toBe(23 * HOUR);
    // To show it, by the clock as it is now.
    expect(expiryTime(lease, clocks)).toBe(clocks.now() + 23 * HOUR);
  });

  it('by the wall clock alone is what it says', () => {
    const { clocks, set } = setUp();
    const lease = { expiresAt: START + 24 * HOUR };
    set(HOUR);
    expect(remainingMs(lease, clocks)).toBe(23 * HOUR);
    expect(expiryTime(lease, clocks)).toBe(START + 24 * HOUR);
  });

  it('of a reservation is none', () => {
    const { clocks } = setUp();
    expect(remainingMs({ expiresAt: undefined }, clocks)).toBeUndefined();
    expect(expiryTime({ expiresAt: undefined }, clocks)).toBeUndefined();
  });
});

describe('a moment', () => {
  it('stays where it is while time passes, and moves along when the clock is set', () => {
    const { clocks, pass, set } = setUp();
    const moment = new Moment(clocks);
    pass(HOUR);
    expect(moment.time).toBe(START);
    set(-48 * HOUR);
    expect(clocks.now() - moment.time).toBe(HOUR);
  });
});

it('the boot clock goes on with time', async () => {
  const before = bootClock();
  await expect.poll(bootClock).toBeGreaterThan(before);
  expect(bootClock() - before).toBeLessThan(30_000);
});
