/** Makes a directory and what is missing above it. */
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from './errors.js';

/**
 * Mode 0755 for each one made. Rejects with Node's error. Not `mkdir(recursive)`: that never ends
 * where a parent can be made and is still missing (Node 20, below /proc).
 */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o755 });
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    await makeDirectory(dirname(path));
    await mkdir(path, { mode: 0o755 }).catch((again: unknown) => {
      if (errnoOf(again) !== 'EEXIST') throw again;
    });
  }
}
