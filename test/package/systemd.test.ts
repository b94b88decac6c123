/**
 * deploy/flannelette.service under a real systemd: what docs/operations.md says of it. Needs root and
 * systemd (test/support/systemd-box.sh); where that cannot be had the tests are skipped.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..', '..');
const BOX = join(ROOT, 'test', 'support', 'systemd-box.sh');

/** Prints sections: `== NAME` and what follows. */
const DRIVER = `
say() { echo "== $1"; shift; "$@" 2>&1; }
show() { systemctl show flannelette -p "$1" --value; }
until_is() { for _ in $(seq 100); do [ "$(show "$1")" = "$2" ] && return; sleep 0.1; done; echo "$1 is $(show "$1")"; }
cat >/etc/sysconfig/flanneld <<V
FLANNELD_LEASE_FILE=/srv/leases.json
FLANNELD_IP_MASQ=true
FLANNELD_HEALTHZ_PORT=9470
FLANNELD_VMODULE=udp=2
V
echo '{"version":1,"config":{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}},"leases":{"100.96.1.0-24":{"PublicIP":"10.168.0.2"}}}' >/srv/leases.json
systemctl start systemd-journald.service
say start systemctl start flannelette; echo "code $?"
say state show ActiveState
say text show StatusText
say docker cat /run/flannel/docker
say device ip -br addr show flannel0
say rules iptables-save
say capabilities grep -E '^(CapBnd|NoNewPrivs)' "/proc/$(show MainPID)/status"
say threads sh -c 'for t in /proc/$1/task/*; do grep -E "^(Name|CapEff|Seccomp_filters):" $t/status | cut -f2 | tr "\n" " "; echo; done' sh "$(show MainPID)"
say status /opt/node /opt/flannelette/dist/package/cli/main.js status --json
say log journalctl --no-pager -u flannelette -o cat _COMM=node
say warnings journalctl --no-pager -u flannelette -p warning -o cat
say metrics /opt/node -e "fetch('http://127.0.0.1:9470/metrics').then(async (r) => console.log(await r.text()))"
place() { ip -o link show flannel0 | cut -d: -f1; ip -4 route show dev flannel0; grep -c ':205D ' /proc/net/udp; show NFileDescriptorStore; }
say stored place
say stays sh -c 'until [ -e /tmp/enough ]; do ip -br link show flannel0 >/dev/null 2>&1 || echo gone; sleep 0.02; done' &
systemctl restart flannelette
say restarted place
kill -9 "$(show MainPID)"; until_is NRestarts 1; until_is ActiveState active
say killed show NRestarts
touch /tmp/enough; wait
say after place
say kept-log journalctl --no-pager -u flannelette -o cat _COMM=node
say stop systemctl stop flannelette; echo "code $?"
say left ip -br link show type tun
say kept ls /run/flannel
echo FLANNELD_MODE=fast >>/etc/sysconfig/flanneld
say wrong systemctl start flannelette; until_is ActiveState failed
say final systemctl show flannelette -p ActiveState -p ExecMainStatus -p NRestarts
say errors journalctl --no-pager -u flannelette -p err -o cat _COMM=node
echo == end
systemctl poweroff --force --force
`;

const sections = new Map<string, string>();
let why = '';

beforeAll(() => {
  const out = mkdtempSync(join(tmpdir(), 'flannelette-systemd-'));
  try {
    const driver = join(out, 'driver.sh');
    writeFileSync(driver, DRIVER);
    const argv = [BOX, ROOT, process.execPath, driver, out];
    const { status, stderr } = spawnSync('bash', argv, { encoding: 'utf8', timeout: 200_000 });
    if (status !== 0) {
      why = `no systemd of our own here (${status}): ${stderr.trim()}`;
      return;
    }
    for (const part of readFileSync(join(out, 'driver'), 'utf8').split(/^== /m).slice(1)) {
      const [name = '', ...lines] = part.trimEnd().split('\n');
      sections.set(name, lines.join('\n'));
    }
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}, 240_000);

const section = (name: string): string => sections.get(name) ?? `no section ${name}`;

describe('the unit under systemd', () => {
  it('starts, tells systemd when it forwards, and writes the options of Docker', ({ skip }) => {
    skip(why !== '', why);
    expect(section('start')).toBe('code 0');
    expect(section('state')).toBe('active');
    expect(section('text')).toBe('forwarding for 100.96.1.0/24');
    expect(section('device')).toMatch(/^flannel0 .* 100\.96\.1\.0\/32/);
    expect(section('docker')).toBe(
      'DOCKER_NETWORK_OPTIONS=" --bip=100.96.1.1/24 --ip-masq=false --mtu=1472"',
    );
    expect(section('rules')).toContain('-j FLANNEL-POSTRTG');
  });

  it('has two capabilities, and what could not be tried for want of others is not missing', ({
    skip,
  }) => {
    skip(why !== '', why);
    expect(section('capabilities')).toBe('CapBnd:\t0000000000003000\nNoNewPrivs:\t1');
    expect(section('log')).toMatch(/"untried":\["tun",/);
    expect(section('log')).toContain(
      '"capabilities":["NET_ADMIN","NET_RAW"],"noNewPrivileges":true,"msg":"privileges"',
    );
    expect(section('metrics')).toContain('flannelette_kernel_feature{feature="tun"} 1');
    expect(section('metrics')).toContain('flannelette_kernel_feature{feature="multiqueue"} -1');
  });

  it('gives its packet threads one filter more than the unit, and no capability', ({ skip }) => {
    skip(why !== '', why);
    const threads = section('threads')
      .split('\n')
      .map((line) => line.trim().split(' '));
    const [packet, others] = [true, false].map((carries) =>
      threads.filter(([name]) => /^(fl-|path-mtu)/.test(name ?? '') === carries),
    );
    const filters = Number(others?.[0]?.[2]);
    expect(packet?.length).toBeGreaterThan(0);
    for (const [, effective, count] of packet ?? []) {
      expect([effective, Number(count)]).toEqual(['0000000000000000', filters + 1]);
    }
    for (const [, effective, count] of others ?? []) {
      expect([effective, Number(count)]).toEqual(['0000000000003000', filters]);
    }
    const { dataPlane } = JSON.parse(section('status')) as {
      dataPlane: { features: readonly unknown[] };
    };
    expect(dataPlane.features).toContainEqual({ name: 'seccomp', state: 'active', errno: 0 });
  });

  it('files its lines by priority', ({ skip }) => {
    skip(why !== '', why);
    const lines = section('log').split('\n');
    for (const line of lines) expect(() => JSON.parse(line) as unknown, line).not.toThrow();
    const warnings = section('warnings')
      .split('\n')
      .filter((line) => line.startsWith('{'));
    expect(warnings).toContainEqual(expect.stringContaining('FLANNELD_VMODULE has no effect'));
    expect(warnings.length).toBeLessThan(lines.length);
    for (const line of warnings) expect(line).toMatch(/^\{"level":[456]0,/);
  });

  it('keeps device, route and port in its descriptor store over a restart and kill -9', ({
    skip,
  }) => {
    skip(why !== '', why);
    const stored = section('stored');
    // Index of the device, its route, one socket on the port, two descriptors.
    expect(stored).toMatch(/^\d+\n100\.96\.0\.0\/16 scope link *\n1\n2$/);
    expect(section('restarted')).toBe(stored);
    expect(section('after')).toBe(stored);
    expect(section('stays')).toBe('');
    const going = section('kept-log').match(
      /going on with the tunnel that the service manager kept/g,
    );
    expect(going).toHaveLength(2);
  });

  it('is started again when it was killed, and leaves no device when it is stopped', ({ skip }) => {
    skip(why !== '', why);
    expect(section('killed')).toBe('1');
    expect(section('stop')).toBe('code 0');
    expect(section('left')).toBe('');
    expect(section('kept').split('\n')).toContain('subnet.env');
  });

  it('stays down when a flag is wrong', ({ skip }) => {
    skip(why !== '', why);
    const final = section('final').split('\n').sort();
    expect(final).toEqual(['ActiveState=failed', 'ExecMainStatus=2', 'NRestarts=0']);
    expect(section('errors')).toBe(
      'FLANNELD_MODE (--mode): "fast" is not valid: expected auto or basic or batch or offload or kernel',
    );
    expect(sections.has('end')).toBe(true);
  });
});
