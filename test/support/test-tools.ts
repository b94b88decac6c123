/**
 * Programs that tests use and that no Debian package of the set-up installs: `scripts/setup.mjs test`
 * keeps them in the user's cache, outside the repository.
 */
import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** As in scripts/cache.mjs. */
export const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'flannelette');
export const TOOLS = join(CACHE, 'tools');

/** The path of a program, from PATH or from the cache; undefined when it is in neither. */
export function testTool(name: string): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(delimiter), TOOLS];
  return directories.map((directory) => join(directory, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
