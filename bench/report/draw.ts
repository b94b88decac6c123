/** The HTML report: one file with the figures of the benchmarks' results. */
import type { CopiesResult } from '../copies/copies-result.js';
import type { OverlaysResult } from '../overlays/overlays-result.js';
import { copiesSection } from './copies-figures.js';
import type { Html } from './markup.js';
import { overlaysSection } from './overlays-figures.js';
import { renderPage } from './page.js';

export interface ReportParts {
  readonly copies?: CopiesResult | undefined;
  readonly modes?: OverlaysResult | undefined;
}

export function drawReport({ copies, modes }: ReportParts): Html {
  return renderPage({
    title: 'flannelette: what a packet costs in user space',
    introduction:
      "flannelette carries IP packets between containers on different hosts: a TUN device, a daemon and UDP, as flannel's udp backend does. Each packet crosses the border between user space and kernel six times. Here is what that costs on the machine named below.",
    sections: [
      ...(copies === undefined ? [] : [copiesSection(copies)]),
      ...(modes === undefined ? [] : [overlaysSection(modes)]),
    ],
  });
}
