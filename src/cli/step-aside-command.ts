/** `flannelette step-aside`: a running daemon leaves its host to another flannel, without a gap. */
import { setTimeout as delay } from 'node:timers/promises';
import { ExitCode, systemError } from '../errors.js';
import { askDaemon, subnetFileFlag } from './ask-daemon.js';
import type { Command } from './command.js';
import { integerFlag, resolveFlags } from './flags.js';

const LOOK_MS = 100;

const flags = {
  within: integerFlag('within', 'seconds that the other flannel has to start, 1 to 3600', {
    fallback: 60,
    min: 1,
    max: 3_600,
  }),
  subnetFile: subnetFileFlag,
};

export const stepAsideCommand: Command = {
  name: 'step-aside',
  summary: 'leave this host to another flannel (flanneld), without a gap',
  description:
    'The daemon of this host frees its UDP port and its route, and forwards all the same. Start the other\nflannel then: once it has both, the daemon ends with exit code 3. When none has come in time it takes\nboth back and goes on.',
  flags,
  footer: `
Example (back to flanneld):
  systemctl disable flannelette     # without --now
  flannelette step-aside --within 60 &
  systemctl enable --now flanneld
  wait

Exit codes:
  0  the other flannel forwards, the daemon has ended
  1  no daemon answers there, it cannot step aside, or no other flannel came
  2  the input is wrong
`,
  run: async (given, io) => {
    const { within, subnetFile } = resolveFlags(flags, given, io.env);
    await askDaemon(subnetFile, `/step-aside/${within}`, 'PUT');
    io.out(`the UDP port is free: start the other flannel within ${within} s\n`);
    if (await stoodAsideInVain(subnetFile)) {
      throw systemError(
        `no other flannel had UDP port and route within ${within} s: the daemon has both again`,
      );
    }
    io.out('the other flannel forwards, the daemon has ended\n');
    return ExitCode.ok;
  },
};

/** Resolves when the daemon is gone, with true when it runs as before. */
async function stoodAsideInVain(subnetFile: string): Promise<boolean> {
  for (;;) {
    await delay(LOOK_MS);
    let phase: unknown;
    try {
      ({ phase } = (await askDaemon(subnetFile, '/status')) as { phase?: unknown });
    } catch {
      return false;
    }
    if (phase === 'running') return true;
  }
}
