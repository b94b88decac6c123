/**
 * Colours of the report. Figures name them as CSS variables, so that one drawing serves light, dark
 * and paper. Text on a series' colour is `on`; every pair has a contrast of 4.5 at least (WCAG AA).
 */

export const COLORS = {
  ink: 'var(--ink)',
  muted: 'var(--muted)',
  line: 'var(--line)',
  on: 'var(--on)',
  page: 'var(--page)',
  panel: 'var(--panel)',
} as const;

/** Colours of series, by their place; the last is for what only stands beside the others. */
export const SERIES = [1, 2, 3, 4, 5, 6, 7].map((place) => `var(--series-${place})`);

export const FONT = 'system-ui, sans-serif';

interface Palette {
  readonly ink: string;
  readonly muted: string;
  readonly line: string;
  readonly page: string;
  readonly panel: string;
  readonly link: string;
  readonly on: string;
  readonly series: readonly string[];
}

export const LIGHT: Palette = {
  ink: '#15181d',
  muted: '#4a525e',
  line: '#c3c9d2',
  page: '#ffffff',
  panel: '#f2f4f7',
  link: '#0b57a8',
  on: '#ffffff',
  series: ['#1f5fa8', '#a34a00', '#1d7044', '#7b3f9e', '#0f6b78', '#b0265a', '#5c6470'],
};

export const DARK: Palette = {
  ink: '#eef1f5',
  muted: '#b6bec9',
  line: '#4a535f',
  page: '#12161b',
  panel: '#1d232b',
  link: '#8cc0ff',
  on: '#10141a',
  series: ['#7db4f5', '#f2a65a', '#6ccf94', '#c9a0ec', '#5ec9d8', '#f58fb4', '#a9b2bf'],
};

/** The page's style sheet: no font, picture or script from anywhere. */
export function styleSheet(): string {
  return `
:root { color-scheme: light; ${variables(LIGHT)} }
@media screen {
  @media (prefers-color-scheme: dark) { :root { color-scheme: dark; ${variables(DARK)} } }
  :root:has(#theme-light:checked) { color-scheme: light; ${variables(LIGHT)} }
  :root:has(#theme-dark:checked) { color-scheme: dark; ${variables(DARK)} }
}
${RULES}`;
}

function variables({ series, ...named }: Palette): string {
  return [
    ...Object.entries(named).map(([name, color]) => `--${name}: ${color};`),
    ...series.map((color, index) => `--series-${index + 1}: ${color};`),
  ].join(' ');
}

const RULES = `
* { box-sizing: border-box; }
html { font: 18px/1.5 ${FONT}; background: var(--page); color: var(--ink); scroll-behavior: smooth; }
body { margin: 0; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 1rem 0 0.5rem; }
h2 { font-size: 1.6rem; line-height: 1.25; margin: 2.5rem 0 0.75rem; }
h3 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 0.5rem; }
p, figcaption { max-width: 80ch; }
a { color: var(--link); text-underline-offset: 0.15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; }
:target { scroll-margin-top: 1rem; }
.skip { position: absolute; left: -100vw; background: var(--page); padding: 0.5rem 1rem; }
.skip:focus { left: 0; top: 0; }
.top { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; justify-content: space-between; align-items: start; }
fieldset { border: 1px solid var(--line); border-radius: 6px; margin: 1rem 0 0; padding: 0 0.75rem 0.25rem; }
fieldset label { margin-right: 0.75rem; white-space: nowrap; }
legend { color: var(--muted); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.5rem; padding: 0; margin: 0.5rem 0; list-style: none; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 0.35rem 1.5rem; margin: 0 0 1rem; }
dl div { min-width: 0; }
dt { color: var(--muted); font-size: 0.85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
code { font-size: 0.9em; overflow-wrap: anywhere; }
figure { margin: 2rem 0 0; padding: 1rem 1.25rem; background: var(--panel); border-radius: 10px; break-inside: avoid; }
figure > svg { display: block; width: 100%; height: auto; max-height: 82vh; }
figcaption { margin-top: 0.5rem; }
details { margin-top: 0.75rem; }
summary { cursor: pointer; color: var(--link); width: fit-content; }
.scroll { overflow-x: auto; margin-top: 0.75rem; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.25rem; }
th, td { text-align: left; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th[scope='row'] { font-weight: 400; }
th.number, td.number { text-align: right; white-space: nowrap; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  @page { size: A4; margin: 14mm; }
  html { font-size: 10.5pt; }
  header, main { max-width: none; padding: 0; }
  .skip, fieldset, nav, .data, summary { display: none; }
  figure { padding: 0; background: none; margin-top: 1.25rem; break-inside: auto; }
  figure > svg { max-height: none; break-inside: avoid; break-after: avoid; }
  h2, h3 { break-after: avoid; }
  figcaption, tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  .scroll { overflow: visible; break-inside: avoid; }
  table { font-size: 7.5pt; }
  th, td { padding-right: 0.4rem; }
  th.number, td.number { white-space: normal; }
  a { color: inherit; }
}
`;
