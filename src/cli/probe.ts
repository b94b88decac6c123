/** `flannelette probe`: what this kernel offers, tried for real, and what follows from it. */
import { probeKernel, type KernelFeature } from '../daemon/probe.js';
import { errnoOf, ExitCode, messageOf, systemError } from '../errors.js';
import type { Command } from './command.js';
import { booleanFlag, resolveFlags } from './flags.js';
import { formatTable } from '../text.js';

const flags = {
  json: booleanFlag('json', 'print one JSON object', false, { argumentOnly: true }),
};

export interface ModeChoice {
  /** `undefined` when no daemon can run here. */
  readonly mode: 'basic' | 'batch' | undefined;
  readonly reason: string;
}

export const probeCommand: Command = {
  name: 'probe',
  summary: 'show what this kernel offers and which mode follows',
  description:
    "Tries each kernel feature in a network namespace of its own; the host's interfaces, routes and\nfirewall are not touched.",
  flags,
  footer: `
Examples:
  flannelette probe
  flannelette probe --json

Exit codes:
  0  the features could be tried
  1  they could not, for want of privilege
  2  the input is wrong
`,
  run: (given, io) => {
    const { json } = resolveFlags(flags, given, {});
    const features = tryProbe();
    const choice = chooseMode(features);
    if (json) {
      io.out(`${JSON.stringify({ features, mode: choice.mode ?? null, reason: choice.reason })}\n`);
    } else {
      io.out(formatProbe(features, choice));
    }
    return Promise.resolve(ExitCode.ok);
  },
};

/** The mode a daemon should run in here, and why. */
export function chooseMode(features: readonly KernelFeature[]): ModeChoice {
  const find = (name: string) => features.find((feature) => feature.name === name);
  const tun = find('tun');
  if (tun !== undefined && !tun.available) {
    return { mode: undefined, reason: `tun is not available: ${tun.detail}` };
  }
  const mmsg = find('mmsg');
  if (mmsg !== undefined && !mmsg.available) {
    return { mode: 'basic', reason: `no recvmmsg and sendmmsg: ${mmsg.detail}` };
  }
  return { mode: 'batch', reason: 'recvmmsg and sendmmsg carry many packets a system call' };
}

export function formatProbe(features: readonly KernelFeature[], choice: ModeChoice): string {
  const table = formatTable(
    [{ title: 'feature' }, { title: 'since' }, { title: 'here' }, { title: 'detail' }],
    features.map(({ name, since, available, detail }) => [
      name,
      since,
      available ? 'yes' : 'no',
      detail,
    ]),
  );
  const verdict =
    choice.mode === undefined
      ? `No daemon can run here: ${choice.reason}${process.geteuid?.() === 0 ? '' : '; run as root to be sure'}`
      : `Mode: ${choice.mode} (${choice.reason})`;
  return `${table}\n${verdict}\n`;
}

function tryProbe(): readonly KernelFeature[] {
  try {
    return probeKernel();
  } catch (error) {
    const code = errnoOf(error);
    if (code !== 'EPERM' && code !== 'EACCES') throw error;
    throw systemError(
      `probe: a network namespace to try features in is not permitted (${messageOf(error)}): run as root, or allow unprivileged user namespaces`,
      { code, cause: error },
    );
  }
}
