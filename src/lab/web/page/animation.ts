/**
 * Packets on their way, at a reduced rate: a dot stands for many. Few packets are shown one by one;
 * ten times as many are some dots more. Dots of a train keep together.
 */
import type { HopRate, HostSample } from '../messages.js';
import { element } from './drawing.js';
import { HOSTS, pathOf, wayBetween } from './layout.js';

/** Dots a second at most, of one direction. */
const DOTS_MAX = 9;
/** Milliseconds from container to container. */
const TRAVEL_MS = 2_600;
/** Above this many packets a call, dots are drawn as trains. */
const TRAIN_PACKETS = 4;
const TRAIN_DOTS = 4;
/** Between the lanes of the two directions, half of it. */
const SHIFT = 4;

/** Dots a second for packets a second. */
export function dotRate(packets: number): number {
  if (packets < 0.5) return 0;
  if (packets <= 4) return packets;
  return Math.min(DOTS_MAX, 4 + 1.1 * Math.log10(packets / 4));
}

interface Flow {
  readonly path: SVGPathElement;
  readonly length: number;
  readonly kind: 'out' | 'in';
  /** Packets a second, as the other host's daemon counts them. */
  readonly count: (hosts: readonly HostSample[]) => number;
  rate: number;
  /** Of a dot; the next leaves at 1. */
  due: number;
}

interface Dot {
  readonly flow: Flow;
  readonly circle: SVGCircleElement;
  readonly born: number;
}

export class Animation {
  readonly #layer: SVGGElement;
  readonly #flows: readonly Flow[];
  readonly #dots: Dot[] = [];
  #train = false;
  #running = false;
  #last = 0;

  constructor(layer: SVGGElement) {
    this.#layer = layer;
    this.#flows = [...flowsWith(2), ...flowsWith(3)];
    for (const { path } of this.#flows) layer.append(path);
  }

  /** The traffic as last counted; packets a call tells trains. */
  show(hosts: readonly HostSample[], packetsPerCall: number): void {
    this.#train = packetsPerCall > TRAIN_PACKETS;
    for (const flow of this.#flows) flow.rate = dotRate(flow.count(hosts));
  }

  /** Packets that one dot stands for; 0 when none is drawn. */
  packetsPerDot(hosts: readonly HostSample[]): number {
    const busiest = Math.max(0, ...this.#flows.map((flow) => flow.count(hosts)));
    const dots = dotRate(busiest) * (this.#train ? TRAIN_DOTS : 1);
    return dots === 0 ? 0 : Math.max(1, busiest / dots);
  }

  set running(run: boolean) {
    if (run === this.#running) return;
    this.#running = run;
    if (run) {
      this.#last = performance.now();
      requestAnimationFrame((now) => {
        this.#frame(now);
      });
      return;
    }
    for (const { circle } of this.#dots.splice(0)) circle.remove();
  }

  #frame(now: number): void {
    if (!this.#running) return;
    // A page in the background draws no frames: what it missed is not drawn at once.
    const passed = Math.min(100, now - this.#last);
    this.#last = now;
    for (const flow of this.#flows) {
      flow.due += (flow.rate * passed) / 1_000;
      if (flow.due >= 1) {
        flow.due %= 1;
        this.#send(flow, now);
      }
    }
    this.#move(now);
    requestAnimationFrame((next) => {
      this.#frame(next);
    });
  }

  #send(flow: Flow, now: number): void {
    for (let index = 0; index < (this.#train ? TRAIN_DOTS : 1); index += 1) {
      const circle = element('circle', { class: `dot ${flow.kind}`, r: 4.5 });
      this.#layer.append(circle);
      this.#dots.push({ flow, circle, born: now + index * 22 });
    }
  }

  #move(now: number): void {
    for (let index = this.#dots.length - 1; index >= 0; index -= 1) {
      const dot = this.#dots[index];
      if (dot === undefined) continue;
      const { flow, circle, born } = dot;
      const part = (now - born) / TRAVEL_MS;
      if (part >= 1) {
        circle.remove();
        this.#dots.splice(index, 1);
        continue;
      }
      const { x, y } = flow.path.getPointAtLength(flow.length * Math.max(0, part));
      circle.setAttribute('transform', `translate(${x} ${y})`);
    }
  }
}

/**
 * Both directions between host 1 and another. All loads begin or end at container-1, so what reaches
 * the other host comes from host 1, and what leaves it goes there.
 */
function flowsWith(other: number): Flow[] {
  const [near, far] = [1, other].map((number) => HOSTS.find((host) => host.number === number));
  if (near === undefined || far === undefined) return [];
  const way = wayBetween(near, far);
  const back = [...way].reverse();
  return [
    flow('out', pathOf(way, -SHIFT), other, ({ inPackets }) => inPackets),
    flow('in', pathOf(back, SHIFT), other, ({ outPackets }) => outPackets),
  ];
}

function flow(
  kind: Flow['kind'],
  d: string,
  counted: number,
  packets: (daemon: HopRate) => number,
): Flow {
  const path = element('path', { d, fill: 'none' });
  return {
    ...{ path, kind, rate: 0, due: 0 },
    length: path.getTotalLength(),
    count: (hosts) => {
      const host = hosts.find(({ number }) => number === counted);
      return host === undefined ? 0 : packets(host.hops.daemon);
    },
  };
}
