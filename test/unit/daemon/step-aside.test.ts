import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseCidr } from '../../../src/config/ipv4.js';
import { DaemonState } from '../../../src/daemon/state.js';
import { isBound, StepAside, type Successor } from '../../../src/daemon/step-aside.js';
import { systemError } from '../../../src/errors.js';
import { silentLogger } from '../../../src/log.js';
import type { Aside } from '../../../src/network/forwarder.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A daemon that runs; `back` throws as often as `refusals` says. */
function scene({ aside = true, refusals = 0 } = {}) {
  const state = new DaemonState('offload');
  const end = new AbortController();
  const steps: string[] = [];
  const way: Aside = {
    step: () => {
      steps.push('aside');
    },
    back: () => {
      if (refusals > 0) {
        refusals -= 1;
        throw systemError('bind: EADDRINUSE');
      }
      steps.push('back');
    },
  };
  const forwarder = aside ? { udpPort: 8285, aside: way } : {};
  const config = { network: parseCidr('Network', '100.96.0.0/16'), backend: { type: 'vxlan' } };
  Object.assign(state, { phase: 'running', network: { forwarder }, config });
  const seen: Successor[] = [];
  const other: { ready: boolean | string } = { ready: false };
  const stepAside = new StepAside(state, silentLogger(), end, {
    isReady: (wanted) => {
      seen.push(wanted);
      if (typeof other.ready === 'string') throw systemError(other.ready);
      return other.ready;
    },
    // That of node:timers/promises has no fake.
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  });
  return { state, end, steps, seen, other, stepAside };
}

describe('StepAside', () => {
  it('ends the daemon once another has been ready for a second', async () => {
    const { state, end, steps, seen, other, stepAside } = scene();
    stepAside.begin(60);
    expect(steps).toEqual(['aside']);
    expect(state.phase).toBe('standing aside');
    expect(state.subnetFileWritten).toBe(true);
    await vi.advanceTimersByTimeAsync(5_000);
    other.ready = true;
    await vi.advanceTimersByTimeAsync(900);
    expect(end.signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(300);
    expect(state.phase).toBe('stepped aside');
    expect(end.signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(end.signal.aborted).toBe(true);
    expect(stepAside.done).toBe(true);
    expect(steps).toEqual(['aside']);
    expect(seen[0]).toEqual({ port: 8285, network: parseCidr('Network', '100.96.0.0/16') });
  });

  it('goes on when it cannot look', async () => {
    const { state, other, stepAside, end } = scene();
    stepAside.begin(60);
    other.ready = 'EMFILE';
    await vi.advanceTimersByTimeAsync(5_000);
    expect(state.phase).toBe('standing aside');
    other.ready = true;
    await vi.advanceTimersByTimeAsync(2_500);
    expect(end.signal.aborted).toBe(true);
  });

  it('does not trust one that comes and goes', async () => {
    const { end, other, stepAside } = scene();
    stepAside.begin(3);
    for (let turn = 0; turn < 4; turn += 1) {
      other.ready = true;
      await vi.advanceTimersByTimeAsync(800);
      other.ready = false;
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(end.signal.aborted).toBe(false);
  });

  it('takes port and route back when the time is over, and can step aside again', async () => {
    const { state, end, steps, stepAside } = scene();
    stepAside.begin(2);
    await vi.advanceTimersByTimeAsync(2_200);
    expect(steps).toEqual(['aside', 'back']);
    expect(state.phase).toBe('running');
    expect(end.signal.aborted).toBe(false);
    stepAside.begin(2);
    expect(steps).toEqual(['aside', 'back', 'aside']);
  });

  it('waits on while another has the port but not the route', async () => {
    const { state, steps, other, stepAside, end } = scene({ refusals: 2 });
    stepAside.begin(1);
    await vi.advanceTimersByTimeAsync(2_500);
    expect(state.phase).toBe('standing aside');
    other.ready = true;
    await vi.advanceTimersByTimeAsync(3_000);
    expect(end.signal.aborted).toBe(true);
    expect(steps).toEqual(['aside']);
  });

  it.each([
    ['the network was registered again', (now: DaemonState) => (now.network = undefined)],
    ['the daemon was stopped', (now: DaemonState) => (now.phase = 'stopped')],
  ])('forgets it when %s', async (_, happens) => {
    const { state, end, steps, other, stepAside } = scene();
    stepAside.begin(60);
    happens(state);
    other.ready = true;
    await vi.advanceTimersByTimeAsync(90_000);
    expect(end.signal.aborted).toBe(false);
    expect(stepAside.done).toBe(false);
    expect(steps).toEqual(['aside']);
  });

  it.each([0, -1, 1.5, 3_601, Number.NaN])('refuses %s seconds', (seconds) => {
    expect(() => {
      scene().stepAside.begin(seconds);
    }).toThrow('whole seconds from 1 to 3600');
  });

  it('refuses while it does not run, and for a backend without a port', () => {
    const { state, stepAside } = scene();
    state.phase = 'waiting for the leases';
    expect(() => {
      stepAside.begin(60);
    }).toThrow('this daemon is waiting for the leases: expected one that is running');
    expect(() => {
      scene({ aside: false }).stepAside.begin(60);
    }).toThrow('the vxlan backend has no port to leave');
  });
});

describe('isBound', () => {
  const table = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
 1234: 0200A80A:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  999: 00000000:0035 0200A80A:2061 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
`;
  it.each([
    [8285, true],
    [53, true],
    [8289, false],
    [0x20, false],
  ])('port %s: %s', (port, bound) => {
    expect(isBound(table, port)).toBe(bound);
  });
});
