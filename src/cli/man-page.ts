/**
 * The man page, made of the records that --help is made of: flannelette(8), in man(7) macros. It has no
 * text of its own about commands and flags.
 */
import type { Command, CommandGroup, Program } from './command.js';
import { flagItem, shownFlags, type Item } from './help.js';

export interface ManPageFacts {
  readonly version: string;
  /** Day of the release, YYYY-MM-DD. */
  readonly date: string;
  /** Files of the installation, with what each is for. */
  readonly files: readonly Item[];
}

export function manPage(program: Program, { version, date, files }: ManPageFacts): string {
  const [first = '', ...rest] = program.description.split('\n');
  const lines = [
    `.TH FLANNELETTE 8 "${date}" "flannelette ${version}" "System Administration"`,
    '.SH NAME',
    `flannelette \\- ${escaped(first.charAt(0).toLowerCase() + first.slice(1).replace(/\.$/, ''))}`,
    '.SH SYNOPSIS',
    '.B flannelette',
    '.I command',
    '.RI [ flags ]',
    '.SH DESCRIPTION',
    ...paragraph([first, ...rest].join('\n')),
    ...sections(program.footer),
    '.SH COMMANDS',
    ...program.commands.flatMap(commandSection),
    ...program.groups.flatMap(groupSection),
    '.SH FILES',
    ...files.flatMap(item),
  ];
  return `${lines.join('\n')}\n`;
}

function commandSection({ name, summary, description, flags, footer }: Command): string[] {
  return [
    `.SS ${escaped(name)}`,
    ...paragraph(`flannelette ${name}: ${summary}.`),
    ...paragraph(description),
    ...shownFlags(flags).map(flagItem).flatMap(item),
    ...sections(footer),
  ];
}

function groupSection({ name, description, commands }: CommandGroup): string[] {
  return [
    `.SS ${escaped(name)}`,
    ...paragraph(description),
    ...commands.map((command): Item => [command.name, command.summary]).flatMap(item),
  ];
}

function item([term, meaning]: Item): string[] {
  return ['.TP', `.B ${escaped(term)}`, ...meaning.split('\n').map(line)];
}

function paragraph(text: string): string[] {
  return ['.PP', ...text.split('\n').map(line)];
}

/** What follows the flags: titles at the margin that end in a colon, indented lines kept as they are. */
function sections(footer: string): string[] {
  // Alternately text at the margin, and blocks of indented lines with the empty ones between them.
  const blocks = footer.trim().split(/^((?: .*\n?|\n(?= ))+)/m);
  return blocks.flatMap((block, index) => {
    const lines = block.trimEnd().split('\n');
    if (index % 2 === 1) {
      return [
        '.RS 2',
        '.nf',
        ...lines.map((text) => line(text.replace(/^ {2}/, ''))),
        '.fi',
        '.RE',
      ];
    }
    return lines
      .filter((text) => text !== '')
      .flatMap((text) => (text.endsWith(':') ? ['.PP', `.B ${escaped(text)}`] : paragraph(text)));
  });
}

/** A line of text that groff takes for no request. */
function line(text: string): string {
  return /^[.']/.test(text) ? `\\&${escaped(text)}` : escaped(text);
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll("'", '\\(aq');
}
