/** `flannelette lab`: the documents' hosts on this machine; the work is in src/lab. */
import { DAEMON_DEFAULTS, DAEMON_MODES } from '../daemon/options.js';
import type { Command } from './command.js';
import { inputError } from '../errors.js';
import {
  booleanFlag,
  choiceFlag,
  integerFlag,
  optionalPortFlag,
  resolveFlags,
  type GivenFlags,
} from './flags.js';

const flags = {
  mode: choiceFlag('mode', 'mode all daemons run in', DAEMON_MODES, DAEMON_DEFAULTS.mode),
  store: choiceFlag(
    'store',
    'where the daemons keep their leases: a lease file, or a real etcd started for the lab',
    ['file', 'etcd'],
    'file',
  ),
  seconds: integerFlag(
    'seconds',
    'length of each throughput measurement',
    { min: 1, max: 3_600, fallback: 3 },
    { placeholder: 'seconds' },
  ),
  json: booleanFlag('json', 'print one JSON object as the last line'),
  keep: booleanFlag('keep', 'leave the network up until Ctrl-C and say how to enter it'),
  web: optionalPortFlag(
    'web',
    'instead of the measurements: a live page on 127.0.0.1 (default port: 8080)',
    8080,
  ),
  isolated: booleanFlag('isolated', 'this process is already isolated', false, { hidden: true }),
};

export const labCommand: Command = {
  name: 'lab',
  summary: 'build the example network on this machine and send real traffic through it',
  description:
    'Two hosts and two containers in network namespaces, a daemon on each host, then ping, iperf3 and a\ncapture of UDP port 8285; then a third host joins, leaves and comes back. Takes about 20 s.\nWith --web a page shows the hosts live instead,\nwith buttons for traffic, mode and the third host, until Ctrl-C.\nEverything is removed at the end, also when killed; the interfaces, routes and firewall of this\nmachine are not touched.',
  flags,
  footer: `
The network:
  host 1  eth0 10.168.0.2  docker0 100.96.1.1/24  container-1 100.96.1.2
  host 2  eth0 10.168.0.3  docker0 100.96.2.1/24  container-2 100.96.2.3
  host 3  eth0 10.168.0.4  docker0 100.96.3.1/24  container-3 100.96.3.4   (comes and goes)
  switch  10.168.0.1, where etcd listens on port 2379 with --store=etcd

Examples:
  flannelette lab
  flannelette lab --store=etcd      # needs etcd (Debian package etcd-server)
  flannelette lab --mode=basic --seconds=10
  flannelette lab --keep            # then follow the printed commands into container-1
  flannelette lab --json | tail -1
  flannelette lab --web             # then open http://127.0.0.1:8080/

Exit codes:
  0  every check passed
  1  a check failed, or the machine cannot run the lab
  2  the input is wrong
`,
  run: async (given, _io, argv) => {
    // The measurement's length and the rest have no meaning outside one command line.
    const { mode, store, seconds, json, keep, web, isolated } = resolveFlags(flags, given, {});
    if (web !== undefined) checkWithWeb(given);
    // Loaded when wanted: a daemon has no use for it.
    const lab = await import('../lab/scenario/scenario.js');
    return lab.labCommand({ mode, store, seconds, json, keep, web, isolated }, argv);
  },
};

/** Flags of the measurements, which the live page takes the place of. */
function checkWithWeb(given: GivenFlags): void {
  for (const name of ['seconds', 'json', 'keep']) {
    const values = given.get(name);
    if (values !== undefined) throw inputError(`--${name}`, values[0], 'no such flag beside --web');
  }
}
