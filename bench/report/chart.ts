/** Charts as SVG, drawn by ECharts without a browser (`renderer: 'svg', ssr: true`). */
import {
  BarChart,
  CustomChart,
  LineChart,
  ScatterChart,
  type BarSeriesOption,
  type CustomSeriesOption,
  type LineSeriesOption,
  type ScatterSeriesOption,
} from 'echarts/charts';
import {
  GridComponent,
  LegendComponent,
  TitleComponent,
  type GridComponentOption,
  type LegendComponentOption,
  type TitleComponentOption,
} from 'echarts/components';
import { init, setPlatformAPI, use, type ComposeOption } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import type { Estimate } from '../frame/stats.js';
import { fixed } from '../frame/table.js';
import type { Html } from './markup.js';
import { COLORS, FONT } from './theme.js';

use([
  BarChart,
  CustomChart,
  LineChart,
  ScatterChart,
  GridComponent,
  LegendComponent,
  TitleComponent,
  SVGRenderer,
]);

// There is no browser to ask how wide a text is: letters as in the widest of the usual fonts, so that
// texts never meet; all else square, by which ECharts knows the height of a line.
setPlatformAPI({
  measureText: (text, font) => {
    const size = sizeOf(font);
    const widths = [...text].map((letter) => (letter > '\u00ff' ? size : letterWidth(size)));
    return { width: widths.reduce((sum, width) => sum + width, 0) };
  },
});

type ChartSeries = BarSeriesOption | CustomSeriesOption | LineSeriesOption | ScatterSeriesOption;
type ChartOption = ComposeOption<
  ChartSeries | GridComponentOption | LegendComponentOption | TitleComponentOption
>;

/** Units of the drawing's own; the page scales it to its width. */
const WIDTH = 1_160;
const TEXT = { fontFamily: FONT, fontSize: 16, color: COLORS.ink } as const;
const TITLE = { ...TEXT, fontSize: 17, fontWeight: 'bold' } as const;
const GRID_LINE = { show: true, lineStyle: { color: COLORS.line } } as const;
const AXIS_LINE = { lineStyle: { color: COLORS.muted } } as const;
const LEGEND_LINE = 28;

function letterWidth(fontSize: number): number {
  return 0.6 * fontSize;
}

/** Pixels, of a CSS font. */
function sizeOf(font: string | undefined): number {
  return Number.parseFloat(/([\d.]+)px/.exec(font ?? '')?.[1] ?? '12');
}

/** A part of each bar. */
interface StackSeries {
  readonly name: string;
  readonly color: string;
  /** One a category; undefined where a category has no such part. */
  readonly values: readonly (number | undefined)[];
}

/** Horizontal bars of parts, with the parts' values in them and the sum behind them. */
export function stackedBars(chart: {
  readonly categories: readonly string[];
  readonly series: readonly StackSeries[];
  /** Under the axis. */
  readonly unit: string;
  readonly digits: number;
}): Html {
  const { categories, series, unit, digits } = chart;
  const sums = categories.map((_, index) =>
    series.reduce((sum, { values }) => sum + (values[index] ?? 0), 0),
  );
  const left = categoryWidth(categories);
  const legend = legendLines(series.map(({ name }) => name)) * LEGEND_LINE;
  // A part that is narrower than its number stays without.
  const room = (WIDTH - left - SUM_WIDTH) / (1.1 * Math.max(...sums));
  const fits = (value: number): boolean => value * room > 10 * fixed(value, digits).length + 8;
  const sumLabel = { ...TEXT, fontWeight: 'bold' } as const;
  return drawChart(legend + categories.length * 46 + 62, {
    grid: [{ left, right: SUM_WIDTH, top: legend + 6, bottom: 56, outerBoundsMode: 'none' }],
    legend: legendOf(series.map(({ name }) => name)),
    xAxis: [valueAxis(unit)],
    yAxis: [categoryAxis(categories)],
    series: [
      ...series.map(({ name, color, values }): BarSeriesOption => ({
        type: 'bar',
        name,
        stack: 'all',
        barWidth: 32,
        itemStyle: { color, borderColor: COLORS.panel, borderWidth: 1 },
        data: values.map((value) => ({
          value: value ?? null,
          label: {
            show: value !== undefined && fits(value),
            formatter: fixed(value ?? 0, digits),
            ...TEXT,
            fontSize: 15,
            color: COLORS.on,
          },
        })),
      })),
      {
        type: 'bar',
        stack: 'all',
        barWidth: 32,
        itemStyle: { color: 'none' },
        data: sums.map((sum) => ({
          value: 0,
          label: { show: true, position: 'right', formatter: fixed(sum, digits), ...sumLabel },
        })),
      },
    ],
  });
}

const SUM_WIDTH = 90;

/** One panel of `intervalPanels`: a number of each category. */
interface IntervalPanel {
  readonly title: string;
  readonly unit: string;
  readonly digits: number;
  readonly color: string;
  /** One a category. */
  readonly values: readonly (Estimate | undefined)[];
  /** Points on a logarithmic axis, for values far apart; else bars from 0. Needs values above 0. */
  readonly logarithmic?: boolean;
}

/** Panels side by side over the same categories: medians, with their bounds as whiskers. */
export function intervalPanels(
  categories: readonly string[],
  panels: readonly IntervalPanel[],
): Html {
  const left = categoryWidth(categories);
  const step = (WIDTH - left) / panels.length;
  const top = panels.every(({ title }) => title === '') ? 24 : 36;
  return drawChart(categories.length * 40 + top + 60, {
    title: panels.map(({ title }, index) => titleAt(title, left + index * step, 0)),
    grid: panels.map((_, index) => ({
      left: left + index * step,
      width: step - PANEL_GAP,
      top,
      bottom: 56,
      outerBoundsMode: 'none',
    })),
    xAxis: panels.map(({ unit, logarithmic }, index) => ({
      ...(logarithmic === true ? logAxis(unit) : valueAxis(unit)),
      gridIndex: index,
      splitNumber: 3,
      // Room behind the longest bar for its number.
      ...(logarithmic === true ? {} : endOf(panels[index]?.values ?? [])),
    })),
    yAxis: panels.map((_, index) => ({
      ...categoryAxis(categories),
      gridIndex: index,
      axisLabel: { ...TEXT, show: index === 0 },
    })),
    series: panels.flatMap((panel, index): ChartSeries[] => [
      ...panelMarks(panel, index),
      whiskers(
        index,
        panel.values.flatMap((value, row) =>
          value === undefined ? [] : [{ at: row, low: value.low, high: value.high }],
        ),
        'horizontal',
      ),
    ]),
  });
}

const PANEL_GAP = 44;

/** The medians, with their numbers. */
function panelMarks(panel: IntervalPanel, index: number): ChartSeries[] {
  const { color, digits, values, logarithmic } = panel;
  const axes = { xAxisIndex: index, yAxisIndex: index };
  const scatter = (
    at: (value: Estimate) => number,
    position: 'right' | 'top',
    look: object,
  ): ScatterSeriesOption => ({
    type: 'scatter',
    ...axes,
    ...look,
    data: values.flatMap((value, row) => {
      if (value === undefined) return [];
      const formatter = fixed(value.median, digits);
      return [{ value: [at(value), row], label: { show: true, position, formatter, ...TEXT } }];
    }),
  });
  if (logarithmic === true) {
    const look = { symbolSize: 12, itemStyle: { color, opacity: 1 } };
    return [scatter(({ median }) => median, 'top', look)];
  }
  return [
    {
      type: 'bar',
      ...axes,
      barWidth: 22,
      itemStyle: { color },
      data: values.map((value) => value?.median ?? null),
    },
    // A number stands behind the whisker: a point that cannot be seen carries it.
    scatter(({ high }) => high, 'right', {
      symbolSize: 1,
      itemStyle: { color: 'none', opacity: 1 },
    }),
  ];
}

/** End of an axis: behind the longest bar, with no number of its own. */
function endOf(values: readonly (Estimate | undefined)[]): object {
  const longest = Math.max(0, ...values.map((value) => value?.high ?? 0));
  return {
    max: 1.35 * longest || 1,
    axisLabel: { ...TEXT, formatter: thousands, hideOverlap: true, showMaxLabel: false },
    splitLine: { ...GRID_LINE, showMaxLine: false },
  };
}

/** Measured points with their bounds, and the line fitted through them. */
export interface LineSeries {
  readonly name: string;
  readonly color: string;
  /** A shape of ECharts that lies around its point. */
  readonly symbol: string;
  readonly dashed?: boolean;
  readonly points: readonly { readonly x: number; readonly y: Estimate }[];
  /** y = a + b x. */
  readonly fit: { readonly a: number; readonly b: number } | undefined;
}

interface LinePanel {
  /** Empty when the figure's title says it. */
  readonly title: string;
  readonly series: readonly LineSeries[];
}

/** Panels of lines over the same axis. Series of one name share the legend's entry. */
export function linePanels(chart: {
  readonly panels: readonly LinePanel[];
  /** Panels side by side; the others below. */
  readonly columns: number;
  /** Height of a panel's drawing. */
  readonly height: number;
  readonly xTitle: string;
  readonly yTitle: string;
  /** Where the y axis begins: at 0, or a little below the smallest value. */
  readonly fromZero: boolean;
}): Html {
  const { panels, columns, height, xTitle, yTitle, fromZero } = chart;
  const names = [...new Set(panels.flatMap(({ series }) => series.map(({ name }) => name)))];
  const legend = legendLines(names) * LEGEND_LINE;
  const step = WIDTH / columns;
  const untitled = panels.every(({ title }) => title === '');
  const rowHeight = height + (untitled ? 72 : 92);
  const column = (index: number): number => index % columns;
  const top = (index: number): number =>
    legend + Math.floor(index / columns) * rowHeight + (untitled ? 10 : 34);
  return drawChart(legend + Math.ceil(panels.length / columns) * rowHeight, {
    legend: legendOf(names),
    title: panels.map(({ title }, index) =>
      titleAt(title, column(index) * step + AXIS_WIDTH, top(index) - 30),
    ),
    grid: panels.map((_, index) => ({
      left: column(index) * step + AXIS_WIDTH,
      width: step - AXIS_WIDTH - 36,
      top: top(index),
      height,
      outerBoundsMode: 'none',
    })),
    xAxis: panels.map((_, index) => ({
      ...valueAxis(xTitle),
      gridIndex: index,
      min: 0,
      splitNumber: columns > 1 ? 3 : 6,
    })),
    yAxis: panels.map((_, index) => ({
      ...valueAxis(yTitle),
      gridIndex: index,
      scale: !fromZero,
      splitNumber: 4,
      nameGap: 62,
      nameMoveOverlap: false,
    })),
    series: panels.flatMap(({ series }, index) => series.flatMap((one) => lineMarks(one, index))),
  });
}

/** Width of a vertical axis with its numbers and its title. */
const AXIS_WIDTH = 88;

function lineMarks(series: LineSeries, index: number): ChartSeries[] {
  const { name, color, symbol, dashed, points, fit } = series;
  const axes = { xAxisIndex: index, yAxisIndex: index };
  const xs = points.map(({ x }) => x);
  const ends = fit === undefined ? [] : [Math.min(...xs), Math.max(...xs)];
  return [
    // The first of the name gives the legend its symbol.
    {
      type: 'scatter',
      name,
      ...axes,
      symbol,
      symbolSize: 11,
      itemStyle: { color, opacity: 1 },
      z: 4,
      data: points.map(({ x, y }) => [x, y.median]),
    },
    {
      type: 'line',
      name,
      ...axes,
      symbol: 'none',
      itemStyle: { color },
      lineStyle: { color, width: 2.5, type: dashed === true ? 'dashed' : 'solid' },
      data: ends.map((x) => [x, (fit?.a ?? 0) + (fit?.b ?? 0) * x]),
    },
    whiskers(
      index,
      points.map(({ x, y }) => ({ at: x, low: y.low, high: y.high })),
      'vertical',
    ),
  ];
}

interface Whisker {
  /** Place on the other axis. */
  readonly at: number;
  readonly low: number;
  readonly high: number;
}

/** Bounds: a line from low to high with a stroke at each end. */
function whiskers(
  index: number,
  data: readonly Whisker[],
  direction: 'horizontal' | 'vertical',
): CustomSeriesOption {
  const across = direction === 'horizontal';
  return {
    type: 'custom',
    xAxisIndex: index,
    yAxisIndex: index,
    z: 3,
    data: data.map(({ at, low, high }) => [at, low, high]),
    encode: across ? { x: [1, 2], y: 0 } : { x: 0, y: [1, 2] },
    renderItem: (_, api) => {
      const at = api.value(0);
      const [from, to] = [1, 2].map((dimension) => {
        const value = api.value(dimension);
        return api.coord(across ? [value, at] : [at, value]);
      });
      const [x1 = 0, y1 = 0] = from ?? [];
      const [x2 = 0, y2 = 0] = to ?? [];
      const style = { fill: 'none', stroke: COLORS.ink, lineWidth: 1.5 };
      const line = (shape: object): { type: 'line'; shape: object; style: object } => ({
        type: 'line',
        shape,
        style,
      });
      const [dx, dy] = across ? [0, 5] : [5, 0];
      return {
        type: 'group',
        children: [
          line({ x1, y1, x2, y2 }),
          line({ x1: x1 - dx, y1: y1 - dy, x2: x1 + dx, y2: y1 + dy }),
          line({ x1: x2 - dx, y1: y2 - dy, x2: x2 + dx, y2: y2 + dy }),
        ],
      };
    },
  };
}

/** Title of a panel. */
function titleAt(text: string, left: number, top: number): TitleComponentOption {
  return {
    text,
    left,
    top,
    padding: 0,
    textStyle: TITLE,
    borderColor: 'none',
    backgroundColor: 'none',
  };
}

function valueAxis(name: string): object {
  return {
    type: 'value',
    name,
    nameLocation: 'middle',
    nameGap: 32,
    nameTextStyle: TEXT,
    axisLabel: { ...TEXT, formatter: thousands, hideOverlap: true },
    splitLine: GRID_LINE,
    axisLine: AXIS_LINE,
    axisTick: AXIS_LINE,
  };
}

function logAxis(name: string): object {
  return { ...valueAxis(name), type: 'log' };
}

function categoryAxis(categories: readonly string[]): object {
  return {
    type: 'category',
    data: [...categories],
    inverse: true,
    axisLabel: TEXT,
    axisTick: { show: false },
    axisLine: AXIS_LINE,
  };
}

function legendOf(names: readonly string[]): LegendComponentOption {
  return {
    data: [...names],
    left: 0,
    top: 0,
    padding: 0,
    itemGap: 18,
    textStyle: TEXT,
    itemWidth: 16,
    itemHeight: 14,
    selectedMode: false,
    borderColor: 'none',
    backgroundColor: 'none',
  };
}

/** Lines that the legend takes: each name with its symbol and the gaps. */
function legendLines(names: readonly string[]): number {
  const width = names.reduce((sum, name) => sum + letterWidth(TEXT.fontSize) * name.length + 40, 0);
  return Math.ceil(width / WIDTH);
}

function categoryWidth(categories: readonly string[]): number {
  return (
    20 + letterWidth(TEXT.fontSize) * Math.max(...categories.map((category) => category.length))
  );
}

function thousands(value: number): string {
  return value.toLocaleString('en-US');
}

/** As an inline element of HTML: it scales, and needs no namespace. */
function drawChart(height: number, option: ChartOption): Html {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  try {
    chart.setOption({ animation: false, ...option });
    return (
      chart
        .renderToSVGString()
        .replace(/^<svg[^>]*>/, `<svg viewBox="0 0 ${WIDTH} ${height}">`)
        // What happens below a pointer: nothing.
        .replaceAll(/<style.*?<\/style>\s*/gs, '')
        .replaceAll(/ (?:class|pointer-events|ecmeta_\w+)="[^"]*"/g, '')
    );
  } finally {
    chart.dispose();
  }
}
