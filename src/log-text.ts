/**
 * One event of the log as one line for people:
 *
 *   2026-11-21 12:00:00.123 INFO  external interface interface=eth0 address=10.168.0.2 mtu=1500
 */
import { escapeControls } from './errors.js';

/** Names and colours (ANSI SGR) of pino's levels. */
const LEVELS: Readonly<Record<number, readonly [name: string, colour: number]>> = {
  10: ['TRACE', 90],
  20: ['DEBUG', 90],
  30: ['INFO', 32],
  40: ['WARN', 33],
  50: ['ERROR', 31],
  60: ['FATAL', 31],
};

export interface TextStyle {
  /** False where the reader adds the time, as the journal does. */
  readonly time: boolean;
  readonly colour: boolean;
}

/** `line` is one event as pino writes it; ends with a newline, and has no other. */
export function formatEvent(line: string, style: TextStyle): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as Readonly<Record<string, unknown>>;
  const [name, colour] = LEVELS[Number(level)] ?? ['LOG', 0];
  const shown = style.colour ? `\u001b[${colour}m${name}\u001b[0m` : name;
  const words = [
    ...(style.time ? [localTime(new Date(Number(time)))] : []),
    shown + ' '.repeat(5 - name.length),
    escapeControls(typeof msg === 'string' ? msg : ''),
    ...Object.entries(fields).map(([key, value]) => `${key}=${showValue(value)}`),
  ];
  return `${words.filter((word) => word !== '').join(' ')}\n`;
}

/** As it is when it is one word; quoted as JSON otherwise. */
function showValue(value: unknown): string {
  if (typeof value === 'string' && /^[^\s"=\p{C}]+$/u.test(value)) return value;
  return escapeControls(JSON.stringify(value) ?? String(value));
}

function localTime(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join('-');
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
  return `${day} ${clock}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}
