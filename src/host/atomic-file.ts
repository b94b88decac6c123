/**
 * Every file this program writes is written here, so that a reader sees the old text or the new one,
 * and a stranger with an account on the host cannot say where it goes.
 *
 *   replaceFile   to a file beside its place, made exclusively under a name that cannot be guessed, which is
 *                 then renamed over the place: a link there is replaced, never followed
 *   writeOutput   the same for a path a person named, which may be a pipe, a device or a link: a link
 *                 is followed only where the kernel's protected_symlinks would let it be
 */
import { randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { lstat, open, readdir, readlink, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { makeDirectory } from '../directory.js';
import { errnoOf, systemError } from '../errors.js';

const FILE_MODE = 0o644;

/** Older than this, a temporary file is of a run that was killed. */
const LEFT_OVER_MS = 600_000;

/** Longest name of which a temporary name with all of it still fits a directory entry (255 bytes). */
const MAX_NAME_BYTES = 200;

/** As the kernel's limit for a path (MAXSYMLINKS). */
const MAX_LINKS = 40;

export interface ReplaceOptions {
  /** Whatever the umask; 0644 when not given. */
  readonly mode?: number;
  /** Mode and owner are those of the file that is replaced, if there is one. */
  readonly keepOwner?: boolean;
}

/** Places that were looked at for left-overs: once is enough for a process that leaves none. */
const swept = new Set<string>();

/** Makes missing directories. Throws Node's error; no temporary file is left then. */
export async function replaceFile(
  path: string,
  content: string | Uint8Array,
  options: ReplaceOptions = {},
): Promise<void> {
  const directory = dirname(path);
  await makeDirectory(directory);
  const temporary = join(directory, temporaryName(path));
  // O_EXCL: an entry that is there already, be it a link, is an error and is not followed (open(2)).
  const file = await open(temporary, 'wx', 0o600);
  try {
    try {
      const before = options.keepOwner === true ? await existing(path) : undefined;
      // Root alone may give a file away; for others it is theirs, as a new file is.
      if (before !== undefined) await file.chown(before.uid, before.gid).catch(() => undefined);
      await file.chmod((before?.mode ?? options.mode ?? FILE_MODE) & 0o7777);
      await file.writeFile(content);
      // A full disk may speak only now; and the name must not outlive the content in a crash.
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  if (!swept.has(path)) {
    swept.add(path);
    await removeLeftOvers(path);
  }
}

/**
 * Writes what a person asked to have at `path`. Throws Node's error, or a system error (EACCES) for a
 * symbolic link of another user in a directory that everybody may write to.
 */
export async function writeOutput(path: string, content: string | Uint8Array): Promise<void> {
  const { target, nameless } = await followTrusted(path);
  const there = nameless ? undefined : await statusOf(target);
  if (there === undefined ? !nameless : there.isFile()) {
    await replaceFile(target, content);
    return;
  }
  if (there !== undefined) await checkOwner(target, there);
  // What is open may be a file that a shell appends to.
  const how = nameless ? constants.O_APPEND : constants.O_NOFOLLOW;
  const file = await open(target, constants.O_WRONLY | how);
  try {
    await file.writeFile(content);
  } finally {
    await file.close();
  }
}

function temporaryName(path: string): string {
  return `${temporaryPrefix(path)}${randomBytes(8).toString('hex')}.tmp`;
}

function temporaryPrefix(path: string): string {
  const name = basename(path);
  return Buffer.byteLength(name) > MAX_NAME_BYTES ? '.flannelette.' : `.${name}.`;
}

async function existing(path: string): Promise<Stats | undefined> {
  const status = await lstat(path).catch(() => undefined);
  return status?.isFile() === true ? status : undefined;
}

async function statusOf(path: string): Promise<Stats | undefined> {
  return lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
}

/** What killed runs left beside `path`. Nothing depends on it, so nothing is said when it fails. */
async function removeLeftOvers(path: string): Promise<void> {
  const directory = dirname(path);
  const prefix = temporaryPrefix(path);
  const names = await readdir(directory).catch((): string[] => []);
  for (const name of names) {
    if (!name.startsWith(prefix)) continue;
    if (!/^[0-9a-f]{16}\.tmp$/.test(name.slice(prefix.length))) continue;
    const status = await lstat(join(directory, name)).catch(() => undefined);
    if (status === undefined || Date.now() - status.mtimeMs < LEFT_OVER_MS) continue;
    await unlink(join(directory, name)).catch(() => undefined);
  }
}

/**
 * Where `path` leads through symbolic links, each of which must be one to be trusted. `nameless`: the
 * last one is the kernel's own (/dev/stdout leads to /proc/self/fd/1) and means what is open there.
 * Throws a system error (EACCES, ELOOP) for one that is not to be followed.
 */
export async function followTrusted(
  path: string,
): Promise<{ readonly target: string; readonly nameless: boolean }> {
  let target = path;
  for (let links = 0; links < MAX_LINKS; links += 1) {
    const status = await lstat(target).catch(() => undefined);
    if (status?.isSymbolicLink() !== true) return { target, nameless: false };
    await checkOwner(target, status);
    if (target.startsWith('/proc/')) return { target, nameless: true };
    target = resolve(dirname(target), await readlink(target));
  }
  throw systemError(`more than ${MAX_LINKS} symbolic links`, { code: 'ELOOP', value: path });
}

/**
 * Refuses what another user put into a directory that everybody may write to, as protected_symlinks
 * and protected_fifos do (proc(5)), also where those are off.
 */
async function checkOwner(path: string, status: Stats): Promise<void> {
  const directory = await stat(dirname(path));
  const shared = (directory.mode & 0o002) !== 0;
  if (!shared || status.uid === process.geteuid?.() || status.uid === directory.uid) return;
  const what = status.isSymbolicLink() ? 'symbolic link' : 'special file';
  throw systemError(
    `EACCES: ${path} is a ${what} of user ${status.uid} in a directory that everybody may write to`,
    { code: 'EACCES', value: path },
  );
}
