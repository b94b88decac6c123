/**
 * What could not be tried is not absent: `flannelette probe`, and a daemon with no more than the
 * capabilities that its systemd unit leaves it.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run, waitFor } from '../../src/testbed/programs.js';
import { askDaemon, COMMAND, TestLab } from '../support/test-lab.js';

const TUN = ['tun', 'tun-vnet-hdr', 'tun-tso', 'tun-uso', 'multiqueue', 'fou', 'kernel-path'];
const DENIED = 'unshare CLONE_NEWNET: Operation not permitted';
/** What CapabilityBoundingSet and NoNewPrivileges of deploy/flannelette.service make of root. */
const AS_UNIT = withCapabilities('-all,+net_admin,+net_raw');
const WITHOUT_PRIVILEGE = withCapabilities('-all');

/** The command that runs another with these capabilities and no more, whatever user it is. */
function withCapabilities(set: string): readonly string[] {
  const sets = ['bounding-set', 'inh-caps', 'ambient-caps'].map((name) => `--${name}=${set}`);
  return ['setpriv', ...sets, '--no-new-privs', '--'];
}

interface Probed {
  readonly features: readonly { name: string; state: string; detail: string }[];
  readonly mode: string | null;
  readonly untried: readonly string[];
}

const probe = async (prefix: readonly string[], ...flags: string[]) =>
  run([...prefix, ...COMMAND, 'probe', ...flags], { accept: [0, 1] });

describe('probe', () => {
  it('tries everything as root, and ends with 0', async () => {
    const { code, stdout, stderr } = await probe([], '--json');
    const { features, untried, mode } = JSON.parse(stdout) as Probed;
    expect([code, stderr, untried, mode]).toEqual([0, '', [], 'offload']);
    expect(features.map(({ state }) => state)).not.toContain('untried');
  });

  it.each([
    ['without privilege', WITHOUT_PRIVILEGE],
    ['with what the unit leaves', AS_UNIT],
  ])('%s says what it could not try, and ends with 1', async (_, prefix) => {
    const { code, stdout, stderr } = await probe(prefix, '--json');
    const { features, untried, mode } = JSON.parse(stdout) as Probed;
    expect([code, untried, mode]).toEqual([1, TUN, null]);
    expect(stderr).toBe(
      `probe: ${TUN.join(', ')} could not be tried (${DENIED}); run as root, with CAP_SYS_ADMIN\n`,
    );
    for (const { name, state, detail } of features) {
      if (TUN.includes(name)) expect([name, state, detail]).toEqual([name, 'untried', DENIED]);
      else expect(state).not.toBe('untried');
    }
    const text = await probe(prefix);
    expect(text.code).toBe(1);
    expect(text.stdout).toMatch(/^ {2}tun +2\.4 +untried +unshare CLONE_NEWNET/m);
    expect(text.stdout).not.toMatch(/^ {2}tun.* no /m);
  });

  it('says without privilege, too, that there is no TUN device', async () => {
    const hidden = 'mount -t tmpfs none /dev/net && exec "$@"';
    const { code, stdout } = await probe(
      ['unshare', '--mount', 'sh', '-c', hidden, 'sh', ...WITHOUT_PRIVILEGE],
      '--json',
    );
    const { features, untried } = JSON.parse(stdout) as Probed;
    // FOU can do without, and is not known.
    expect([code, untried]).toEqual([1, ['fou']]);
    expect(features.find(({ name }) => name === 'tun')).toMatchObject({
      state: 'no',
      detail: 'open /dev/net/tun: No such file or directory',
    });
  });
});

describe('a daemon with what the unit leaves', () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await TestLab.bare(1, { mode: 'auto' });
  });
  afterAll(() => lab.tearDown());

  it('says untried in the log, and then what its own device shows in status and metrics', async () => {
    const daemon = await lab.startDaemon(lab.near, { command: [...AS_UNIT, ...COMMAND] });
    const line = await waitFor('the probe', 5_000, () => {
      const lines = daemon.program.stderr.split('\n');
      return Promise.resolve(lines.find((text) => text.includes('"kernel features"')));
    });
    const { missing, ...said } = JSON.parse(line) as Record<string, unknown>;
    expect(said).toMatchObject({ untried: TUN, untriedBecause: DENIED });
    expect(TUN.filter((name) => (missing as string[]).includes(name))).toEqual([]);

    const { features, dataPlane } = await daemon.status();
    const state = (name: string) => features.find((feature) => feature.name === name)?.state;
    const active = dataPlane?.features.filter((feature) => feature.state === 'active') ?? [];
    expect(active.map(({ name }) => name)).toContain('tun-tso');
    expect(['tun', 'tun-vnet-hdr', 'tun-tso'].map(state)).toEqual(['yes', 'yes', 'yes']);
    expect(state('multiqueue')).toBe('untried');

    const { body } = await askDaemon(daemon.subnetFile, '/metrics');
    expect(body).toContain('flannelette_kernel_feature{feature="tun"} 1\n');
    expect(body).toContain('flannelette_kernel_feature{feature="multiqueue"} -1\n');
  });
});
