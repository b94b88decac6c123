/**
 * Builds kube-apiserver from its published Go module: `node scripts/kube-apiserver.mjs FILE` writes the
 * program there. Needs Go; some minutes on two cores, 2 GB below Go's own caches.
 *
 * `go install` refuses k8s.io/kubernetes, whose go.mod replaces its parts (k8s.io/api and others) by folders
 * that are not in it. They are published as modules of their own, v0.X.Y for Kubernetes v1.X.Y, so a module
 * made here for the build replaces them by those.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { go } from './go.mjs';

/** Speaks to the etcd of Debian 12 (3.4). */
export const KUBERNETES = 'v1.34.4';

/** Writes the program to `file`; throws an error that names the command that failed. */
export function buildKubeApiserver(file) {
  const folder = mkdtempSync(join(tmpdir(), 'flannelette-kube-'));
  try {
    const found = JSON.parse(
      go(folder, ['mod', 'download', '-json', `k8s.io/kubernetes@${KUBERNETES}`]),
    );
    const manifest = readFileSync(found.GoMod, 'utf8');
    const version = /^go (\S+)$/m.exec(manifest)?.[1] ?? '1.24';
    const parts = [...manifest.matchAll(/^\t(k8s\.io\/\S+) => \.\/staging\//gm)].map(
      ([, name]) => name,
    );
    const published = KUBERNETES.replace(/^v1/, 'v0');
    const lines = [
      'module flannelette.invalid/kube-apiserver',
      `go ${version}`,
      `require k8s.io/kubernetes ${KUBERNETES}`,
      ...parts.map((name) => `replace ${name} => ${name} ${published}`),
    ];
    writeFileSync(join(folder, 'go.mod'), `${lines.join('\n')}\n`);
    const flags = ['-mod=mod', '-trimpath', '-ldflags=-s -w', '-o', resolve(file)];
    go(folder, ['build', ...flags, 'k8s.io/kubernetes/cmd/kube-apiserver']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [file] = process.argv.slice(2);
  if (file === undefined) {
    console.error('usage: node scripts/kube-apiserver.mjs FILE');
    process.exit(2);
  }
  buildKubeApiserver(file);
}
