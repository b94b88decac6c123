/** `npm run release`: what it makes, and that the tarball installs without a network or a compiler. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageVersion } from '../../src/daemon/version.js';
import { execute, makeRelease, OTHER, OWN } from '../support/release.js';

const VERSION = packageVersion();
const TARBALL = `flannelette-${VERSION}.tgz`;
const own = `flannelette_${VERSION}_${OWN}.deb`;
const other = `flannelette_${VERSION}_${OTHER.debian}.deb`;
let folder: string;
let release: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flannelette-release-test-'));
  release = await makeRelease(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('a release', () => {
  it('is a tarball, a .deb for each architecture, documents and their checksums', async () => {
    const names = [TARBALL, own, other, 'flannelette.8', 'flannelette.bash-completion'].sort();
    expect((await readdir(release)).sort()).toEqual([...names, 'SHA256SUMS'].sort());
    const sums = await readFile(join(release, 'SHA256SUMS'), 'utf8');
    const named = sums.split('\n').flatMap((line) => line.split('  ').slice(1));
    expect(named.sort()).toEqual(names);
    await execute('sha256sum', ['--check', '--strict', 'SHA256SUMS'], { cwd: release });
  });

  it('is the same when it is made again, whatever the umask', async () => {
    const before = process.umask(0o077);
    try {
      const again = await makeRelease(folder);
      expect(await readFile(join(again, 'SHA256SUMS'), 'utf8')).toBe(
        await readFile(join(release, 'SHA256SUMS'), 'utf8'),
      );
    } finally {
      process.umask(before);
    }
  });

  it('has a man page that man renders without a warning', async () => {
    const page = join(release, 'flannelette.8');
    const env = { ...process.env, MANWIDTH: '100', LC_ALL: 'C.UTF-8' };
    const { stdout, stderr } = await execute('man', ['--warnings', '--local-file', page], { env });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^FLANNELETTE\(8\) .*FLANNELETTE\(8\)$/m);
    expect(stdout).toMatch(/^ +--mode <auto\|basic\|batch\|[a-z|]+>$/m);
  });

  it('gives each .deb the binary of its architecture alone', async () => {
    for (const [file, debian, arch] of [
      [own, OWN, process.arch],
      [other, OTHER.debian, OTHER.node],
    ]) {
      const deb = join(release, file ?? '');
      const field = await execute('dpkg-deb', ['--field', deb, 'Architecture']);
      expect(field.stdout).toBe(`${debian}\n`);
      const { stdout } = await execute('dpkg-deb', ['--contents', deb]);
      const binaries = stdout.split('\n').filter((line) => line.endsWith('.node'));
      expect(binaries.map((line) => line.split(' ').at(-1))).toEqual([
        `./usr/lib/flannelette/prebuilds/linux-${arch}/flannelette.glibc.node`,
      ]);
    }
  });

  it('has a .deb of files that belong to root and that only it may write', async () => {
    const { stdout } = await execute('dpkg-deb', ['--contents', join(release, own)]);
    const lines = stdout.trim().split('\n');
    expect(lines.length).toBeGreaterThan(50);
    for (const line of lines) expect(line).toMatch(/^[-d]rw[-x]r-[-x][r-][-x][-x] root\/root /);
    expect(lines.find((line) => line.endsWith('/etc/default/flannelette'))).toMatch(/^-rw-r----- /);
  });

  it('refuses what it does not know, and binaries that are not there', async () => {
    const script = resolve(import.meta.dirname, '..', '..', 'scripts', 'release.mjs');
    await expect(execute(process.execPath, [script, '--fast'])).rejects.toMatchObject({ code: 2 });
    const argv = [script, `--output=${folder}/none`, `--prebuilds=${folder}`];
    await expect(execute(process.execPath, argv)).rejects.toMatchObject({
      code: 1,
      stderr: `release: ${folder}: no binary for glibc\n`,
    });
  });
});

describe.skipIf(process.getuid?.() !== 0)('the tarball without network and compiler', () => {
  let place: string;
  let programs: string;

  /** A machine with Node and npm only, no network, and nothing in npm's cache. */
  const alone = async (file: string, ...argv: string[]) => {
    const env = { PATH: programs, HOME: place, npm_config_update_notifier: 'false' };
    const words = ['--net', '--mount', '--', '/usr/bin/env', '-C', place, file, ...argv];
    return execute('/usr/bin/unshare', words, { env, timeout: 60_000 });
  };

  beforeAll(async () => {
    place = await mkdtemp(join(folder, 'machine-'));
    programs = join(place, 'bin');
    await mkdir(programs);
    await symlink(process.execPath, join(programs, 'node'));
    await symlink(await npmProgram(), join(programs, 'npm'));
    await symlink('/bin/sh', join(programs, 'sh'));
    await writeFile(join(place, 'package.json'), '{}');
  });

  async function npmProgram(): Promise<string> {
    const { stdout } = await execute('sh', ['-c', 'command -v npm']);
    return stdout.trim();
  }

  const flannelette = (...argv: string[]) =>
    alone(join(place, 'node_modules', '.bin', 'flannelette'), ...argv);

  it.each([[[]], [['--ignore-scripts']]])('installs in seconds, %j', async (flags) => {
    await rm(join(place, 'node_modules'), { recursive: true, force: true });
    const started = Date.now();
    await alone('npm', 'install', ...flags, '--no-audit', '--no-fund', join(release, TARBALL));
    expect(Date.now() - started).toBeLessThan(30_000);
    expect(existsSync(join(place, 'node_modules', 'flannelette', 'build'))).toBe(false);
    expect((await flannelette('--version')).stdout).toBe(`${VERSION}\n`);
    expect((await flannelette('probe')).stdout).toMatch(/^ {2}tun +2\.4 +yes /m);
  });

  it('says at the install when the kernel has no TUN', async () => {
    const script = join(place, 'node_modules', 'flannelette', 'scripts', 'install.mjs');
    const hidden = `mount -t tmpfs none /dev/net && exec ${process.execPath} ${script}`;
    const { stderr } = await alone('/bin/sh', '-c', `PATH=/usr/bin:/bin; ${hidden}`);
    expect(stderr).toMatch(
      /^flannelette: installed, but no daemon can run here: tun is not available: .*load the tun module.*\n$/,
    );
  });

  it('says which binary it needs and which it found', async () => {
    const prebuilds = join(
      place,
      'node_modules',
      'flannelette',
      'prebuilds',
      `linux-${process.arch}`,
    );
    // The head of an ELF file for arm64 (elf.h), and the name of glibc.
    const elf = Buffer.alloc(64);
    elf.write('\x7fELF\x02\x01\x01', 'latin1');
    elf.writeUInt16LE(process.arch === 'arm64' ? 62 : 183, 18);
    const binary = join(prebuilds, 'flannelette.glibc.node');
    await writeFile(binary, Buffer.concat([elf, Buffer.from('libc.so.6\0')]));
    const found = process.arch === 'arm64' ? 'x64' : 'arm64';
    await expect(flannelette('probe')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        `^cannot load the native addon ${binary}: it is for ${found}-glibc, this is ${process.arch}-glibc; build it .*\n$`,
      ) as string,
    });
  });

  it('says which binaries it has where there is none for the machine', async () => {
    const modules = join(place, 'node_modules', 'flannelette');
    await rm(join(modules, 'prebuilds', `linux-${process.arch}`), { recursive: true });
    const script = join(modules, 'scripts', 'install.mjs');
    await expect(alone('node', script)).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        `^flannelette: no binary of the native addon for ${process.arch}-glibc: there are ${OTHER.node}-glibc; .*\\(c\\+\\+ is not on this machine\\)\n$`,
      ) as string,
    });
  });
});
