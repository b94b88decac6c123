/** The documents' path of a packet, drawn, with what each crossing of the user/kernel border costs. */
import { fixed } from '../frame/table.js';
import { escapeHtml, type Html } from './markup.js';

/** One of the six crossings, in the packet's order. */
interface PathCrossing {
  /** `1 container send`. */
  readonly title: string;
  /** Nanoseconds of the call, and what of them the fitted line gives to the bytes. */
  readonly ns: number;
  readonly byteNs: number;
}

interface Box {
  readonly x: number;
  readonly width: number;
  readonly title: string;
  readonly detail: string;
}

const WIDTH = 1_320;
const HEIGHT = 462;
const USER = { top: 66, height: 74 };
const BORDER = 248;
const KERNEL = { top: 360, height: 74 };
const HOSTS = [
  { x: 4, title: 'host 1: 10.168.0.2' },
  { x: 674, title: 'host 2: 10.168.0.3' },
];
const HOST_WIDTH = 642;

/** Where the crossings are, and whether they lead into the kernel or out of it. */
const ARROWS = [
  { x: 56, down: true },
  { x: 276, down: false },
  { x: 476, down: true },
  { x: 722, down: false },
  { x: 922, down: true },
  { x: 1_116, down: false },
] as const;

const PROCESSES: readonly Box[] = [
  { x: 20, width: 190, title: 'container-1', detail: '100.96.1.2' },
  { x: 240, width: 390, title: 'daemon', detail: 'encapsulation, UDP 8285' },
  { x: 690, width: 376, title: 'daemon', detail: 'decapsulation, UDP 8285' },
  { x: 1_096, width: 206, title: 'container-2', detail: '100.96.2.3' },
];

const DEVICES: readonly Box[] = [
  { x: 20, width: 170, title: 'docker0', detail: '100.96.1.1' },
  { x: 240, width: 180, title: 'flannel0 (TUN)', detail: '100.96.1.0' },
  { x: 450, width: 180, title: 'eth0', detail: '10.168.0.2' },
  { x: 690, width: 180, title: 'eth0', detail: '10.168.0.3' },
  { x: 886, width: 180, title: 'flannel0 (TUN)', detail: '100.96.2.0' },
  { x: 1_096, width: 206, title: 'docker0', detail: '100.96.2.1' },
];

/** Ways inside the kernel and the wire: from one device to the next. */
const WAYS = [
  { from: 0, to: 1 },
  { from: 2, to: 3 },
  { from: 4, to: 5 },
] as const;

/** `crossings` are the six, in their order. */
export function drawPath(crossings: readonly PathCrossing[]): Html {
  return [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="17" fill="var(--ink)">`,
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="var(--series-1)"/></marker></defs>',
    ...HOSTS.map(drawHost),
    `<line x1="0" x2="${WIDTH}" y1="${BORDER}" y2="${BORDER}" stroke="var(--muted)" stroke-width="2" stroke-dasharray="9 6"/>`,
    text(236, BORDER - 8, 'user space', 'text-anchor="end" fill="var(--muted)"'),
    text(236, BORDER + 20, 'kernel', 'text-anchor="end" fill="var(--muted)"'),
    ...PROCESSES.map((box) => drawBox(box, USER.top, USER.height)),
    ...DEVICES.map((box) => drawBox(box, KERNEL.top, KERNEL.height)),
    ...WAYS.map(drawWay),
    ...crossings.map(drawCrossing),
    '</svg>',
  ].join('\n');
}

function drawHost({ x, title }: { x: number; title: string }): Html {
  const bottom = HEIGHT - 4;
  return [
    `<rect x="${x}" y="4" width="${HOST_WIDTH}" height="${bottom - 4}" rx="12" fill="none" stroke="var(--line)" stroke-width="2"/>`,
    `<path d="M${x} ${BORDER}h${HOST_WIDTH}V${bottom - 12}a12 12 0 0 1-12 12H${x + 12}a12 12 0 0 1-12-12z" fill="var(--line)" fill-opacity="0.3"/>`,
    text(x + 16, 36, title, 'fill="var(--muted)"'),
  ].join('');
}

function drawBox({ x, width, title, detail }: Box, top: number, height: number): Html {
  const middle = x + width / 2;
  return [
    `<rect x="${x}" y="${top}" width="${width}" height="${height}" rx="8" fill="var(--page)" stroke="var(--muted)" stroke-width="1.5"/>`,
    text(middle, top + 32, title, 'text-anchor="middle" font-weight="600"'),
    text(middle, top + 56, detail, 'text-anchor="middle" font-size="15" fill="var(--muted)"'),
  ].join('');
}

function drawWay({ from, to }: { from: number; to: number }): Html {
  const [a, b] = [DEVICES[from], DEVICES[to]];
  if (a === undefined || b === undefined) return '';
  return arrow(a.x + a.width, b.x - 2, KERNEL.top + KERNEL.height / 2, undefined);
}

function drawCrossing({ title, ns, byteNs }: PathCrossing, index: number): Html {
  const place = ARROWS[index];
  if (place === undefined) throw new RangeError(`a path has ${ARROWS.length} crossings`);
  const [user, kernel] = [USER.top + USER.height, KERNEL.top];
  const [from, to] = place.down ? [user, kernel - 2] : [kernel, user + 2];
  const x = place.x + 14;
  return [
    arrow(place.x, place.x, from, to),
    text(x, BORDER - 66, title, ''),
    text(x, BORDER - 36, `${fixed(ns, 0)} ns`, 'font-size="24" font-weight="700"'),
    text(x, BORDER + 30, '1 copy', ''),
    text(x, BORDER + 54, `bytes: ${fixed(byteNs, 0)} ns`, 'fill="var(--muted)"'),
  ].join('');
}

/** Level when `toY` is undefined. */
function arrow(x1: number, x2: number, y1: number, toY: number | undefined): Html {
  return `<line x1="${x1}" x2="${x2}" y1="${y1}" y2="${toY ?? y1}" stroke="var(--series-1)" stroke-width="3" marker-end="url(#arrow)"/>`;
}

function text(x: number, y: number, content: string, attributes: string): Html {
  return `<text x="${x}" y="${y}" ${attributes}>${escapeHtml(content)}</text>`;
}
