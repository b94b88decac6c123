/** Numbers as the page shows them: three digits at most, and a unit. */

const PREFIXES = ['', 'k', 'M', 'G', 'T'];

/** `1.23 k`, `45.6 M`, `0`: with a unit behind it. */
export function si(value: number, unit: string): string {
  let [scaled, step] = [value, 0];
  while (scaled >= 999.5 && step < PREFIXES.length - 1) {
    scaled /= 1_000;
    step += 1;
  }
  return `${digits(scaled)} ${PREFIXES[step] ?? ''}${unit}`.trimEnd();
}

/** Three significant digits at most, none behind the point where the unit cannot be divided. */
export function digits(value: number): string {
  if (value === 0) return '0';
  if (value >= 99.5) return value.toFixed(0);
  if (value >= 9.95) return value.toFixed(1).replace(/\.0$/, '');
  return value.toFixed(2).replace(/\.?0+$/, '') || '0';
}

export function percent(part: number): string {
  return `${(part * 100).toFixed(0)} %`;
}

/** A dash where there is nothing to tell. */
export function orDash(value: number | null, show: (value: number) => string): string {
  return value === null ? '–' : show(value);
}
