/** `flannelette probe`: what this kernel offers, tried for real, and what follows from it. */
import { probeKernel, TUN_ADVICE, type KernelFeature } from '../daemon/process.js';
import { ExitCode, systemError } from '../errors.js';
import type { Command } from './command.js';
import { booleanFlag, resolveFlags } from './flags.js';
import { formatTable } from '../text.js';

const flags = {
  json: booleanFlag('json', 'print one JSON object', false, { argumentOnly: true }),
};

export interface ModeChoice {
  /** What a daemon with --mode=auto runs in; `undefined` when none can run here, or it is not known. */
  readonly mode: 'offload' | undefined;
  /** Features that mode has a use for, and that are not here. */
  readonly without: readonly string[];
  /** Features of which nothing is known, and why in `reason`. */
  readonly untried: readonly string[];
  /** All of it in one sentence. */
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
  fou: {
    gives: 'with --mode=kernel the kernel alone is the tunnel',
    without: '--mode=kernel is by kernel-path',
  },
  'kernel-path': {
    gives: 'with --mode=kernel packets stay in the kernel',
    without: '--mode=kernel is as offload',
  },
  seccomp: {
    gives: 'packet threads keep to the system calls of their loops',
    without: 'packet threads can make any system call',
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

A feature is "untried" when privilege, descriptors or memory were missing to try it: that says nothing
about the kernel. Root, or CAP_SYS_ADMIN, can try all of them.

Exit codes:
  0  every feature could be tried
  1  some could not; the last line says why
  2  the input is wrong
`,
  run: (given, io) => {
    const { json } = resolveFlags(flags, given, {});
    const features = probeKernel();
    const { mode = null, ...choice } = chooseMode(features);
    if (json) io.out(`${JSON.stringify({ features, mode, ...choice })}\n`);
    else io.out(formatProbe(features));
    if (choice.untried.length > 0) throw systemError(`probe: ${untriedText(features)}`);
    return Promise.resolve(ExitCode.ok);
  },
};

/** What a daemon with --mode=auto would do here, and why. */
export function chooseMode(features: readonly KernelFeature[]): ModeChoice {
  const untried = namesOf(features, 'untried');
  const tun = features.find(({ name }) => name === 'tun');
  if (tun?.state === 'no') {
    const reason = `tun is not available: ${tun.detail}; ${TUN_ADVICE}`;
    return { mode: undefined, without: [], untried, reason };
  }
  if (tun?.state === 'untried') {
    const reason = `not known: ${untriedText(features)}`;
    return { mode: undefined, without: [], untried, reason };
  }
  const without = namesOf(features, 'no').filter((name) => MEANINGS[name]?.optional === true);
  const all = without.length === 0 ? 'with every feature' : `without ${without.join(', ')}`;
  const rest = untried.length === 0 ? '' : `; not known: ${untriedText(features)}`;
  return { mode: 'offload', without, untried, reason: `auto: offload ${all}${rest}` };
}

function namesOf(features: readonly KernelFeature[], wanted: KernelFeature['state']): string[] {
  return features.filter(({ state }) => state === wanted).map(({ name }) => name);
}

/** `tun, mmsg could not be tried (socket: Too many open files); ...`. */
function untriedText(features: readonly KernelFeature[]): string {
  const untried = features.filter(({ state }) => state === 'untried');
  const reasons = [...new Set(untried.map(({ detail }) => detail))].join('; ');
  const hint = /not permitted|denied/.test(reasons) ? '; run as root, with CAP_SYS_ADMIN' : '';
  return `${namesOf(untried, 'untried').join(', ')} could not be tried (${reasons})${hint}`;
}

export function formatProbe(features: readonly KernelFeature[]): string {
  const choice = chooseMode(features);
  const found = formatTable(
    [{ title: 'feature' }, { title: 'since' }, { title: 'here' }, { title: 'found out by' }],
    features.map(({ name, since, state, detail }) => [name, since, state, detail]),
  );
  const tun = features.find(({ name }) => name === 'tun');
  if (tun?.state === 'no') {
    return `${found}\n${wrap(`No daemon can run here: ${choice.reason}`)}\n`;
  }
  const meant = formatTable(
    [{ title: 'feature' }, { title: 'here' }, { title: 'so' }],
    features.flatMap(({ name, state }) => {
      const meaning = MEANINGS[name];
      if (meaning === undefined) return [];
      const so = { yes: meaning.gives, no: meaning.without, untried: 'a daemon finds out' }[state];
      return [[name, state, so]];
    }),
  );
  return `${found}\n${wrap(`Mode ${choice.reason}`)}\n\n${meant}\n${FOOTNOTE}\n`;
}

/** Lines of at most 80 characters. */
function wrap(text: string): string {
  return text.replaceAll(/(?=.{81})(.{1,80}) /g, '$1\n');
}

const FOOTNOTE = `A daemon tries each again on its own descriptors, and goes on without one that
is refused later; flannelette status says which are in use, --disable does
without. The wire is the same with all of them and with none.`;
