/**
 * JSON that others wrote, read as Go's decoder reads it: keys match without regard to case. Two bounds
 * that Go need not have: V8 parses a text of any depth but writes only some thousand levels again.
 */
export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The last spelling of `name` in any case, as Go's decoder lets a later field win. */
export function fieldName(document: JsonObject, name: string): string | undefined {
  const lower = name.toLowerCase();
  return Object.keys(document).findLast(
    (key) => key.length === name.length && (key === name || key.toLowerCase() === lower),
  );
}

/** The value of `name` in any case; undefined when it is not there. */
export function field(document: JsonObject, name: string): unknown {
  const found = fieldName(document, name);
  return found === undefined ? undefined : document[found];
}

/** True when arrays and objects in `value` nest deeper than `levels`. Looks no deeper than that. */
export function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (levels === 0) return true;
  return Object.values(value).some((inner) => isDeeperThan(inner, levels - 1));
}
