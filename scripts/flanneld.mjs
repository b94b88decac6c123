/**
 * Builds flanneld from its published Go module: `node scripts/flanneld.mjs FILE` writes the program there.
 * Needs Go and a C compiler, as the udp backend's loop is written in C.
 *
 * `go install` does not do: the backend tencent-vpc needs a module that is not published everywhere. So the
 * main package is built without it, in a module made here.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { go } from './go.mjs';

export const FLANNEL = 'v0.28.10';

const MODULE = 'github.com/flannel-io/flannel';

/** Writes the program to `file`; throws an error that names the command that failed. */
export function buildFlanneld(file) {
  const folder = mkdtempSync(join(tmpdir(), 'flannelette-flanneld-'));
  try {
    const found = JSON.parse(go(folder, ['mod', 'download', '-json', `${MODULE}@${FLANNEL}`]));
    const version = /^go (\S+)$/m.exec(readFileSync(found.GoMod, 'utf8'))?.[1] ?? '1.24';
    const lines = ['module flannelette.invalid/flanneld', `go ${version}`];
    lines.push(`require ${MODULE} ${FLANNEL}`);
    writeFileSync(join(folder, 'go.mod'), `${lines.join('\n')}\n`);
    const main = readFileSync(join(found.Dir, 'main.go'), 'utf8');
    writeFileSync(join(folder, 'main.go'), main.replace(/^.*\/backend\/tencentvpc"$/m, ''));
    const named = `-ldflags=-s -w -X ${MODULE}/pkg/version.Version=${FLANNEL}`;
    const flags = ['-mod=mod', '-trimpath', named, '-o', resolve(file)];
    go(folder, ['build', ...flags, '.'], { CGO_ENABLED: '1' });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [file] = process.argv.slice(2);
  if (file === undefined) {
    console.error('usage: node scripts/flanneld.mjs FILE');
    process.exit(2);
  }
  buildFlanneld(file);
}
