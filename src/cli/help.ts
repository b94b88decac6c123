/** How help looks: usage, description, and lists of terms beside what they mean, 100 columns wide. */
import type { Command, CommandGroup, Program } from './command.js';
import { flagText, type Flag, type Flags } from './flags.js';

const COLUMNS = 100;
/** Narrower text is not wrapped: it would be a column of words. */
const NARROWEST = 40;
const PRINT_HELP: Item = ['-h, --help', 'print this help'];

export type Item = readonly [term: string, meaning: string];

export function programHelp({ description, commands, groups, footer }: Program): string {
  const listed: Item[] = [
    ...commands.map(({ name, summary }): Item => [`${name} [options]`, summary]),
    ...groups.map(({ name, summary }): Item => [name, summary]),
    ['help [command]', 'print the help of a command'],
  ];
  const options: Item[] = [['--version', 'print the version'], PRINT_HELP];
  return page('flannelette [options] [command]', description, { options, listed, footer });
}

export function groupHelp({ name, description, commands }: CommandGroup): string {
  const listed = commands.map((command): Item => {
    return [`${command.name.slice(name.length + 1)} [options]`, command.summary];
  });
  const usage = `flannelette ${name} [options] [command]`;
  return page(usage, description, { options: [PRINT_HELP], listed });
}

export function commandHelp({ name, description, flags, footer }: Command): string {
  const options = [...shownFlags(flags).map(flagItem), PRINT_HELP];
  return page(`flannelette ${name} [flags]`, description, { options, footer: footer.trimEnd() });
}

export function shownFlags(flags: Flags): Flag<unknown>[] {
  return Object.values(flags).filter(({ hidden }) => hidden !== true);
}

/** A flag as the lists show it: its forms, and what it means with its default. */
export function flagItem(flag: Flag<unknown>): Item {
  const { name, short, placeholder, alone, help, shownDefault } = flag;
  // ` <port>`, or ` [port]` where the flag stands alone as well.
  const brackets = alone === undefined ? ['<', '>'] : ['[', ']'];
  const value = placeholder === undefined ? '' : ` ${brackets.join(placeholder)}`;
  const term = `${short === undefined ? '' : `-${short}, `}${flagText(name)}${value}`;
  const hasDefault = shownDefault !== undefined && shownDefault !== 'false';
  return [term, hasDefault ? `${help} (default: ${shownDefault})` : help];
}

interface Parts {
  readonly options: readonly Item[];
  readonly listed?: readonly Item[];
  readonly footer?: string;
}

function page(usage: string, description: string, parts: Parts): string {
  const { options, listed = [], footer } = parts;
  const width = Math.max(...[...options, ...listed].map(([term]) => term.length));
  const list = (title: string, items: readonly Item[]): string[] =>
    items.length === 0 ? [] : [title, ...items.map((item) => itemText(item, width)), ''];
  const lines = [
    `Usage: ${usage}`,
    '',
    wrap(description, COLUMNS),
    '',
    ...list('Options:', options),
    ...list('Commands:', listed),
  ];
  return `${lines.join('\n')}${footer === undefined ? '' : `${footer}\n`}`;
}

function itemText([term, meaning]: Item, width: number): string {
  const indent = ' '.repeat(width + 4);
  const room = COLUMNS - indent.length;
  const text = room < NARROWEST ? meaning : wrap(meaning, room);
  return `  ${term.padEnd(width)}  ${text.replaceAll('\n', `\n${indent}`)}`;
}

/** Breaks each line where the next word does not fit. */
function wrap(text: string, columns: number): string {
  return text
    .split('\n')
    .map((line) => {
      const lines: string[] = [];
      let current: string | undefined;
      for (const [word] of line.matchAll(/\s*\S+/g)) {
        if (current === undefined) current = word;
        else if (current.length + word.length <= columns) current += word;
        else {
          lines.push(current);
          current = word.trimStart();
        }
      }
      return [...lines, current ?? ''].join('\n');
    })
    .join('\n');
}
