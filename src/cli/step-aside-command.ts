/** `flannelette step-aside`: a running daemon leaves its host to another flannel, without a gap. */
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf, ExitCode, systemError } from '../errors.js';
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
  0  the other flannel forwards, the daemon ends
  1  no daemon answers there, it cannot step aside, it was stopped, or no other flannel came
  2  the input is wrong
`,
  run: async (given, io) => {
    const { within, subnetFile } = resolveFlags(flags, given, io.env);
    await askDaemon(subnetFile, `/step-aside/${within}`, 'PUT');
    io.out(`the UDP port is free: start the other flannel within ${within} s\n`);
    const phase = await outcome(subnetFile);
    if (phase === 'running') {
      throw systemError(
        `no other flannel had UDP port and route within ${within} s: the daemon has both again`,
      );
    }
    if (phase === undefined) {
      throw systemError('the daemon has ended before another flannel had UDP port and route');
    }
    io.out('the other flannel forwards, the daemon ends\n');
    return ExitCode.ok;
  },
};

/** Phase of a daemon that stands aside no more; undefined when it is gone. */
async function outcome(subnetFile: string): Promise<'running' | 'stepped aside' | undefined> {
  for (;;) {
    await delay(LOOK_MS);
    try {
      const { phase } = (await askDaemon(subnetFile, '/status')) as { phase?: unknown };
      if (phase === 'running' || phase === 'stepped aside') return phase;
    } catch (error) {
      // Others than these are of a daemon that is busy.
      if (['ENOENT', 'ECONNREFUSED'].includes(errnoOf(error) ?? '')) return undefined;
    }
  }
}
