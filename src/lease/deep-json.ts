/**
 * JSON text of a value as deep as memory allows. JSON.stringify, which goes down by calls, ends after
 * some thousand levels, JSON.parse does not: what can be read must not be lost in writing.
 */
export function stringifyDeep(value: unknown): string {
  const parts: string[] = [];
  // What is still to be written, the next one last: text as it is, or a value.
  const pending: ({ readonly text: string } | { readonly value: unknown })[] = [{ value }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if ('text' in next) {
      parts.push(next.text);
    } else if (typeof next.value !== 'object' || next.value === null) {
      parts.push(JSON.stringify(next.value) ?? 'null');
    } else {
      const list = Array.isArray(next.value);
      const entries = Object.entries(next.value).filter(([, inner]) => inner !== undefined);
      parts.push(list ? '[' : '{');
      pending.push({ text: list ? ']' : '}' });
      for (const [index, [key, inner]] of [...entries.entries()].reverse()) {
        pending.push({ value: inner });
        if (!list) pending.push({ text: `${JSON.stringify(key)}:` });
        if (index > 0) pending.push({ text: ',' });
      }
    }
  }
  return parts.join('');
}
