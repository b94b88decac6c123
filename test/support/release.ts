/** A release made for tests (scripts/release.mjs), and a root of Debian to install it in. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, stat, writeFile } from 'node:fs/promises';
import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { TOOLS } from '../../src/testbed/tools.js';

const ROOT = resolve(import.meta.dirname, '..', '..');
export const execute = promisify(execFile);

/**
 * Makes a release in `folder` with the binary of this machine: the prebuilt one when there is one that is
 * not older than its sources, else the one that is built here, which packs in the same way.
 */
export async function makeRelease(folder: string): Promise<string> {
  const prebuilds = await mkdtemp(join(folder, 'prebuilds-'));
  const place = join(prebuilds, `linux-${process.arch}`);
  await mkdir(place);
  await cp(await binary(), join(place, 'flannelette.glibc.node'));
  // Another architecture's: only the name matters.
  await mkdir(join(prebuilds, `linux-${OTHER.node}`));
  await writeFile(
    join(prebuilds, `linux-${OTHER.node}`, 'flannelette.glibc.node'),
    'of another machine',
  );
  const output = await mkdtemp(join(folder, 'release-'));
  const script = join(ROOT, 'scripts', 'release.mjs');
  const argv = [script, `--output=${output}`, `--prebuilds=${prebuilds}`];
  await execute(process.execPath, argv, { cwd: ROOT });
  return output;
}

/** This machine's architecture, and one that it is not, as Node and Debian call them. */
export const OWN = { x64: 'amd64' }[process.arch as string] ?? process.arch;
export const OTHER =
  process.arch === 's390x'
    ? { node: 'riscv64', debian: 'riscv64' }
    : { node: 's390x', debian: 's390x' };

async function binary(): Promise<string> {
  const prebuilt = join(ROOT, 'prebuilds', `linux-${process.arch}`, 'flannelette.glibc.node');
  const native = join(ROOT, 'native');
  const sources = await readdir(native, { recursive: true });
  const times = await Promise.all(sources.map((name) => stat(join(native, name))));
  const newest = Math.max(...times.map(({ mtimeMs }) => mtimeMs));
  const fresh = existsSync(prebuilt) && statSync(prebuilt).mtimeMs > newest;
  return fresh ? prebuilt : join(ROOT, 'build', 'Release', 'flannelette.node');
}

/** The archive of a root of Debian 13; undefined when it could not be had or this is not root. */
export function debianRoot(): string | undefined {
  const archive = join(TOOLS, 'debian-13.tar');
  return existsSync(archive) && process.getuid?.() === 0 ? archive : undefined;
}

/** Sections of a driver's output: `== NAME` and what follows, without the last line's end. */
export function sectionsOf(output: string): Map<string, string> {
  const parts = output.split(/^== /m).slice(1);
  return new Map(
    parts.map((part) => {
      const [name = '', ...lines] = part.trimEnd().split('\n');
      return [name, lines.join('\n')];
    }),
  );
}
