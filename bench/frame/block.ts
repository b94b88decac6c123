/** The short result that stands in two documents: between two marks, the same text in both. */
import { inputError } from '../../src/errors.js';

const BEGIN = '<!-- benchmark:begin -->';
const END = '<!-- benchmark:end -->';

/** What stands between the marks, without the empty lines around it; undefined without marks. */
export function findBlock(document: string): string | undefined {
  const place = placeOf(document);
  return place && document.slice(place.from, place.to).trim();
}

/** The document with `block` between its marks. Throws an input error when it does not have both. */
export function replaceBlock(document: string, block: string): string {
  const place = placeOf(document);
  if (place === undefined) {
    throw inputError('--readme', undefined, `a document with the lines ${BEGIN} and ${END}`);
  }
  return `${document.slice(0, place.from)}\n${marked(block)}${document.slice(place.to)}`;
}

/** Lines of a document in which the block stands. */
export function blockLines(block: string): string[] {
  return [BEGIN, '', block, '', END, ''];
}

function marked(block: string): string {
  return block === '' ? '' : `\n${block}\n\n`;
}

function placeOf(document: string): { from: number; to: number } | undefined {
  const begin = document.indexOf(BEGIN);
  const to = document.indexOf(END, begin);
  return begin < 0 || to < 0 ? undefined : { from: begin + BEGIN.length, to };
}
