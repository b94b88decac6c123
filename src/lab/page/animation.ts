/**
 * Packets on their way, at a reduced rate: a dot stands for many, in every lane for as many. A host has
 * two lanes, out and in, whose dots are as many as its daemon carried that way; where fewer come in than
 * went out, dots end at the switch. Dots of a train keep together.
 */
import type { HostSample } from '../live/messages.js';
import { element } from './drawing.js';
import { HOSTS, pathOf, type HostPlace } from './layout.js';
import { trainLength } from './trains.js';

/** Dots a second at most, of the busiest lane; so many packets are shown one by one. */
const DOTS_MAX = 14;
const DOTS_EACH = 10;
/** Milliseconds from container to switch. */
const TRAVEL_MS = 1_300;
/** From so many packets a pass, dots are drawn as trains. */
const TRAIN_PACKETS = 4;
const TRAIN_DOTS = 4;
/** Between the lanes of the two directions, half of it. */
const SHIFT = 4;
/** Two counts of the same packets, taken a moment apart, differ by so much. */
const SAME = 0.97;

/** Dots a second for packets a second of the busiest lane: ten times as many are about one more. */
export function dotRate(packets: number): number {
  if (packets < 0.5) return 0;
  if (packets <= DOTS_EACH) return packets;
  return Math.min(DOTS_MAX, DOTS_EACH + 0.8 * Math.log10(packets / DOTS_EACH));
}

type Kind = 'out' | 'in';

interface Lane {
  readonly path: SVGPathElement;
  length: number;
  readonly kind: Kind;
  /** Packets a second that the host carried, or passes where nobody counts packets. */
  packets: number;
  train: boolean;
  /** Progress of a dot; the next leaves at 1. */
  due: number;
}

interface Dot {
  lane: Lane;
  /** Where it goes on behind the switch. */
  readonly next: Lane | undefined;
  readonly circle: SVGCircleElement;
  born: number;
}

interface HostLanes {
  readonly place: HostPlace;
  byKernel: boolean;
  readonly out: Lane;
  readonly in: Lane;
  /** Dots that are to go on to this host behind the switch; the next does at 1. */
  due: number;
}

export class Animation {
  readonly #layer: SVGGElement;
  readonly #hosts: ReadonlyMap<number, HostLanes>;
  readonly #dots: Dot[] = [];
  /** Packets that a dot stands for; 0 when there are none. */
  #scale = 0;
  #running = false;
  #last = 0;

  constructor(layer: SVGGElement) {
    this.#layer = layer;
    this.#hosts = new Map(HOSTS.map((place) => [place.number, lanesOf(place)]));
    for (const { out, in: inward } of this.#hosts.values()) layer.append(out.path, inward.path);
  }

  /** Shows the traffic as last counted; returns the packets that a dot stands for, 0 for no dots. */
  show(hosts: readonly HostSample[]): number {
    let busiest = 0;
    for (const [number, lanes] of this.#hosts) {
      const host = hosts.find((one) => one.number === number);
      if (host !== undefined && host.byKernel !== lanes.byKernel) lead(lanes, host.byKernel);
      for (const kind of ['out', 'in'] as const) {
        const packets = (host?.carried ?? host?.hops.eth0)?.[`${kind}Packets`] ?? 0;
        lanes[kind].packets = packets;
        lanes[kind].train = host !== undefined && trainLength('eth0', kind, host) >= TRAIN_PACKETS;
        busiest = Math.max(busiest, packets);
      }
    }
    const dots = dotRate(busiest);
    this.#scale = dots === 0 ? 0 : busiest / dots;
    return this.#scale;
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
    const passed = Math.min(100, now - this.#last) / 1_000;
    this.#last = now;
    if (this.#scale > 0) {
      for (const [number, { out }] of this.#hosts) {
        const dots = out.train ? TRAIN_DOTS : 1;
        out.due += (out.packets / this.#scale / dots) * passed;
        if (out.due < 1) continue;
        out.due %= 1;
        this.#send(out, this.#nextOf(number), dots, now);
      }
    }
    this.#move(now);
    requestAnimationFrame((next) => {
      this.#frame(next);
    });
  }

  #send(lane: Lane, next: Lane | undefined, dots: number, now: number): void {
    for (let index = 0; index < dots; index += 1) {
      const circle = element('circle', { class: `dot ${lane.kind}`, r: 4.5 });
      this.#layer.append(circle);
      this.#dots.push({ lane, next, circle, born: now + index * 22 });
    }
  }

  /**
   * Where the next dot of a host goes on. All loads begin or end at container-1: what another host sends
   * goes there, and what host 1 sends to the others, as many to each as come in there.
   */
  #nextOf(from: number): Lane | undefined {
    const to = [...this.#hosts].filter(([number]) => (from === 1) !== (number === 1));
    const senders = [...this.#hosts].filter(([number]) => (from === 1) === (number === 1));
    const sent = senders.reduce((sum, [, { out }]) => sum + out.packets, 0);
    const arrived = to.reduce((sum, [, { in: inward }]) => sum + inward.packets, 0);
    const share = arrived >= sent * SAME ? 1 / arrived : 1 / sent;
    for (const [, lanes] of to) lanes.due += lanes.in.packets * share;
    const best = to.map(([, lanes]) => lanes).sort((a, b) => b.due - a.due)[0];
    // Half, so that the first dot of a load goes on.
    if (best === undefined || best.due < 0.5) return undefined;
    best.due -= 1;
    return best.in;
  }

  #move(now: number): void {
    for (let index = this.#dots.length - 1; index >= 0; index -= 1) {
      const dot = this.#dots[index];
      if (dot === undefined) continue;
      let part = (now - dot.born) / TRAVEL_MS;
      if (part >= 1 && dot.lane.kind === 'out' && dot.next !== undefined) {
        dot.lane = dot.next;
        dot.born += TRAVEL_MS;
        dot.circle.setAttribute('class', `dot ${dot.lane.kind}`);
        part -= 1;
      }
      if (part >= 1) {
        dot.circle.remove();
        this.#dots.splice(index, 1);
        continue;
      }
      const { path, length } = dot.lane;
      const { x, y } = path.getPointAtLength(length * Math.max(0, part));
      dot.circle.setAttribute('transform', `translate(${x} ${y})`);
    }
  }
}

function lanesOf(place: HostPlace): HostLanes {
  const lane = (kind: Kind): Lane => {
    const path = element('path', { fill: 'none' });
    return { path, kind, packets: 0, train: false, due: 0, length: 0 };
  };
  const lanes = { place, byKernel: false, out: lane('out'), in: lane('in'), due: 0 };
  lead(lanes, false);
  return lanes;
}

/** The lanes lie so that what leaves host 1 comes into host 2 on one line. */
function lead(lanes: HostLanes, byKernel: boolean): void {
  const { place, out, in: inward } = lanes;
  const side = place.number === 2 ? SHIFT : -SHIFT;
  const way = byKernel ? place.kernelWay : place.way;
  lanes.byKernel = byKernel;
  out.path.setAttribute('d', pathOf(way, side));
  inward.path.setAttribute('d', pathOf([...way].reverse(), -side));
  for (const lane of [out, inward]) lane.length = lane.path.getTotalLength();
}
