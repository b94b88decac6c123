/** `flannelette mode NAME`: lets a running daemon go on in another mode, without losing connections. */
import { DAEMON_MODES, type DaemonMode } from '../daemon/options.js';
import { ExitCode } from '../errors.js';
import { askDaemon, subnetFileFlag } from './ask-daemon.js';
import type { Command, CommandGroup } from './command.js';
import { resolveFlags } from './flags.js';

const flags = { subnetFile: subnetFileFlag };

const MEANINGS: Readonly<Record<DaemonMode, string>> = {
  auto: 'the same as offload',
  basic: 'one packet a system call, as flanneld',
  batch: 'many packets a system call',
  offload: 'packets cross the kernel as trains',
  kernel: 'the kernel carries what it can by itself',
};

export const modeGroup: CommandGroup = {
  name: 'mode',
  noun: 'mode',
  summary: 'let a running daemon carry packets in another mode',
  description:
    'Device, port, routes and connections stay; packets wait for about a millisecond. It holds until the\ndaemon ends: --mode of run is what it starts with.',
  commands: DAEMON_MODES.map(modeCommand),
};

function modeCommand(mode: DaemonMode): Command {
  return {
    name: `mode ${mode}`,
    summary: MEANINGS[mode],
    description: `Lets the daemon of this host carry packets in mode ${mode}: ${MEANINGS[mode]}.`,
    flags,
    footer: `
Example:
  flannelette mode ${mode} && flannelette status

Exit codes:
  0  the daemon carries packets in that mode
  1  no daemon answers there, or its backend has no modes
  2  the input is wrong
`,
    run: async (given, io) => {
      const { subnetFile } = resolveFlags(flags, given, io.env);
      await askDaemon(subnetFile, `/mode/${mode}`, 'PUT');
      io.out(`the mode is ${mode}\n`);
      return ExitCode.ok;
    },
  };
}
