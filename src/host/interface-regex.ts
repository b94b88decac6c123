/**
 * `--iface-regex` as flanneld takes it: Go's syntax (RE2), made JavaScript's.
 *
 * What both spell alike passes as it is; of the rest, what people write of interfaces and addresses
 * is translated: flags in front `(?i)`, `\A` and `\z`, `\Q...\E`, named groups `(?P<name>...)`,
 * `[[:alpha:]]`, escapes of any punctuation, and `]`, `{` and `}` that stand for themselves.
 */
import { inputError, messageOf } from '../errors.js';

const POSIX_CLASSES: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  blank: '\\t ',
  digit: '0-9',
  lower: 'a-z',
  punct: '!-\\/:-@\\[-`\\{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
};

/** One piece of an expression outside of brackets; whatever is none of these is a character. */
const PIECE =
  /\\Q(?<quoted>.*?)(?:\\E|$)|\\(?<escaped>.)|(?<group>\(\?P<)|(?<set>\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\])|(?<repeat>\{\d+(?:,\d*)?\})|(?<brace>[\]{}])/gsu;

/** The same between brackets. */
const PIECE_OF_SET = /\[:(?<posix>\w+):\]|\\(?<escaped>.)|(?<bracket>\[)/gsu;

/** Throws an input error for what is no regular expression. */
export function parseInterfaceRegex(expression: string): RegExp {
  try {
    const [, flags = '', rest = ''] = /^(?:\(\?([ims]+)\))?(.*)$/su.exec(expression) ?? [];
    return new RegExp(translate(rest), `u${flags}`);
  } catch (error) {
    throw inputError('--iface-regex', expression, `a regular expression (${messageOf(error)})`);
  }
}

function translate(expression: string): string {
  return expression.replace(PIECE, (piece: string, ...more: unknown[]) => {
    const { quoted, escaped, group, set, brace } = groupsOf(more);
    if (quoted !== undefined) return quoted.replace(/[\\^$.*+?()[\]{}|/]/gu, '\\$&');
    if (escaped === 'A') return '(?<![^])';
    if (escaped === 'z') return '(?![^])';
    if (escaped !== undefined) return translateEscape(piece, escaped, /[\\^$.*+?()[\]{}|/]/u);
    if (group !== undefined) return '(?<';
    if (set !== undefined) return translateSet(set);
    return brace === undefined ? piece : `\\${brace}`;
  });
}

function translateSet(set: string): string {
  const [, open = '', inner = ''] = /^(\[\^?)(.*)\]$/su.exec(set) ?? [];
  // A bracket that comes first stands for itself.
  const first = inner.startsWith(']') ? '\\]' : '';
  const rest = inner.slice(first === '' ? 0 : 1);
  const translated = rest.replace(PIECE_OF_SET, (piece: string, ...more: unknown[]) => {
    const { posix, escaped } = groupsOf(more);
    if (posix !== undefined) {
      const range = POSIX_CLASSES[posix];
      if (range === undefined) throw new Error(`no class ${piece}`);
      return range;
    }
    if (escaped !== undefined) return translateEscape(piece, escaped, /[\\^$.*+?()[\]{}|/-]/u);
    return '\\[';
  });
  return `${open}${first}${translated}]`;
}

/** JavaScript lets only what it could mistake be escaped; Go any punctuation. */
function translateEscape(piece: string, escaped: string, needed: RegExp): string {
  return /[\w]/u.test(escaped) && escaped !== '_' ? piece : needed.test(escaped) ? piece : escaped;
}

/** The named groups, which `replace` gives as the last argument. */
function groupsOf(more: readonly unknown[]): Partial<Record<string, string>> {
  return more.at(-1) as Partial<Record<string, string>>;
}
