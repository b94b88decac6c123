/** The HTML report: complete, self-contained, readable without seeing the figures. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { drawReport } from '../../../bench/report/draw.js';
import { DARK, LIGHT } from '../../../bench/report/theme.js';
import { readReport } from '../../../bench/report/report.js';
import { copiesResult, modesResult } from '../../support/bench-results.js';

const PAGE = drawReport({ copies: copiesResult(), modes: modesResult() });

function figuresOf(page: string): string[] {
  return [...page.matchAll(/<figure .*?<\/figure>/gs)].map(([figure]) => figure);
}

function idsOf(page: string): string[] {
  return [...page.matchAll(/<figure id="([^"]+)"/g)].map(([, id = '']) => id);
}

describe('the page', () => {
  it('has the figures of both results, once each, with a link to each', () => {
    const ids = idsOf(PAGE);
    expect(ids).toEqual([
      'path',
      'ways',
      'fixed',
      'sizes',
      'checksums',
      'trains',
      'references',
      'throughput',
      'latency',
      'cpu-tcp',
      'reasons-tcp',
    ]);
    const links = [...PAGE.matchAll(/<li><a href="#([^"]+)"/g)].map(([, id]) => id);
    expect(links).toEqual(ids);
    const all = [...PAGE.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(all).size).toBe(all.length);
  });

  it('has a text alternative and the numbers beside every figure', () => {
    const figures = figuresOf(PAGE);
    expect(figures).toHaveLength(11);
    for (const figure of figures) {
      expect(figure.match(/<svg/g)).toHaveLength(1);
      expect(figure).toMatch(/<svg role="img" aria-label="[^"]{40,}"/);
      expect(figure).toMatch(/<h3 id="[^"]+">[^<]+<\/h3>/);
      expect(figure).toMatch(/<figcaption>[^<]+<\/figcaption>/);
      expect(figure).toMatch(/<details><summary>.*<table>.*<th scope="row">.*<\/details>/s);
    }
  });

  it('needs nothing from anywhere: no script, font, picture or address', () => {
    expect(PAGE).not.toMatch(
      /https?:|<script|<link|<img|<iframe|<object|@import|@font-face|\bsrc=/i,
    );
    expect([...PAGE.matchAll(/url\((?!#)/g)]).toEqual([]);
    const hrefs = [...PAGE.matchAll(/\bhref="([^"]*)"/g)].map(([, href = '']) => href);
    expect(hrefs.filter((href) => !/^(#|data:)/.test(href))).toEqual([]);
    expect(PAGE).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
  });

  it('shows the numbers of the results, and no others in their place', () => {
    expect(PAGE).toContain('six crossings, six copies, 7,530 ns');
    const path = figuresOf(PAGE)[0] ?? '';
    for (const ns of ['1,990', '363', '2,313', '513', '1,836', '515']) {
      expect(path).toContain(`>${ns} ns</text>`);
    }
    expect(PAGE).toContain('1,990 (1,970 to 2,010)');
    expect(PAGE).toContain('offload 9.41');
    expect(PAGE).not.toMatch(/NaN|undefined|Infinity|\[object/);
  });

  it('says where the results come from', () => {
    for (const text of [
      '6.18.44',
      '2 x Processor @ 2.50GHz',
      'abc1234',
      '2026-01-02',
      '1472 bytes in the overlay',
      '<code>flannelette bench copies --json=copies.json</code>',
      'CPUs busy before',
      '<td>what vxlan is</td><td class="number">1450</td>',
      'js: no ping',
      'tcp.yields: perf is not installed',
    ]) {
      expect(PAGE).toContain(text);
    }
  });

  it('carries the numbers as JSON and CSV', () => {
    const files = new Map(
      [...PAGE.matchAll(/download="([^"]+)" href="data:[^;]+;base64,([^"]+)"/g)].map(
        ([, name, data = '']) => [name, Buffer.from(data, 'base64').toString()],
      ),
    );
    expect(JSON.parse(files.get('copies.json') ?? '')).toEqual(
      JSON.parse(JSON.stringify(copiesResult())),
    );
    expect(files.get('copies.csv')).toMatch(/^crossing,checksum,.*\ncontainer-send,software,/);
    expect(JSON.parse(files.get('modes.json') ?? '')).toEqual(modesResult());
  });

  it('escapes what a result says', () => {
    const copies = copiesResult();
    const cpu = `<script>alert("it's")</script>`;
    const page = drawReport({
      copies: { ...copies, environment: { ...copies.environment, cpu } },
    });
    expect(page).not.toContain('<script');
    expect(page).toContain('&lt;script&gt;alert(&quot;it&#39;s&quot;)&lt;/script&gt;');
  });

  it('draws what is there of a result', () => {
    const copies = copiesResult();
    const crossings = copies.crossings.filter(
      ({ crossing, segmented }) => !segmented || crossing.startsWith('udp'),
    );
    const page = drawReport({ copies: { ...copies, crossings, references: [] } });
    expect(idsOf(page)).toEqual(['path', 'ways', 'fixed', 'sizes', 'checksums', 'trains']);
    expect(page).not.toContain('in a train of');
    const modes = modesResult();
    const metrics = modes.metrics.filter(({ key }) => key === 'rtt');
    expect(idsOf(drawReport({ modes: { ...modes, metrics } }))).toEqual(['latency']);
  });
});

it('has the figures of each underlay, with ids of their own', () => {
  const modes = modesResult();
  const plain = modes.underlays.map((one) => ({ ...one, underlay: 'plain' as const }));
  const page = drawReport({ modes: { ...modes, underlays: [...modes.underlays, ...plain] } });
  const first = ['throughput', 'latency', 'cpu-tcp', 'reasons-tcp'];
  expect(idsOf(page)).toEqual([...first, ...first.map((id) => `${id}-plain`)]);
  expect(page).toContain('Throughput by mode. Underlay without segmentation and checksum offload');
});

describe('colours', () => {
  it('of figures are all variables, so that they follow the theme', () => {
    for (const figure of figuresOf(PAGE)) {
      const [drawn = ''] = /<svg.*<\/svg>/s.exec(figure) ?? [];
      const svg = drawn.replaceAll(/<clipPath.*?<\/clipPath>/gs, '');
      const own = [...svg.matchAll(/(?:fill|stroke|color)(?:="|:)\s*([^";]+)/g)].map(([, c]) => c);
      expect(own.length).toBeGreaterThan(10);
      expect(own.filter((c = '') => !/^(var\(--[a-z0-9-]+\)|none|transparent)$/.test(c))).toEqual(
        [],
      );
    }
  });

  it.each([
    ['light', LIGHT],
    ['dark', DARK],
  ])('have contrast enough: %s', (_name, palette) => {
    for (const background of [palette.page, palette.panel]) {
      for (const color of [palette.ink, palette.muted, palette.link]) {
        expect(contrast(color, background)).toBeGreaterThan(4.5);
      }
      for (const color of palette.series) expect(contrast(color, background)).toBeGreaterThan(4.5);
    }
    for (const color of palette.series) expect(contrast(palette.on, color)).toBeGreaterThan(4.5);
  });
});

/** WCAG 2.2, "contrast ratio" and "relative luminance". */
function contrast(one: string, other: string): number {
  const luminance = (color: string): number => {
    const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
      const part = Number.parseInt(color.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [low = 0, high = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

describe('results from files', () => {
  const directory = mkdtempSync(join(tmpdir(), 'flannelette-report-'));
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });
  const file = (name: string, content: unknown): string => {
    const path = join(directory, name);
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  };

  it('are what was written', () => {
    const copies = file('copies.json', copiesResult());
    const modes = file('modes.json', modesResult());
    expect(readReport({ copies, modes })).toEqual({
      copies: copiesResult(),
      modes: modesResult(),
    });
    expect(readReport({ modes }).copies).toBeUndefined();
  });

  const [crossing, ...others] = copiesResult().crossings;
  const { mtu, ...environment } = copiesResult().environment;
  it.each([
    ['another result', modesResult(), '$.kind: "overlays" is not valid: expected "copies"'],
    ['another version', { ...copiesResult(), version: 1 }, '$.version: 1 is not valid: expected 2'],
    [
      'bounds that nobody can name',
      {
        ...copiesResult(),
        crossings: [{ ...crossing, fit: { a: { median: 1, low: 1, high: 1 } } }],
      },
      '$.crossings[0].fit.a.count: (missing) is not valid: expected a number',
    ],
    ['a field less', { ...copiesResult(), environment }, '$.environment.mtu: (missing)'],
    [
      'another crossing',
      { ...copiesResult(), crossings: [...others, { ...crossing, crossing: 'x' }] },
      `$.crossings[${others.length}].crossing: "x" is not valid: expected "container-send" or`,
    ],
    [
      'no number',
      { ...copiesResult(), noise: { median: null, p95: mtu } },
      '$.noise.median: null is not valid: expected a number',
    ],
    [
      'no size',
      { ...copiesResult(), crossings: [{ ...crossing, cells: [] }] },
      '$.crossings[0].cells: [] is not valid: expected a list of 1 or more',
    ],
    ['a list', [copiesResult()], '$: "[{'],
    ['no JSON', '{"kind":', ': "{\\"kind\\":" is not valid: expected JSON'],
  ])('are refused with file and field: %s', (_name, content, message) => {
    const path = file('wrong.json', content);
    const read = (): unknown => readReport({ copies: path });
    expect(read).toThrow(path);
    expect(read).toThrow(message);
  });

  it('are refused when the file is not there, or none is named', () => {
    expect(() => readReport({ modes: join(directory, 'gone.json') })).toThrow('ENOENT');
    expect(() => readReport({})).toThrow('--copies, --modes');
  });

  const [underlay] = modesResult().underlays;
  const [metric] = modesResult().metrics;
  it.each([
    [
      'a metric nobody knows',
      {
        underlays: [
          { ...underlay, subjects: [{ ...underlay?.subjects[0], values: { 'tcp.speed': {} } }] },
        ],
      },
      '$.underlays[0].subjects[0].values: "tcp.speed" is not valid',
    ],
    ['digits that are none', { metrics: [{ ...metric, digits: -1 }] }, '$.metrics[0].digits: -1'],
  ])('of the modes are refused for %s', (_name, wrong, message) => {
    const path = file('modes-wrong.json', { ...modesResult(), ...wrong });
    expect(() => readReport({ modes: path })).toThrow(message);
  });

  it('are refused when they are of two machines', () => {
    const other = modesResult();
    const copies = file('copies.json', copiesResult());
    const modes = file('other.json', {
      ...other,
      environment: { ...other.environment, kernel: '5.10' },
    });
    expect(() => readReport({ copies, modes })).toThrow(
      `${modes}: $.environment.kernel: "5.10" is not valid: expected "6.18.44", that of ${copies}`,
    );
  });
});
