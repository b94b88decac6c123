/**
 * Where everything is in the drawing, in units of its view box. A host has user space above and the
 * kernel below, so that each crossing of the border is a vertical line:
 *
 *     container            daemon           user space
 *   ----- | ---------------- |  | -------------------------
 *      docker0 -- flannel0 --'  '-- eth0    kernel    ==== switch ====
 *
 * Host 1 and host 3 have their eth0 on the right, host 2 is their mirror.
 */
import type { HopName } from '../live/messages.js';

export const VIEW = { width: 1240, height: 472 };

export const HOST = { width: 570, height: 226 };
export const NODE = { width: 172, height: 74 };
/** Where the ways meet, on the lane of hosts 1 and 2. */
export const SWITCH = { x: 620, y: 154 };

/** From the edge of a node that faces the border to the lane in which packets run. */
const LANE = 10;
const USER_TOP = 32;
const KERNEL_TOP = USER_TOP + NODE.height + 34;
/** Distance from a host's top: the border of user space and kernel. */
export const BORDER = USER_TOP + NODE.height + 17;

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface NodePlace {
  readonly hop: HopName;
  readonly user: boolean;
  /** Top left. */
  readonly x: number;
  readonly y: number;
}

export interface HostPlace {
  readonly number: number;
  readonly x: number;
  readonly y: number;
  readonly nodes: readonly NodePlace[];
  /** Corners of the way from the container to the switch. */
  readonly way: readonly Point[];
  /** The same where no process is on it. */
  readonly kernelWay: readonly Point[];
}

const LEFT: Readonly<Record<HopName, number>> = {
  container: 10,
  docker0: 10,
  flannel0: 199,
  daemon: 293,
  eth0: 388,
};
/** Where packets go up into the daemon, and down again. */
const [UP, DOWN] = [330, 427];

export const HOSTS: readonly HostPlace[] = [
  placeHost(1, 10, 4, false),
  placeHost(2, 660, 4, true),
  placeHost(3, 10, 242, false),
];

function placeHost(number: number, x: number, y: number, mirrored: boolean): HostPlace {
  const across = (inside: number): number => x + (mirrored ? HOST.width - inside : inside);
  const nodes = (Object.keys(LEFT) as HopName[]).map((hop): NodePlace => {
    const user = hop === 'container' || hop === 'daemon';
    const left = LEFT[hop];
    return {
      hop,
      user,
      y: y + (user ? USER_TOP : KERNEL_TOP),
      x: mirrored ? across(left + NODE.width) : across(left),
    };
  });
  const user = y + USER_TOP + NODE.height - LANE;
  const kernel = y + KERNEL_TOP + LANE;
  const container = LEFT.container + NODE.width / 2;
  const start = [
    { x: across(container), y: user },
    { x: across(container), y: kernel },
  ];
  const daemon = [
    { x: across(UP), y: kernel },
    { x: across(UP), y: user },
    { x: across(DOWN), y: user },
    { x: across(DOWN), y: kernel },
  ];
  const end = [{ x: SWITCH.x, y: kernel }];
  // Down to the third host, or not at all.
  if (kernel !== SWITCH.y) end.push({ x: SWITCH.x, y: SWITCH.y });
  const way = [...start, ...daemon, ...end];
  return { number, x, y, nodes, way, kernelWay: [...start, ...end] };
}

/** Beside the way, so that both directions can be told apart: an SVG path. */
export function pathOf(points: readonly Point[], shift = 0): string {
  return points
    .map(({ x, y }, index) => `${index === 0 ? 'M' : 'L'}${x + shift} ${y + shift}`)
    .join('');
}
