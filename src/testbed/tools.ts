/**
 * Programs that tests and benchmarks use and that no Debian package of the set-up installs:
 * `scripts/setup.mjs` keeps them in the user's cache, outside the repository.
 */
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** As in scripts/cache.mjs. */
export const CACHE = join(
  process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
  'flannelette',
);
export const TOOLS = join(CACHE, 'tools');

/** The path of a program, from PATH or from the cache; undefined when it is in neither. */
export function toolAt(name: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), TOOLS];
  return directories.map((directory) => join(directory, name)).find(isExecutable);
}

/** The newest `NAME-VERSION` of the cache. */
export function cachedTool(name: string): { path: string; version: string } | undefined {
  if (!existsSync(TOOLS)) return undefined;
  const byNumber = new Intl.Collator('en', { numeric: true });
  const [newest] = readdirSync(TOOLS)
    .filter((file) => file.startsWith(`${name}-v`) && isExecutable(join(TOOLS, file)))
    .sort((a, b) => byNumber.compare(b, a));
  if (newest === undefined) return undefined;
  return { path: join(TOOLS, newest), version: newest.slice(name.length + 1) };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
