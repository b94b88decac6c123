/** `flannelette docker-opts`: flannel's mk-docker-opts.sh, its flags included. */
import { readFile } from 'node:fs/promises';
import { DAEMON_DEFAULTS } from '../daemon/options.js';
import { ExitCode, inputError, systemError } from '../errors.js';
import {
  formatDockerOpts,
  readDockerSource,
  routeElsewhere,
  writeDockerOpts,
} from '../host/docker-opts.js';
import { formatCidr } from '../config/ipv4.js';
import type { Command } from './command.js';
import { booleanFlag, resolveFlags, textFlag } from './flags.js';

const DEFAULT_KEY = 'DOCKER_OPTS';
const ROUTES = '/proc/self/net/route';

const flags = {
  subnetFile: textFlag('subnet-file', 'subnet file of the daemon, to read', {
    short: 'f',
    placeholder: 'path',
    fallback: DAEMON_DEFAULTS.subnetFile,
  }),
  dockerFile: textFlag('docker-file', "file of Docker's options, to write", {
    short: 'd',
    placeholder: 'path',
    fallback: '/run/docker_opts.env',
    argumentOnly: true,
  }),
  individual: booleanFlag('individual', 'write each option as a variable: DOCKER_OPT_BIP', false, {
    short: 'i',
    argumentOnly: true,
  }),
  combined: booleanFlag('combined', 'write one variable with all options: DOCKER_OPTS', false, {
    short: 'c',
    argumentOnly: true,
  }),
  combinedKey: textFlag('combined-key', 'name of that one variable', {
    short: 'k',
    placeholder: 'name',
    fallback: DEFAULT_KEY,
    argumentOnly: true,
  }),
  omitIpMasq: booleanFlag(
    'omit-ip-masq',
    'leave out --ip-masq, for a Docker too old to know it',
    false,
    {
      short: 'm',
      argumentOnly: true,
    },
  ),
};

export const dockerOptsCommand: Command = {
  name: 'docker-opts',
  summary: "write Docker's options for this host's subnet (mk-docker-opts.sh)",
  description:
    "Reads the daemon's subnet file and writes Docker's --bip, --mtu and --ip-masq as variables that a\nsystemd unit reads with EnvironmentFile. Takes the flags of flannel's mk-docker-opts.sh and writes\nthe same; --individual and --combined both hold when neither is given. Variables DOCKER_OPT_... and\nDOCKER_OPTS that are set already are kept and added to. Without the subnet file, or a value in it, the\noptions are left out, with a warning.",
  flags,
  footer: `
Environment:
  FLANNELD_SUBNET_FILE, as for run; the flag wins.

Examples:
  flannelette docker-opts                     # /run/flannel/subnet.env to /run/docker_opts.env
  flannelette docker-opts -c -d /dev/stdout   # DOCKER_OPTS=" --bip=100.96.1.1/24 --ip-masq=true --mtu=1472"
  flannelette docker-opts -k DOCKER_NETWORK_OPTIONS -d /run/flannel/docker
  ExecStartPost=/usr/bin/flannelette docker-opts -c    # in the daemon's unit, Type=notify

Exit codes:
  0  written
  1  a file could not be read or written, or the subnet is routed through another host
  2  the input is wrong, or a value in the subnet file
`,
  run: async (given, io) => {
    const values = resolveFlags(flags, given, io.env);
    const { subnetFile, dockerFile, combinedKey, omitIpMasq } = values;
    if (!/^[A-Za-z_]\w*$/.test(combinedKey)) {
      throw inputError('--combined-key', combinedKey, `a variable's name such as ${DEFAULT_KEY}`);
    }
    const both = values.individual === values.combined;
    const source = await readDockerSource(subnetFile, omitIpMasq, io.env);
    for (const line of source.missing) io.err(`${line}\n`);
    const style = {
      individual: both || values.individual,
      combined: both || values.combined,
      combinedKey,
      omitIpMasq,
    };
    await writeDockerOpts(dockerFile, formatDockerOpts(source, style));

    // After the writing, as in the script: the file is right, the host is not.
    const { subnet } = source;
    if (subnet === undefined) return ExitCode.ok;
    const gateway = routeElsewhere(subnet, await readFile(ROUTES, 'utf8'));
    if (gateway !== undefined) {
      throw systemError(
        `${formatCidr(subnet)} is this host's subnet but routed via ${gateway}, away from its containers: expected no such route; see ip route show`,
        { field: 'FLANNEL_SUBNET', value: formatCidr(subnet) },
      );
    }
    return ExitCode.ok;
  },
};
