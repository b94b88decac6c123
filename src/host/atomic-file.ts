/**
 * Files that other programs read while we write them: the text goes to a file beside its place,
 * which is renamed over it, so a reader sees the old or the new one, never half.
 */
import { open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { makeDirectory } from '../directory.js';

const FILE_MODE = 0o644;

/**
 * Writes `text` with mode 0644 whatever the umask, and makes missing directories. Throws Node's
 * error; no temporary file is left then.
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  // A fixed name, as flanneld's: what a killed run left is written over, not added to.
  const temporary = join(dirname(path), `.${basename(path)}`);
  let opened = false;
  try {
    await makeDirectory(dirname(path));
    const file = await open(temporary, 'w', FILE_MODE);
    opened = true;
    try {
      await file.chmod(FILE_MODE);
      await file.writeFile(text);
      // A full disk may speak only now; and the name must not outlive the content in a crash.
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    if (opened) await unlink(temporary).catch(() => undefined);
    throw error;
  }
}
