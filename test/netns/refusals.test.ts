/**
 * A kernel that refuses features, at the start or later: the daemon goes on without them, says so
 * once, and loses, doubles, reorders and changes nothing.
 *
 *   host-1: refuse RULES -- flannelette run     host-2: flannelette run
 *           (test/support/refuse.cc)
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { constants } from 'node:os';
import { inNamespace, run } from '../../src/testbed/programs.js';
import type { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { ipBatch } from '../../src/testbed/topology.js';
import { sendNumberedBothWays, transferBothWays } from '../support/exact.js';
import { buildRefuse, LEGACY_RULES, refusing } from '../support/refuse.js';
import { askDaemon, COMMAND, TestLab } from '../support/test-lab.js';

const BYTES = 3 * 1024 * 1024;
const DATAGRAMS = 400;
const PAYLOAD = 1400;
const FEATURES = [
  'mmsg',
  'tun-tso',
  'tun-uso',
  'udp-gso',
  'udp-gro',
  'multiqueue',
  'fou',
  'kernel-path',
  'seccomp',
] as const;
type Feature = (typeof FEATURES)[number];
/** What is refused in the end, with which errno. */
type Refused = Partial<Record<Feature, string>>;

let lab: TestLab;
beforeAll(async () => {
  await buildRefuse();
  lab = await TestLab.bare(2, { mode: 'auto' });
  await lab.attachContainer(await lab.startDaemon(lab.far));
});
afterAll(() => lab.tearDown());

/** Runs host 1's daemon, with its container, for as long as the work takes. */
async function withDaemon(
  rules: readonly string[],
  work: (daemon: DaemonProcess) => Promise<void>,
  flags: readonly string[] = [],
): Promise<void> {
  const command = rules.length === 0 ? COMMAND : refusing(...rules);
  const daemon = await lab.startDaemon(lab.near, { command, flags });
  try {
    await lab.attachContainer(daemon);
    await work(daemon);
  } finally {
    await daemon.stop();
  }
}

async function sendExactly(): Promise<void> {
  await transferBothWays(lab.near, lab.far, BYTES);
  await sendNumberedBothWays(lab.near, lab.far, DATAGRAMS, PAYLOAD);
}

/** Status, metric and log all say that these are refused, and that the others are in use. */
async function expectRefused(daemon: DaemonProcess, refused: Refused, queues = 1): Promise<void> {
  const wanted = FEATURES.map((name) => {
    const error = refused[name];
    if (error !== undefined) {
      const errno = constants.errno[error as keyof typeof constants.errno];
      return { name, state: 'refused', errno };
    }
    const unused = ['fou', 'kernel-path'].includes(name) || (name === 'multiqueue' && queues === 1);
    return { name, state: unused ? 'unused' : 'active', errno: 0 };
  });
  expect((await daemon.status()).dataPlane?.features).toEqual(wanted);

  const { body } = await askDaemon(daemon.subnetFile, '/metrics');
  const active = body.split('\n').filter((line) => line.startsWith('flannelette_feature_active{'));
  expect(active).toEqual(
    wanted.map(
      ({ name, state }) =>
        `flannelette_feature_active{feature="${name}"} ${state === 'active' ? 1 : 0}`,
    ),
  );

  const said = refusalsLogged(daemon.program.stderr);
  const expected = Object.entries(refused).map(([name, error]) => `${name}: ${error}`);
  expect(said.sort()).toEqual(expected.sort());
}

/** Each refusal a daemon's log tells of, as `feature: errno`, as often as it does. */
function refusalsLogged(log: string): string[] {
  return log.split('\n').flatMap((line) => {
    if (!line.startsWith('{')) return [];
    const said = JSON.parse(line) as LogLine;
    if (said.msg === 'kernel features in use')
      return said.refused.map((text) => text.split(' (')[0] ?? '');
    if (said.msg.startsWith('the kernel refuses a feature')) {
      return [`${said.feature}: ${said.error.split(' ')[0] ?? ''}`];
    }
    return [];
  });
}

interface LogLine {
  readonly msg: string;
  readonly refused: readonly string[];
  readonly feature: string;
  readonly error: string;
}

/** Drops the daemon counts, both ways. */
async function drops(daemon: DaemonProcess): Promise<Record<string, number>> {
  const threads = (await daemon.status()).dataPlane?.threads ?? [];
  const named = threads.flatMap(({ direction, drops }) =>
    Object.entries(drops).map(([reason, count]) => [`${direction} ${reason}`, count] as const),
  );
  return Object.fromEntries(named.filter(([, count]) => count > 0));
}

const ALL_LEGACY: Refused = {
  mmsg: 'ENOSYS',
  'tun-tso': 'EINVAL',
  'tun-uso': 'EINVAL',
  'udp-gso': 'ENOPROTOOPT',
  'udp-gro': 'ENOPROTOOPT',
};

describe('transfers are exact and the daemon says what is refused', () => {
  it.each<[string, readonly string[], Refused]>([
    ['nothing', [], {}],
    ['recvmmsg and sendmmsg', ['recvmmsg=ENOSYS', 'sendmmsg=ENOSYS'], { mmsg: 'ENOSYS' }],
    ['sendmmsg, later', ['sendmmsg=ENOSYS@50'], { mmsg: 'ENOSYS' }],
    ['UDP_GRO', ['udp-gro=ENOPROTOOPT'], { 'udp-gro': 'ENOPROTOOPT' }],
    ['UDP_SEGMENT', ['udp-gso=ENOPROTOOPT'], { 'udp-gso': 'ENOPROTOOPT' }],
    ['virtio headers', ['tun-header=EINVAL'], { 'tun-tso': 'EINVAL', 'tun-uso': 'EINVAL' }],
    ['any TUNSETOFFLOAD', ['tun-offload=EINVAL'], { 'tun-tso': 'EINVAL', 'tun-uso': 'EINVAL' }],
    ['USO, as before Linux 6.2', ['tun-uso=EINVAL'], { 'tun-uso': 'EINVAL' }],
    ['trains, later: no checksum offload', ['train-sent=EIO@20'], { 'udp-gso': 'EIO' }],
    ['written TCP trains, later', ['tcp-train-written=EINVAL@20'], { 'tun-tso': 'EINVAL' }],
    ['written UDP trains', ['udp-train-written=EINVAL'], { 'tun-uso': 'EINVAL' }],
    ['all there is, as in Linux 2.6.26', LEGACY_RULES, ALL_LEGACY],
  ])('%s', async (_what, rules, refused) => {
    await withDaemon(rules, async (daemon) => {
      await sendExactly();
      await expectRefused(daemon, refused);
      expect(await drops(daemon)).toEqual({});
    });
  });
});

describe('two queues are wanted, and one does where the kernel refuses', () => {
  it.each<[string, readonly string[], Refused]>([
    ['nothing', [], {}],
    ['several queues', ['tun-queue=EINVAL'], { multiqueue: 'EINVAL' }],
    ['the second queue, as before Linux 3.8', ['tun-queue=EINVAL@2'], { multiqueue: 'EINVAL' }],
    ['a shared port', ['port-sharing=ENOPROTOOPT'], { multiqueue: 'ENOPROTOOPT' }],
    [
      'all there is, as in Linux 2.6.26',
      [...LEGACY_RULES, 'tun-queue=EINVAL'],
      { ...ALL_LEGACY, multiqueue: 'EINVAL' },
    ],
  ])('%s', async (_what, rules, refused) => {
    const exactly = async (daemon: DaemonProcess): Promise<void> => {
      await sendExactly();
      await expectRefused(daemon, refused, 2);
      expect(await drops(daemon)).toEqual({});
    };
    await withDaemon(rules, exactly, ['--workers=4']);
  });
});

describe('trains that one next hop cannot take are sent as datagrams, the feature stays', () => {
  it.each(['EINVAL', 'EMSGSIZE'])('%s', async (error) => {
    await withDaemon([`train-sent=${error}`], async (daemon) => {
      await sendExactly();
      await expectRefused(daemon, {});
      expect(await drops(daemon)).toEqual({});
    });
  });

  it('by the kernel itself, where the path has a smaller MTU than the interface', async () => {
    await withDaemon([], async (daemon) => {
      const route = `${lab.far.address}/32 dev eth0 mtu 1400`;
      await ipBatch(lab.near.host, [`route add ${route}`]);
      try {
        await sendExactly();
        await expectRefused(daemon, {});
        expect(await drops(daemon)).toEqual({});
        // What is too long goes in inner fragments; in outer ones until the path is known.
        const { stdout } = await run(inNamespace(lab.near.host, ['cat', '/proc/net/snmp']));
        expect(snmp(stdout, 'Ip', 'FragCreates')).toBeLessThan(1_000);
      } finally {
        await ipBatch(lab.near.host, [`route delete ${route}`]);
      }
    });
  });
});

/** A counter of /proc/net/snmp: a line of names, and one of values. */
function snmp(text: string, protocol: string, name: string): number {
  const [names = [], values = []] = text
    .split('\n')
    .filter((line) => line.startsWith(`${protocol}: `))
    .map((line) => line.split(' '));
  return Number(values[names.indexOf(name)]);
}
