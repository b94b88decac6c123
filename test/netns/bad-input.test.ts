/**
 * What is wrong ends the daemon with one clear line and a code, and leaves nothing: no device, no
 * route, no subnet.env, no socket.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { lastWords, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { LAB_DIRECTORY } from '../../src/testbed/topology.js';
import { COMMAND, LEASE_FILE, ROOT, TestLab, tunDevices } from '../support/test-lab.js';

let lab: TestLab;
const runDirectory = join(LAB_DIRECTORY, 'bad-input');
const subnetFile = join(runDirectory, 'subnet.env');

beforeAll(async () => {
  lab = await TestLab.bare(1);
});
afterAll(() => lab.tearDown());
beforeEach(async () => {
  await writeLeaseFile(lab.hosts);
  await mkdir(runDirectory, { recursive: true });
});

interface Case {
  readonly what: string;
  readonly flags?: readonly string[];
  /** Stands before the command, e.g. to take a privilege away. */
  readonly wrapper?: readonly string[];
  readonly prepare?: () => Promise<void>;
  readonly code: number;
  readonly says: RegExp;
  /** Found in the flags, before the log begins. */
  readonly flag?: true;
}

const config = (value: object) => () => writeLeaseFile(lab.hosts, value);
const network = '100.96.0.0/16';
/** sh only sets the scene; the command follows as arguments. */
const scene = (commands: string): string[] => [
  ...['unshare', '--mount', 'sh', '-c', `${commands} && exec "$@"`, 'sh'],
];

/** The command that takes every capability away, whatever user it runs as. */
function withoutCapabilities(): string[] {
  const sets = ['bounding-set', 'inh-caps', 'ambient-caps'];
  return ['setpriv', ...sets.map((name) => `--${name}=-all`)];
}

const cases: readonly Case[] = [
  {
    what: 'an unknown flag',
    flags: ['--ifaces=eth0'],
    code: 2,
    says: /--ifaces.*\(did you mean --iface\?\)/,
    flag: true,
  },
  {
    what: 'a mode that is none',
    flags: ['--mode=fast'],
    code: 2,
    says: /--mode.*"fast".*basic/,
    flag: true,
  },
  {
    what: 'an interface that is not there',
    flags: ['--iface=eth7'],
    code: 2,
    says: /--iface.*"eth7".*eth0/,
  },
  {
    what: 'a bad public address',
    flags: ['--public-ip=10.168.0.256'],
    code: 2,
    says: /--public-ip.*10\.168\.0\.256/,
    flag: true,
  },
  {
    what: 'a renew margin out of range',
    flags: ['--subnet-lease-renew-margin=1440'],
    code: 2,
    says: /--subnet-lease-renew-margin.*1440.*1439/,
    flag: true,
  },
  {
    what: 'a Network that is no CIDR',
    prepare: config({ Network: '100.96.0.0/33' }),
    code: 2,
    says: /Network.*100\.96\.0\.0\/33/,
  },
  {
    what: 'a SubnetLen out of range',
    prepare: config({ Network: network, SubnetLen: 31 }),
    code: 2,
    says: /SubnetLen.*31/,
  },
  {
    what: 'a SubnetMin outside the Network',
    prepare: config({ Network: network, SubnetMin: '10.0.0.0' }),
    code: 2,
    says: /SubnetMin.*10\.0\.0\.0/,
  },
  {
    what: 'a backend that is not there',
    prepare: config({ Network: network, Backend: { Type: 'ipip' } }),
    code: 2,
    says: /Backend\.Type.*"ipip".*udp/,
  },
  {
    what: 'a lease file that is not there',
    flags: ['--lease-file=/run/flannelette-lab/none.json'],
    code: 1,
    says: /--lease-file.*none\.json.*ENOENT/,
  },
  {
    what: 'a lease file that is not JSON',
    prepare: () => writeFile(LEASE_FILE, '{ "version": 1, '),
    code: 1,
    says: /leases\.json/,
  },
  {
    what: 'a lease file without permission',
    // The clone's owner, who can read the program wherever it lies, and nothing more.
    wrapper: [...withoutCapabilities(), `--reuid=${statSync(ROOT).uid}`, '--'],
    prepare: async () => {
      await chmod(LEASE_FILE, 0o000);
      // The status socket, which comes first, may be there.
      await chmod(runDirectory, 0o777);
    },
    code: 1,
    says: /--lease-file.*leases\.json.*EACCES/,
  },
  {
    what: 'no privilege',
    wrapper: [
      'setpriv',
      '--bounding-set=-net_admin,-net_raw',
      '--inh-caps=-net_admin,-net_raw',
      '--',
    ],
    code: 1,
    says: /EPERM.*CAP_NET_ADMIN/,
  },
  {
    what: 'no /dev/net/tun',
    wrapper: scene('mount -t tmpfs none /dev/net'),
    code: 1,
    says: /\/dev\/net\/tun.*ENOENT/,
  },
  {
    what: 'a status socket path that is too long',
    flags: [`--subnet-file=${join(runDirectory, 'x'.repeat(100))}`],
    code: 2,
    says: /--subnet-file/,
    flag: true,
  },
];

it.each(cases)('$what', async (given) => {
  const { flags = ['--iface=eth0'], wrapper = [], prepare, code, says, flag } = given;
  await prepare?.();
  const argv = [...COMMAND, 'run', `--lease-file=${LEASE_FILE}`];
  argv.push(`--subnet-file=${subnetFile}`, ...flags);
  const result = await run(inNamespace(lab.near.host, [...wrapper, ...argv]), { accept: [code] });
  expect(lastWords(result.stderr)).toMatch(says);
  // A flag that is wrong is one plain line; what goes wrong later is the last event of the log.
  const lines = result.stderr.trim().split('\n');
  if (flag === true) expect(lines).toEqual([expect.not.stringMatching(/^\{/)]);
  else for (const line of lines) expect(line).toMatch(/^\{"level":/);
  if (flag !== true) expect(lines.at(-1)).toMatch(/^\{"level":60,/);
  await expectNothingLeft();
});

it('a UDP port that is taken', async () => {
  const script = `require('dgram').createSocket('udp4').bind(8285, '10.168.0.2', () => console.log('bound'))`;
  const holder = new Program(inNamespace(lab.near.host, [process.execPath, '-e', script]));
  await waitFor('the port', 5_000, () => holder.stdout.includes('bound') || undefined);
  const argv = [...COMMAND, 'run', `--lease-file=${LEASE_FILE}`, '--iface=eth0'];
  argv.push(`--subnet-file=${subnetFile}`);
  const { stderr } = await run(inNamespace(lab.near.host, argv), { accept: [1] });
  expect(stderr.trim().split('\n').at(-1)).toMatch(/UDP port 8285 is taken.*EADDRINUSE/);
  await holder.stop();
  await expectNothingLeft();
});

async function expectNothingLeft(): Promise<void> {
  expect(await tunDevices(lab.near.host)).toEqual([]);
  const { stdout } = await run(inNamespace(lab.near.host, ['ip', 'route', 'show', network]));
  expect(stdout).toBe('');
  expect(readdirSync(runDirectory)).toEqual([]);
}
