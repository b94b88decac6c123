/** A data plane without a kernel: records what it is told, fails when told to. */
import { EventEmitter } from 'node:events';
import type { DataPlaneHandle, OpenDataPlane } from '../../src/forward/udp/supervisor.js';
import type {
  DataPlaneEvent,
  DataPlaneOptions,
  DataPlaneSnapshot,
  DeviceCheck,
  ThreadCounters,
} from '../../src/dataplane/dataplane.js';

export function counters(
  direction: ThreadCounters['direction'],
  packets = 0,
  more: Partial<ThreadCounters> = {},
): ThreadCounters {
  return {
    direction,
    receivedPackets: packets,
    receivedBytes: packets * 100,
    sentPackets: packets,
    sentBytes: packets * 100,
    kernelPackets: 0,
    kernelBytes: 0,
    drops: { no_route: 0, short: 0 },
    icmpTimeExceeded: 0,
    icmpUnreachable: 0,
    icmpFragNeeded: 0,
    icmpSuppressed: 0,
    readCalls: packets,
    writeCalls: packets,
    pollCalls: 0,
    batchSizes: [packets, 0, 0],
    queueDrops: 0,
    ringBytes: 0,
    ringCapacityBytes: 4096,
    ringHighWaterBytes: 0,
    eventsLost: 0,
    ...more,
  };
}

/** A device as it should be, where nothing had to be restored. */
export const SOUND_DEVICE: DeviceCheck = {
  name: 'flannel0',
  up: true,
  mtu: 1472,
  master: '',
  addressRestored: false,
  carrierRestored: false,
  mtuRestored: false,
  routeAdded: false,
  routeReplaced: false,
  overlayTakenBy: '',
  refused: 0,
  refusedErrno: 0,
};

export class FakeDataPlane
  extends EventEmitter<{ event: [DataPlaneEvent] }>
  implements DataPlaneHandle
{
  readonly options: DataPlaneOptions;
  /** As asked for, in order; the next change of mode throws what is here. */
  readonly modes: DataPlaneOptions['mode'][] = [];
  modeFailure: Error | undefined;
  readonly device: string;
  readonly published: (readonly number[])[] = [];
  /** NETWORK/PREFIX to next hop, as the changes published so far leave them. */
  readonly routes = new Map<string, number>();
  /** What the next restoreDevice calls find or throw, one each; then the device is sound. */
  readonly restorations: (Partial<DeviceCheck> | Error)[] = [];
  restoreCalls = 0;
  snapshots = 0;
  threads: readonly ThreadCounters[] = [counters('encapsulate'), counters('decapsulate')];
  /** Where they went, with what message. */
  readonly sentDescriptors: (readonly [string, string])[] = [];
  /** As asked for, in order; or what is here is thrown. */
  readonly filters: boolean[] = [];
  readonly steps: ('aside' | 'back')[] = [];
  stepFailure: Error | undefined;
  filterFailure: Error | undefined;
  started = false;
  closed = false;

  constructor(options: DataPlaneOptions) {
    super();
    this.options = options;
    this.device = options.tunName.replace('%d', '0');
  }

  start(): void {
    this.started = true;
  }

  changeRoutes(changes: Uint32Array): void {
    this.published.push([...changes]);
    for (let at = 0; at < changes.length; at += 3) {
      const [network = 0, prefix = 0, nextHop = 0] = changes.subarray(at, at + 3);
      if (nextHop === 0) this.routes.delete(`${network}/${prefix}`);
      else this.routes.set(`${network}/${prefix}`, nextHop);
    }
  }

  changeMode(mode: DataPlaneOptions['mode']): void {
    if (this.modeFailure !== undefined) throw this.modeFailure;
    this.modes.push(mode);
  }

  stepAside(): void {
    if (this.stepFailure !== undefined) throw this.stepFailure;
    this.steps.push('aside');
  }

  stepBack(): void {
    if (this.stepFailure !== undefined) throw this.stepFailure;
    this.steps.push('back');
  }

  filterSources(on: boolean): void {
    if (this.filterFailure !== undefined) throw this.filterFailure;
    this.filters.push(on);
  }

  sendDescriptors(path: string, message: string): void {
    this.sentDescriptors.push([path, message]);
  }

  storeDescriptors(path: string, message: string): void {
    this.sentDescriptors.push([path, message]);
  }

  storeKernelPath(): boolean {
    return false;
  }

  leave(): void {
    this.closed = true;
  }

  restoreDevice(): DeviceCheck {
    this.restoreCalls += 1;
    const found = this.restorations.shift() ?? {};
    if (found instanceof Error) throw found;
    return { ...SOUND_DEVICE, ...found };
  }

  snapshot(): DataPlaneSnapshot {
    this.snapshots += 1;
    return {
      mode: this.modes.at(-1) ?? this.options.mode,
      threads: this.threads,
      features: [],
      queues: null,
    };
  }

  close(): void {
    this.closed = true;
  }
}

export interface FakeDataPlanes {
  readonly open: OpenDataPlane;
  /** Every one that was opened, in order. */
  readonly opened: FakeDataPlane[];
  /** The next opens throw these, one each. */
  readonly failures: Error[];
  /** How many are open now. */
  live(): number;
}

export function fakeDataPlanes(): FakeDataPlanes {
  const opened: FakeDataPlane[] = [];
  const failures: Error[] = [];
  return {
    opened,
    failures,
    live: () => opened.filter((plane) => !plane.closed).length,
    open: (options) => {
      const failure = failures.shift();
      if (failure !== undefined) throw failure;
      const plane = new FakeDataPlane(options);
      opened.push(plane);
      return plane;
    },
  };
}
