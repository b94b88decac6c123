/**
 * Files that a stranger with an account on the host tries to redirect. `nobody` is played by root: what
 * matters is whose entry it is, and that is set with chown.
 */
import { execFileSync } from 'node:child_process';
import {
  chmod,
  chown,
  lchown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCidr } from '../../../src/config/ipv4.js';
import { replaceFile, writeOutput } from '../../../src/host/atomic-file.js';
import { readBounded } from '../../../src/host/bounded-read.js';
import { writeSubnetEnv } from '../../../src/host/subnet-env.js';
import { LeaseFileStore } from '../../../src/lease/file/file-store.js';
import {
  formatRemembered,
  readRemembered,
  rememberedPath,
  writeRemembered,
} from '../../../src/lease/remembered/remembered-file.js';
import { silentLogger } from '../../../src/log.js';

const NOBODY = 65_534;
const isRoot = process.geteuid?.() === 0;
const ENV = {
  network: parseCidr('test', '100.96.0.0/16'),
  subnet: parseCidr('test', '100.96.1.0/24'),
  mtu: 1472,
  ipMasq: false,
};
const LEASE_FILE = '{"version":1,"config":{"Network":"100.96.0.0/16"},"leases":{}}';

let directory: string;
/** Sticky and for everybody, as /tmp. */
let shared: string;
let victim: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
  shared = join(directory, 'shared');
  await mkdir(shared);
  await chmod(shared, 0o1777);
  victim = join(directory, 'victim');
  await writeFile(victim, 'precious');
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const names = async (): Promise<string[]> => (await readdir(shared)).sort();

/** A link of another user's to the victim. */
async function plant(name: string, target = victim): Promise<string> {
  const path = join(shared, name);
  await symlink(target, path);
  if (isRoot) await lchown(path, NOBODY, NOBODY);
  return path;
}

describe('a link that somebody planted is never written through', () => {
  it('.subnet.env, the fixed name of old', async () => {
    await plant('.subnet.env');
    await writeSubnetEnv(join(shared, 'subnet.env'), ENV);
    expect(await readFile(victim, 'utf8')).toBe('precious');
    expect((await lstat(join(shared, 'subnet.env'))).isFile()).toBe(true);
    expect(await names()).toEqual(['subnet.env']);
  });

  it('subnet.env itself: the link is replaced', async () => {
    const path = await plant('subnet.env');
    await writeSubnetEnv(path, ENV);
    expect(await readFile(victim, 'utf8')).toBe('precious');
    expect((await lstat(path)).isFile()).toBe(true);
  });

  it('the remembered leases', async () => {
    const path = await plant('subnet.env.leases.json');
    await writeRemembered(path, '{}');
    expect(await readFile(victim, 'utf8')).toBe('precious');
    expect((await lstat(path)).mode & 0o777).toBe(0o600);
  });

  it.runIf(isRoot)("an output's, of another user, in a directory for everybody", async () => {
    const path = await plant('docker_opts.env');
    await expect(writeOutput(path, 'x')).rejects.toMatchObject({
      code: 'EACCES',
      message: expect.stringMatching(/symbolic link of user 65534/) as string,
    });
    await plant('second', path);
    await symlink(path, join(directory, 'trusted-to-planted'));
    await expect(writeOutput(join(directory, 'trusted-to-planted'), 'x')).rejects.toMatchObject({
      code: 'EACCES',
    });
    await chmod(shared, 0o777);
    await expect(writeOutput(path, 'x')).rejects.toMatchObject({ code: 'EACCES' });
    expect(await readFile(victim, 'utf8')).toBe('precious');
  });

  it.runIf(isRoot)('a pipe of another user there is not written to', async () => {
    const pipe = join(shared, 'docker_opts.env');
    execFileSync('mkfifo', [pipe]);
    await chown(pipe, NOBODY, NOBODY);
    await expect(writeOutput(pipe, 'x')).rejects.toMatchObject({ code: 'EACCES' });
  });

  it.runIf(isRoot)('a lease file behind such a link is refused', async () => {
    await writeFile(victim, LEASE_FILE);
    const path = await plant('leases.json');
    await expect(LeaseFileStore.open(path, { log: silentLogger() })).rejects.toMatchObject({
      code: 'EACCES',
      field: '--lease-file',
    });
  });
});

describe("a person's own links", () => {
  it('are followed, through several and relative ones', async () => {
    await symlink('victim', join(directory, 'one'));
    await symlink(join(directory, 'one'), join(shared, 'two'));
    await writeOutput(join(shared, 'two'), 'new');
    expect(await readFile(victim, 'utf8')).toBe('new');
    expect((await lstat(join(shared, 'two'))).isSymbolicLink()).toBe(true);
  });

  it('in a circle are an error', async () => {
    await symlink('b', join(directory, 'a'));
    await symlink('a', join(directory, 'b'));
    await expect(writeOutput(join(directory, 'a'), 'x')).rejects.toMatchObject({ code: 'ELOOP' });
  });

  it('/dev/stdout is what is open there, added to a file that a shell adds to', () => {
    const script = `import(process.argv[1]).then((m) => m.writeOutput('/dev/stdout', 'new\\n'))`;
    const module = join(import.meta.dirname, '../../../dist/src/host/atomic-file.js');
    const shell = `"$0" --input-type=module -e "$1" "$2" >> "$3"`;
    execFileSync('sh', ['-c', shell, process.execPath, script, module, victim]);
    expect(execFileSync('cat', [victim], { encoding: 'utf8' })).toBe('preciousnew\n');
  });
});

describe('replacing', () => {
  it('uses another name each time and leaves none, also of two at once', async () => {
    const path = join(shared, 'file');
    await Promise.all(Array.from({ length: 20 }, (_, i) => replaceFile(path, `text ${i}`)));
    expect(await readFile(path, 'utf8')).toMatch(/^text \d+$/);
    expect(await names()).toEqual(['file']);
  });

  it('removes what a killed run left, when that is old, and nothing else', async () => {
    const old = ['.file.0123456789abcdef.tmp'];
    const others = ['.file.0123456789abcdee.tmp', '.file.tmp', '.filex.0123456789abcdef.tmp'];
    for (const name of [...old, ...others]) await writeFile(join(shared, name), '');
    const before = new Date(Date.now() - 3_600_000);
    for (const name of [...old, '.file.tmp']) await utimes(join(shared, name), before, before);
    await replaceFile(join(shared, 'file'), 'text');
    expect(await names()).toEqual([...others, 'file'].sort());
  });

  it('keeps mode and owner where told to', async () => {
    await chmod(victim, 0o640);
    if (isRoot) await chown(victim, 12, 34);
    await replaceFile(victim, 'new', { keepOwner: true });
    const { mode, uid, gid } = await stat(victim);
    expect(mode & 0o777).toBe(0o640);
    if (isRoot) expect([uid, gid]).toEqual([12, 34]);
    await replaceFile(victim, 'new');
    expect((await stat(victim)).mode & 0o777).toBe(0o644);
  });

  it('of a name as long as names can be', async () => {
    const path = join(shared, 'x'.repeat(255));
    await replaceFile(path, 'text');
    expect(await names()).toEqual(['x'.repeat(255)]);
  });
});

describe('reading', () => {
  it('ends at the limit, whatever the size said', async () => {
    expect((await readBounded(victim, { maxBytes: 8 })).text).toBe('precious');
    await expect(readBounded(victim, { maxBytes: 7 })).rejects.toMatchObject({ code: 'EFBIG' });
    expect((await readBounded('/proc/self/status', { maxBytes: 65_536 })).text).toMatch(/^Name:/);
  });

  it('does not wait for a pipe', async () => {
    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    await expect(readBounded(pipe, { maxBytes: 8 })).rejects.toThrow('not a regular file');
    await expect(LeaseFileStore.open(pipe, { log: silentLogger() })).rejects.toThrow(
      'not a regular file',
    );
  });

  it('takes remembered leases from nobody else and through no link', async () => {
    const path = rememberedPath(join(shared, 'subnet.env'));
    const config = '{"Network":"100.96.0.0/16"}';
    const text = formatRemembered({ store: 's', asOf: 0, config, own: undefined, leases: [] });
    await writeRemembered(path, text);
    expect((await readRemembered(path))?.store).toBe('s');
    if (isRoot) {
      await chown(path, NOBODY, NOBODY);
      await expect(readRemembered(path)).rejects.toThrow('it belongs to user 65534');
      await chown(path, 0, 0);
    }
    await symlink(path, join(shared, 'link'));
    await expect(readRemembered(join(shared, 'link'))).rejects.toThrow('ELOOP');
  });
});
