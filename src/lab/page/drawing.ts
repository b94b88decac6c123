/** The hosts as SVG, and the counters in them. */
import type { HopName, HopRate, HostSample } from '../live/messages.js';
import { percent, si } from './format.js';
import { trainLength } from './trains.js';
import { BORDER, HOST, HOSTS, NODE, pathOf, SWITCH, VIEW, type HostPlace } from './layout.js';

const SVG = 'http://www.w3.org/2000/svg';
const NOTHING: HopRate = { outPackets: 0, outBytes: 0, inPackets: 0, inBytes: 0 };
/** Not on the way, or counted by nobody. */
const UNKNOWN = '–';

type Attributes = Readonly<Record<string, string | number>>;

export function element<K extends keyof SVGElementTagNameMap>(
  name: K,
  attributes: Attributes,
  text?: string,
): SVGElementTagNameMap[K] {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** What shows a hop's counters; packets and bytes of both directions. */
interface HopTexts {
  readonly outPackets: SVGTextElement;
  readonly outBytes: SVGTextElement;
  readonly inPackets: SVGTextElement;
  readonly inBytes: SVGTextElement;
}

export class Drawing {
  /** Where packets are drawn. */
  readonly packets = element('g', { class: 'packets', 'aria-hidden': 'true' });
  readonly #hosts = new Map<number, HostDrawing>();

  constructor(svg: SVGSVGElement) {
    svg.setAttribute('viewBox', `0 0 ${VIEW.width} ${VIEW.height}`);
    for (const place of HOSTS) {
      const host = new HostDrawing(place);
      this.#hosts.set(place.number, host);
      svg.append(host.group);
    }
    svg.append(drawSwitch(), this.packets);
  }

  /** Gives the overlay's device its name. */
  name(device: string | null): void {
    for (const drawing of this.#hosts.values()) drawing.name(device);
  }

  /** Shows which hosts there are; one without a sample has no daemon that forwards. */
  show(hosts: readonly HostSample[], present: ReadonlySet<number>): void {
    for (const [number, drawing] of this.#hosts) {
      const sample = hosts.find((host) => host.number === number);
      drawing.show(sample, present.has(number));
    }
  }
}

class HostDrawing {
  readonly group: SVGGElement;
  readonly #texts = new Map<HopName, HopTexts>();
  readonly #daemon: SVGTextElement;
  readonly #lane: SVGPathElement;
  readonly #place: HostPlace;
  #device: SVGTextElement | undefined;

  constructor(place: HostPlace) {
    const { number, x, y } = place;
    this.group = element('g', { class: 'host', id: `host-${number}` });
    this.#place = place;
    this.#lane = element('path', { class: 'lane', d: pathOf(place.way) });
    this.group.append(
      element('rect', { class: 'box', x, y, width: HOST.width, height: HOST.height, rx: 12 }),
      element('text', { class: 'title', x: x + 14, y: y + 22 }, `host-${number}`),
      element(
        'text',
        { class: 'address', x: x + 78, y: y + 22 },
        `10.168.0.${number + 1}  ·  subnet 100.96.${number}.0/24`,
      ),
      this.#lane,
      element('path', {
        class: 'border',
        d: `M${x + 4} ${y + BORDER}H${x + HOST.width - 4}`,
      }),
      this.#side(place, 'user space', BORDER - 6),
      this.#side(place, 'kernel', BORDER + 14),
    );
    for (const { hop, user, x: left, y: top } of place.nodes) {
      this.#node(number, hop, user, left, top);
    }
    const daemon = place.nodes.find(({ hop }) => hop === 'daemon') ?? { x, y };
    this.#daemon = element('text', {
      class: 'cpu',
      'text-anchor': 'end',
      x: daemon.x + NODE.width - 9,
      y: daemon.y + 18,
    });
    this.group.append(
      this.#daemon,
      element(
        'text',
        { class: 'absent', x: x + HOST.width / 2, y: y + HOST.height / 2 + 6 },
        `host-${number} is not there`,
      ),
    );
  }

  show(sample: HostSample | undefined, present: boolean): void {
    this.group.classList.toggle('gone', !present);
    this.group.classList.toggle('down', present && sample === undefined);
    this.#daemon.textContent =
      sample === undefined ? (present ? 'starting' : '') : `${percent(sample.daemonCpu)} CPU`;
    const way = sample?.byKernel === true ? this.#place.kernelWay : this.#place.way;
    this.#lane.setAttribute('d', pathOf(way));
    for (const [hop, texts] of this.#texts) {
      const rate = sample === undefined ? NOTHING : sample.hops[hop];
      if (rate === null) {
        for (const text of Object.values(texts) as SVGTextElement[]) text.textContent = UNKNOWN;
        continue;
      }
      const { outPackets, outBytes, inPackets, inBytes } = rate;
      const count = (direction: 'out' | 'in', passes: number): string =>
        packetsText(passes, sample === undefined ? 1 : trainLength(hop, direction, sample));
      texts.outPackets.textContent = count('out', outPackets);
      texts.outBytes.textContent = si(outBytes, 'B/s');
      texts.inPackets.textContent = count('in', inPackets);
      texts.inBytes.textContent = si(inBytes, 'B/s');
    }
  }

  /** The overlay's device; null: there is none. */
  name(device: string | null): void {
    if (this.#device !== undefined) this.#device.textContent = device ?? 'no device';
  }

  /** On the side of the wire, where the border is free. */
  #side({ x, y, number }: HostPlace, text: string, down: number): SVGTextElement {
    const mirrored = number === 2;
    return element(
      'text',
      {
        class: 'side',
        'text-anchor': mirrored ? 'start' : 'end',
        x: mirrored ? x + 10 : x + HOST.width - 10,
        y: y + down,
      },
      text,
    );
  }

  #node(number: number, hop: HopName, user: boolean, x: number, y: number): void {
    const group = element('g', { class: `node ${user ? 'user' : 'kernel'}`, 'data-hop': hop });
    // The lane takes the edge at the border.
    const first = user ? y + 18 : y + 33;
    const name = element(
      'text',
      { class: 'name', x: x + 9, y: first },
      hop === 'container' ? `container-${number}` : hop,
    );
    if (hop === 'flannel0') this.#device = name;
    group.append(
      element('rect', { x, y, width: NODE.width, height: NODE.height, rx: 7 }),
      name,
      element(
        'text',
        { class: 'address', x: x + NODE.width - 9, y: first, 'text-anchor': 'end' },
        addressOf(number, hop),
      ),
    );
    const rows = [first + 17, first + 33] as const;
    const line = (row: number, arrow: string, kind: string): [SVGTextElement, SVGTextElement] => {
      const packets = element('text', { class: `count ${kind}`, x: x + 95, y: row }, '0');
      const bytes = element('text', { class: `count ${kind}`, x: x + NODE.width - 9, y: row }, '0');
      packets.dataset['direction'] = kind;
      group.append(
        element('text', { class: `arrow ${kind}`, x: x + 9, y: row }, arrow),
        packets,
        bytes,
      );
      return [packets, bytes];
    };
    const [outPackets, outBytes] = line(rows[0], 'out', 'out');
    const [inPackets, inBytes] = line(rows[1], 'in', 'in');
    this.#texts.set(hop, { outPackets, outBytes, inPackets, inBytes });
    this.group.append(group);
  }
}

/** Packets; passes that are trains with their length, and fewer digits, so that both have room. */
function packetsText(passes: number, length: number): string {
  if (length < 1.5) return si(passes, '');
  return `${si(Number(passes.toPrecision(2)), '')}×${length.toFixed(0)}`;
}

function addressOf(number: number, hop: HopName): string {
  switch (hop) {
    case 'container':
      return `100.96.${number}.${number + 1}`;
    case 'docker0':
      return `100.96.${number}.1`;
    case 'flannel0':
      return `100.96.${number}.0`;
    case 'eth0':
      return `10.168.0.${number + 1}`;
    case 'daemon':
      return '';
  }
}

function drawSwitch(): SVGGElement {
  const { x, y } = SWITCH;
  const group = element('g', { class: 'switch' });
  group.append(
    element('rect', { x: x - 33, y: y - 14, width: 66, height: 54, rx: 7 }),
    element('text', { x, y: y + 20 }, 'switch'),
    element('text', { x, y: y + 34, class: 'small' }, '10.168.0.1'),
  );
  return group;
}
