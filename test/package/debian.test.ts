/**
 * The .deb in a root of Debian 13 (debootstrap, kept by scripts/test-tools.mjs), entered by chroot with
 * namespaces of its own: there its nodejs is new enough, and dpkg checks the dependencies for real. And
 * on this machine under systemd (test/support/systemd-box.sh), where nodejs need not be a package.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageVersion } from '../../src/daemon/version.js';
import { debianRoot, execute, makeRelease, OWN, sectionsOf } from '../support/release.js';

const ROOT = resolve(import.meta.dirname, '..', '..');
const VERSION = packageVersion();
let folder: string;
let deb: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flannelette-debian-test-'));
  deb = join(await makeRelease(folder), `flannelette_${VERSION}_${OWN}.deb`);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Prints sections: `== NAME` and what follows. */
const IN_CHROOT = `
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
say() { echo "== $1"; shift; "$@" 2>&1; }
code() { "$@" >/dev/null 2>&1; echo "code $?"; }
files() { find / -xdev -not -path '/proc/*' -not -path '/tmp/*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' | sort; }
files >/tmp/before
say nodejs dpkg-query -W -f '\${Version}\\n' nodejs
say install dpkg -i /tmp/flannelette.deb; echo "code $?"
say status dpkg-query -W -f '\${db:Status-Status}\\n' flannelette
say verify dpkg --verify flannelette
say version flannelette --version
mkdir -p /dev/net; mknod /dev/net/tun c 10 200
say probe flannelette probe
say lab code flannelette lab --help
say completion bash -c '. /usr/share/bash-completion/completions/flannelette; COMP_WORDS=(flannelette ""); COMP_CWORD=1; _flannelette; echo "\${COMPREPLY[*]}"'
say manual sh -c 'gzip -dc /usr/share/man/man8/flannelette.8.gz | head -n 1'
say unit grep -h ^Exec /lib/systemd/system/flannelette.service
say conffile sh -c 'grep -v "^#" /etc/default/flannelette | grep -c .'
echo FLANNELD_MODE=basic >>/etc/default/flannelette
say again dpkg -i /tmp/flannelette.deb; echo "code $?"
say changed tail -n 1 /etc/default/flannelette
say remove dpkg -r flannelette; echo "code $?"
say kept ls /etc/default/flannelette
say gone code flannelette --version
say purge dpkg -P flannelette; echo "code $?"
rm -r /dev/net
files >/tmp/after
say left diff /tmp/before /tmp/after
say end true
`;

describe.skipIf(debianRoot() === undefined)('in a root of Debian 13', () => {
  let sections: Map<string, string>;
  const section = (name: string): string => sections.get(name) ?? `no section ${name}`;

  beforeAll(async () => {
    const root = join(folder, 'root');
    await execute('mkdir', [root]);
    await execute('tar', ['--extract', `--file=${debianRoot()}`, `--directory=${root}`]);
    await copyFile(deb, join(root, 'tmp', 'flannelette.deb'));
    const enter =
      'mount -t proc proc "$1/proc" && exec chroot "$1" /usr/bin/env -i /bin/bash -c "$2"';
    const flags = ['--mount', '--net', '--pid', '--fork', '--kill-child=KILL'];
    const argv = [...flags, 'sh', '-c', enter, 'sh', root, IN_CHROOT];
    const { stdout } = await execute('unshare', argv, { timeout: 200_000 }).catch(
      (error: unknown) => error as { readonly stdout: string },
    );
    sections = sectionsOf(stdout);
  });

  it('installs beside the nodejs of Debian, starts nothing, and says what to do', () => {
    expect(section('nodejs')).toMatch(/^20\./);
    expect(section('install')).toMatch(/code 0$/);
    expect(section('install')).toContain(
      'flannelette: not started, because nothing is configured: edit /etc/default/flannelette',
    );
    expect(section('status')).toBe('installed');
    expect(section('verify')).toBe('');
  });

  it('says at the install that there is no TUN', () => {
    expect(section('install')).toMatch(
      /^flannelette: No daemon can run here: tun is not available/m,
    );
  });

  it('runs', () => {
    expect(section('version')).toBe(VERSION);
    expect(section('probe')).toMatch(/^ {2}tun +2\.4 +yes /m);
    expect(section('lab')).toBe('code 0');
  });

  it('brings the completion, the man page and the unit', () => {
    expect(section('completion')).toMatch(
      /^run lab trace probe status step-aside docker-opts install-cni mode extension bench help /,
    );
    expect(section('manual')).toContain(`"flannelette ${VERSION}"`);
    expect(section('unit')).toContain(
      'ExecStart=/usr/bin/node --v8-pool-size=0 /usr/lib/flannelette/dist/package/cli/main.js run',
    );
  });

  it('brings a file of settings in which nothing is set, and keeps what is changed there', () => {
    expect(section('conffile')).toBe('0');
    expect(section('again')).toMatch(/code 0$/);
    expect(section('changed')).toBe('FLANNELD_MODE=basic');
  });

  it('is removed without the settings, and purged without a trace', () => {
    expect(section('remove')).toMatch(/code 0$/);
    expect(section('kept')).toBe('/etc/default/flannelette');
    expect(section('gone')).toBe('code 127');
    expect(section('purge')).toMatch(/code 0$/);
    expect(section('left')).toBe('');
    expect(sections.has('end')).toBe(true);
  });
});

const UNDER_SYSTEMD = `
say() { echo "== $1"; shift; "$@" 2>&1; }
show() { systemctl show flannelette -p "$1" --value; }
state() { echo "$(show ActiveState) $(systemctl is-enabled flannelette 2>&1)"; }
tun() { ip -br link show type tun; }
export DEBIAN_FRONTEND=noninteractive
rm /etc/systemd/system/flannelette.service
ln -sf /opt/node /usr/bin/node
cp /opt/flannelette/DEB /srv/flannelette.deb
# The nodejs of this machine need not be a package.
install() { dpkg --force-depends -i /srv/flannelette.deb; echo "code $?"; }
systemctl start systemd-journald.service
say install install
say unconfigured state
say purge-first dpkg -P flannelette; echo "code $?"
echo '{"version":1,"config":{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}},"leases":{}}' >/srv/leases.json
echo FLANNELD_LEASE_FILE=/srv/leases.json >/etc/default/flannelette
echo FLANNELD_MODE=basic >>/etc/default/flannelette
chmod 640 /etc/default/flannelette
say configured dpkg --force-depends --force-confold -i /srv/flannelette.deb; echo "code $?"
say state state
say device tun
before=$(show MainPID)
say upgrade dpkg --force-depends --force-confold -i /srv/flannelette.deb; echo "code $?"
say upgraded state
say restarted sh -c "[ $before != $(show MainPID) ] && echo another process"
say daemon /usr/bin/flannelette status --json
say remove dpkg -r flannelette; echo "code $?"
say device-after tun
say links sh -c 'find /etc/systemd /lib/systemd -name "*flannelette*"'
say purge dpkg -P flannelette; echo "code $?"
say files sh -c 'find /usr/bin /usr/lib/flannelette /usr/share /etc /var/lib/systemd -name "*flannelette*" -not -path "/usr/share/doc/*" 2>/dev/null'
say end true
systemctl poweroff --force --force
`;

describe('under systemd', () => {
  let sections = new Map<string, string>();
  let why = '';
  const section = (name: string): string => sections.get(name) ?? `no section ${name}`;

  beforeAll(async () => {
    const out = mkdtempSync(join(folder, 'systemd-'));
    const name = `.debian-test-${process.pid}.deb`;
    const shared = join(ROOT, 'dist', name);
    // The box sees the project.
    await copyFile(deb, shared);
    try {
      const driver = join(out, 'driver.sh');
      writeFileSync(driver, UNDER_SYSTEMD.replace('/DEB', `/dist/${name}`));
      const box = join(ROOT, 'test', 'support', 'systemd-box.sh');
      const argv = [box, ROOT, process.execPath, driver, out];
      const { status, stderr } = spawnSync('bash', argv, { encoding: 'utf8', timeout: 200_000 });
      if (status === 0) sections = sectionsOf(readFileSync(join(out, 'driver'), 'utf8'));
      else why = `no systemd of our own here (${status}): ${stderr.trim()}`;
    } finally {
      rmSync(shared, { force: true });
    }
  });

  it('does not start a daemon that is not configured', ({ skip }) => {
    skip(why !== '', why);
    expect(section('install')).toMatch(/code 0$/);
    expect(section('unconfigured')).toBe('inactive disabled');
  });

  it('starts and enables one that is', ({ skip }) => {
    skip(why !== '', why);
    expect(section('configured')).toMatch(/code 0$/);
    expect(section('state')).toBe('active enabled');
    expect(section('device')).toMatch(/^flannel0 /);
  });

  it('restarts it after an upgrade', ({ skip }) => {
    skip(why !== '', why);
    expect(section('upgrade')).toMatch(/code 0$/);
    expect(section('upgraded')).toBe('active enabled');
    expect(section('restarted')).toBe('another process');
    expect(JSON.parse(section('daemon'))).toMatchObject({ ready: true });
  });

  it('stops it when the package is removed, and leaves nothing when it is purged', ({ skip }) => {
    skip(why !== '', why);
    expect(section('remove')).toMatch(/code 0$/);
    expect(section('device-after')).toBe('');
    expect(section('links')).toBe('');
    expect(section('purge')).toMatch(/code 0$/);
    expect(section('files')).toBe('');
    expect(sections.has('end')).toBe(true);
  });
});
