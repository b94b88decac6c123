/** Pieces of HTML. Texts that come from a result are escaped here; SVG and HTML pass as they are. */
import type { Fact, ReportTable } from '../frame/table.js';
import { isText } from '../frame/table.js';

/** Markup, ready to stand in the page. */
export type Html = string;

export interface Figure {
  /** Unique in the page. */
  readonly id: string;
  readonly title: string;
  /** One `<svg>` element. */
  readonly svg: Html;
  /** The figure in one or two sentences, with its main numbers: for those who do not see it. */
  readonly label: string;
  /** How it is to be read. */
  readonly caption: string;
  /** Every number that is drawn. */
  readonly tables: readonly ReportTable[];
}

export interface Section {
  readonly id: string;
  readonly title: string;
  readonly facts: readonly Fact[];
  /** What is compared, where facts do not say it. */
  readonly tables: readonly ReportTable[];
  /** How it was measured. */
  readonly method: string;
  readonly figures: readonly Figure[];
  readonly downloads: readonly Download[];
}

/** A file that the page carries. */
interface Download {
  readonly name: string;
  /** Media type, e.g. `text/csv`. */
  readonly type: string;
  readonly text: string;
}

export function escapeHtml(text: string): Html {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

export function renderSection(section: Section): Html {
  const { id, title, facts, tables, method, figures, downloads } = section;
  return [
    `<section aria-labelledby="${id}">`,
    `<h2 id="${id}">${escapeHtml(title)}</h2>`,
    renderFacts(facts),
    ...tables.map(renderTable),
    `<details class="method"><summary>How it was measured: ${escapeHtml(title)}</summary><p>${escapeHtml(method)}</p></details>`,
    ...figures.map(renderFigure),
    `<p class="data">The numbers for other tools: ${downloads.map(renderDownload).join(', ')}.</p>`,
    '</section>',
  ].join('\n');
}

function renderFigure({ id, title, svg, label, caption, tables }: Figure): Html {
  const described = svg.replace('<svg', `<svg role="img" aria-label="${escapeHtml(label)}"`);
  return [
    `<figure id="${id}" aria-labelledby="${id}-title">`,
    `<h3 id="${id}-title">${escapeHtml(title)}</h3>`,
    described,
    `<figcaption>${escapeHtml(caption)}</figcaption>`,
    `<details><summary>The numbers: ${escapeHtml(title)}</summary>`,
    ...tables.map(renderTable),
    '</details>',
    '</figure>',
  ].join('\n');
}

/** The region scrolls when the table is wide, and takes the focus so that keys scroll it. */
function renderTable(table: ReportTable): Html {
  const { title, columns, rows } = table;
  const kind = (index: number): string =>
    isText(table, columns[index] ?? '', index) ? '' : ' class="number"';
  const head = columns.map(
    (column, index) => `<th scope="col"${kind(index)}>${escapeHtml(column)}</th>`,
  );
  const row = (values: readonly string[]): string =>
    values
      .map((value, index) =>
        index === 0
          ? `<th scope="row">${escapeHtml(value)}</th>`
          : `<td${kind(index)}>${escapeHtml(value)}</td>`,
      )
      .join('');
  return [
    `<div class="scroll" role="region" aria-label="${escapeHtml(title)}" tabindex="0"><table>`,
    `<caption>${escapeHtml(title)}</caption>`,
    `<thead><tr>${head.join('')}</tr></thead>`,
    `<tbody>${rows.map((values) => `<tr>${row(values)}</tr>`).join('')}</tbody>`,
    '</table></div>',
  ].join('\n');
}

function renderFacts(facts: readonly Fact[]): Html {
  const items = facts.map(
    ([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${renderValue(value)}</dd></div>`,
  );
  return `<dl>${items.join('')}</dl>`;
}

/** Facts mark commands as Markdown does. */
function renderValue(value: string): Html {
  const command = /^`(.*)`$/s.exec(value)?.[1];
  return command === undefined ? escapeHtml(value) : `<code>${escapeHtml(command)}</code>`;
}

function renderDownload({ name, type, text }: Download): Html {
  const data = Buffer.from(text).toString('base64');
  const escaped = escapeHtml(name);
  return `<a download="${escaped}" href="data:${type};base64,${data}">${escaped}</a>`;
}
