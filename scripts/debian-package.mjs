/**
 * The package of Debian: a tree of the installed program (release.mjs) and what belongs to a system
 * around it, made into a .deb by dpkg-deb, which is part of every Debian and Ubuntu and gives the same
 * bytes for the same files when SOURCE_DATE_EPOCH is set.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const HOME = 'usr/lib/flannelette';
const CONFFILE = 'etc/default/flannelette';

/** Debian's names of architectures, by Node's. */
export const DEBIAN_ARCHITECTURES = {
  x64: 'amd64',
  arm64: 'arm64',
  riscv64: 'riscv64',
  s390x: 's390x',
};

/** Files of an installation by this package, as the man page lists them. */
export const INSTALLED_FILES = [
  [`/${CONFFILE}`, 'variables for the unit, one for each flag of run'],
  ['/run/flannel/subnet.env', 'the subnet of this host, for Docker and CNI'],
];

/** Makes the .deb in `work`, a folder of its own, and writes it to `output`. */
export function buildDebian({ arch, program, documents, facts, work, output }) {
  const put = (path, content, mode = 0o644) => {
    mkdirSync(dirname(join(work, path)), { recursive: true });
    writeFileSync(join(work, path), content);
    chmodSync(join(work, path), mode);
  };
  mkdirSync(join(work, HOME), { recursive: true });
  cpSync(program, join(work, HOME), { recursive: true });
  put(
    'usr/bin/flannelette',
    `#!/bin/sh\nexec /usr/bin/node /${HOME}/dist/package/cli/main.js "$@"\n`,
    0o755,
  );
  put('lib/systemd/system/flannelette.service', unit());
  put('usr/share/man/man8/flannelette.8.gz', gzipSync(documents.manPage, { level: 9 }));
  put('usr/share/bash-completion/completions/flannelette', documents.completion);
  // A password of etcd may stand in it.
  put(CONFFILE, documents.defaults, 0o640);
  put('usr/share/doc/flannelette/copyright', copyright(join(work, HOME)));
  put(
    'usr/share/doc/flannelette/changelog.gz',
    gzipSync(readFileSync(join(ROOT, 'CHANGELOG.md')), { level: 9 }),
  );
  put('DEBIAN/conffiles', `/${CONFFILE}\n`);
  for (const script of ['postinst', 'prerm', 'postrm']) {
    put(`DEBIAN/${script}`, readFileSync(join(ROOT, 'deploy', 'debian', script)), 0o755);
  }
  put('DEBIAN/control', control(arch, facts, bytesBelow(work)));
  settle(work, facts.epoch);
  const argv = ['--root-owner-group', '-Zxz', '--build', work, output];
  // xz with several threads gives other bytes than with one.
  const env = {
    ...process.env,
    SOURCE_DATE_EPOCH: String(facts.epoch),
    DPKG_DEB_THREADS_MAX: '1',
  };
  const { status, stderr, error } = spawnSync('dpkg-deb', argv, { encoding: 'utf8', env });
  if (status !== 0) throw new Error(`dpkg-deb: ${error?.message ?? stderr.trim()}`);
}

function control(arch, { version, description }, bytes) {
  const { DEBFULLNAME = 'flannelette', DEBEMAIL = 'root@localhost' } = process.env;
  return `Package: flannelette
Version: ${version}
Architecture: ${DEBIAN_ARCHITECTURES[arch]}
Maintainer: ${DEBFULLNAME} <${DEBEMAIL}>
Installed-Size: ${Math.ceil(bytes / 1024)}
Depends: nodejs (>= 20.11), libc6 (>= 2.28)
Recommends: iptables | nftables
Suggests: bash-completion, iperf3, iproute2, iputils-ping, tcpdump
Section: net
Priority: optional
Description: user-space overlay network for containers
 ${description}.
 .
 One daemon per host: packets of the overlay travel in UDP datagrams between
 the hosts. The daemon starts once /etc/default/flannelette is configured.
`;
}

/** deploy/flannelette.service, with the paths of this package. */
function unit() {
  const text = readFileSync(join(ROOT, 'deploy', 'flannelette.service'), 'utf8');
  const changed = text.replaceAll('/usr/lib/node_modules/flannelette/', `/${HOME}/`);
  if (changed === text)
    throw new Error('deploy/flannelette.service: path of the program not found');
  return changed;
}

/** The licence of the program, and those that the packages in it name. */
function copyright(home) {
  const modules = join(home, 'node_modules');
  const names = packagesIn(modules).map((name) => {
    const { license } = JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8'));
    return `Files: ${HOME}/node_modules/${name}/*\nCopyright: see the files there\nLicense: ${license}\n`;
  });
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: flannelette

Files: *
Copyright: the authors of flannelette
License: Apache-2.0
 See /usr/share/common-licenses/Apache-2.0.

${names.join('\n')}`;
}

/** Names of the packages in a node_modules that is flat, those with a scope too. */
function packagesIn(modules) {
  return readdirSync(modules)
    .flatMap((name) =>
      name.startsWith('@')
        ? readdirSync(join(modules, name)).map((inner) => `${name}/${inner}`)
        : [name],
    )
    .sort();
}

function entriesBelow(folder) {
  return readdirSync(folder, { recursive: true }).map((name) => join(folder, name));
}

function bytesBelow(folder) {
  return entriesBelow(folder)
    .map((entry) => lstatSync(entry))
    .filter((found) => found.isFile())
    .reduce((sum, { size }) => sum + size, 0);
}

/** The same modes and times whatever the umask and the clock of who builds. */
export function settle(folder, epoch) {
  for (const entry of [...entriesBelow(folder), folder]) {
    const found = lstatSync(entry);
    if (found.isDirectory()) chmodSync(entry, 0o755);
    else if (!entry.endsWith(CONFFILE)) chmodSync(entry, found.mode & 0o100 ? 0o755 : 0o644);
    utimesSync(entry, epoch, epoch);
  }
}
