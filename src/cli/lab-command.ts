/** `flannelette lab`: the documents' hosts on this machine; the work is in src/lab. */
import { DAEMON_MODES } from '../daemon/options.js';
import type { Command } from './command.js';
import {
  booleanFlag,
  choiceFlag,
  choicesFlag,
  integerFlag,
  optionalPortFlag,
  resolveFlags,
} from './flags.js';
import { checkLabFlags, LAB_FLAGS, refuseBeside } from './lab-flags.js';

/** The lab's. */
const HOSTS = 3;

const flags = {
  ...LAB_FLAGS,
  modes: choicesFlag(
    'modes',
    'mode of host 1, host 2 and host 3, separated by commas; fewer are repeated',
    DAEMON_MODES,
    HOSTS,
  ),
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
    'Two hosts and two containers in network namespaces, a daemon on each host, then ping, iperf3 and a\ncapture of what crosses the wire; then a third host joins, leaves and comes back. Takes about 20 s.\nWith --web a page shows the hosts live instead,\nwith buttons for traffic, mode and the third host, until Ctrl-C.\nEverything is removed at the end, also when killed; the interfaces, routes and firewall of this\nmachine are not touched.',
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
  flannelette lab --modes=kernel,offload        # hosts of different modes in one network
  flannelette lab --backend=vxlan               # flannel.1 in place of flannel0
  flannelette lab --backend=vxlan --direct-routing
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
    const values = resolveFlags(flags, given, {});
    const { backend, directRouting, mode, modes = [mode] as const, ...more } = values;
    checkLabFlags(values, given);
    if (values.modes !== undefined) refuseBeside(given, ['mode'], '--modes');
    if (more.web !== undefined) refuseBeside(given, BESIDE_WEB, '--web');
    // Loaded when wanted: a daemon has no use for it.
    const [lab, { labBackend }] = await Promise.all([
      import('../lab/scenario/scenario.js'),
      import('../lab/backends/registry.js'),
    ]);
    return lab.labCommand({ ...more, modes, backend: labBackend(backend, directRouting) }, argv);
  },
};

/** Flags of the measurements, which the live page takes the place of; and it has one mode. */
const BESIDE_WEB = ['seconds', 'json', 'keep', 'modes'];
