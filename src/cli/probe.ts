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
  /** What a daemon with --mode=auto runs in; `undefined` when none can run here. */
  readonly mode: 'offload' | undefined;
  /** Features that mode has a use for, and that are not here. */
  readonly without: readonly string[];
  /** Both in one sentence. */
  readonly reason: string;
}

/** What a feature gives the data plane, and what becomes of packets without it. */
interface Meaning {
  readonly gives: string;
  readonly without: string;
  /** Has a switch (--disable) of its own; the others are what these rest on. */
  readonly optional?: true;
}

const MEANINGS: Readonly<Record<string, Meaning>> = {
  tun: { gives: 'packets come to a daemon and go back', without: 'no daemon can run' },
  'tun-vnet-hdr': {
    gives: 'what tun-tso and tun-uso need',
    without: 'neither tun-tso nor tun-uso',
  },
  'tun-tso': {
    gives: 'TCP crosses the TUN 64 KiB at a time',
    without: 'TCP crosses the TUN packet by packet',
    optional: true,
  },
  'tun-uso': {
    gives: 'UDP crosses the TUN in trains, if sent so',
    without: 'UDP crosses the TUN packet by packet',
    optional: true,
  },
  multiqueue: {
    gives: 'several threads can read the TUN',
    without: 'one thread reads the TUN',
  },
  mmsg: {
    gives: 'one call sends or receives many messages',
    without: 'one system call for each message',
    optional: true,
  },
  'udp-gso': {
    gives: 'one message sends up to 64 datagrams',
    without: 'one message for each datagram sent',
    optional: true,
  },
  'udp-gro': {
    gives: 'one message brings up to 64 datagrams',
    without: 'one message for each datagram received',
    optional: true,
  },
};

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
      io.out(
        `${JSON.stringify({ features, mode: choice.mode ?? null, without: choice.without, reason: choice.reason })}\n`,
      );
    } else {
      io.out(formatProbe(features, choice));
    }
    return Promise.resolve(ExitCode.ok);
  },
};

/** What a daemon with --mode=auto would do here, and why. */
export function chooseMode(features: readonly KernelFeature[]): ModeChoice {
  const missing = features.filter(({ available }) => !available);
  const tun = missing.find(({ name }) => name === 'tun');
  if (tun !== undefined) {
    return { mode: undefined, without: [], reason: `tun is not available: ${tun.detail}` };
  }
  const without = missing
    .map(({ name }) => name)
    .filter((name) => MEANINGS[name]?.optional === true);
  const all = without.length === 0 ? 'with every feature' : `without ${without.join(', ')}`;
  return { mode: 'offload', without, reason: `auto: offload ${all}` };
}

export function formatProbe(features: readonly KernelFeature[], choice: ModeChoice): string {
  const found = formatTable(
    [{ title: 'feature' }, { title: 'since' }, { title: 'here' }, { title: 'found out by' }],
    features.map(({ name, since, available, detail }) => [name, since, yesNo(available), detail]),
  );
  if (choice.mode === undefined) {
    const hint = process.geteuid?.() === 0 ? '' : '; run as root to be sure';
    return `${found}\nNo daemon can run here: ${choice.reason}${hint}\n`;
  }
  const meant = formatTable(
    [{ title: 'feature' }, { title: 'here' }, { title: 'so' }],
    features.flatMap(({ name, available }) => {
      const meaning = MEANINGS[name];
      if (meaning === undefined) return [];
      return [[name, yesNo(available), available ? meaning.gives : meaning.without]];
    }),
  );
  return `${found}\nMode ${choice.reason}\n\n${meant}\n${FOOTNOTE}\n`;
}

const FOOTNOTE = `A daemon tries each again on its own descriptors, and goes on without one that
is refused later; flannelette status says which are in use, --disable does
without. The wire is the same with all of them and with none.`;

function yesNo(available: boolean): string {
  return available ? 'yes' : 'no';
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
