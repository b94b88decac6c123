/** A value over the last minute as a line, with a mark where the mode changed. */
import { element } from './drawing.js';

const SAMPLES = 120;
const VIEW = { width: 300, height: 92, top: 14, bottom: 6 };

interface Entry {
  readonly value: number | null;
  readonly mode: string;
}

export class Chart {
  readonly #entries: Entry[] = [];
  readonly #svg: SVGSVGElement;
  readonly #format: (value: number) => string;

  constructor(svg: SVGSVGElement, format: (value: number) => string) {
    this.#svg = svg;
    this.#format = format;
    svg.setAttribute('viewBox', `0 0 ${VIEW.width} ${VIEW.height}`);
  }

  add(value: number | null, mode: string): void {
    this.#entries.push({ value, mode });
    if (this.#entries.length > SAMPLES) this.#entries.shift();
    this.#draw();
  }

  #draw(): void {
    const values = this.#entries.flatMap(({ value }) => value ?? []);
    const top = Math.max(...values, 0);
    const floor = VIEW.height - VIEW.bottom;
    const x = (index: number): number =>
      ((index + SAMPLES - this.#entries.length) / (SAMPLES - 1)) * VIEW.width;
    const y = (value: number): number =>
      top === 0 ? floor : floor - (value / top) * (floor - VIEW.top);
    let line = '';
    let open = false;
    for (const [index, { value }] of this.#entries.entries()) {
      if (value !== null)
        line += `${open ? 'L' : 'M'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      open = value !== null;
    }
    const parts: SVGElement[] = [
      element('path', {
        class: 'axis',
        d: `M0 ${floor}H${VIEW.width}M0 ${VIEW.top}H${VIEW.width}`,
      }),
      ...this.#marks(x),
      element('path', { class: 'line', d: line }),
      element('text', { class: 'top', x: 0, y: VIEW.top - 3 }, top === 0 ? '' : this.#format(top)),
    ];
    this.#svg.replaceChildren(...parts);
  }

  #marks(x: (index: number) => number): SVGElement[] {
    let count = 0;
    return this.#entries.flatMap(({ mode }, index) => {
      const before = this.#entries[index - 1];
      if (before === undefined || before.mode === mode) return [];
      const at = x(index);
      const late = at > VIEW.width - 50;
      // In two rows, so that names of changes close to each other can be read.
      count += 1;
      const text = {
        class: 'mark',
        x: late ? at - 4 : at + 4,
        y: VIEW.top + (count % 2 ? 12 : 26),
      };
      return [
        element('path', { class: 'mark', d: `M${at} ${VIEW.top}V${VIEW.height - VIEW.bottom}` }),
        element('text', { ...text, 'text-anchor': late ? 'end' : 'start' }, mode),
      ];
    });
  }
}
