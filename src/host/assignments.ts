/**
 * Lines NAME=VALUE as daemons and people write them for a shell, read without one: the value bare or
 * in quotes, `export` before it or not, a comment after it, line ends of any system.
 */
const ASSIGNMENT =
  /^\s*(?:export\s+)?([A-Za-z_]\w*)=(?:"([^"]*)"|'([^']*)'|([^\s;]*))\s*;?\s*(?:#.*)?$/;

export interface Assignment {
  readonly name: string;
  readonly value: string;
}

/** In the order of the text; lines that are none are left out. */
export function parseAssignments(text: string): Assignment[] {
  const found: Assignment[] = [];
  for (const line of text.replace(/^\uFEFF/, '').split(/\r\n|\n|\r/)) {
    const [, name, double, single, bare = ''] = ASSIGNMENT.exec(line) ?? [];
    if (name !== undefined) found.push({ name, value: double ?? single ?? bare });
  }
  return found;
}
