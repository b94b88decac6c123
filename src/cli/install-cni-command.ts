/** `flannelette install-cni`: what the init container install-cni of kube-flannel does. */
import { join } from 'node:path';
import { DAEMON_DEFAULTS } from '../daemon/options.js';
import {
  errnoOf,
  ExitCode,
  type FlannelletteError,
  inputError,
  messageOf,
  systemError,
} from '../errors.js';
import { replaceFile } from '../host/atomic-file.js';
import { readBounded } from '../host/bounded-read.js';
import { defaultConflist, fileBefore, missingPlugins, pluginsOf } from '../host/cni.js';
import type { Command } from './command.js';
import { booleanFlag, resolveFlags, textFlag } from './flags.js';

/** Far more than any list of plugins. */
const MAX_BYTES = 1024 * 1024;

const flags = {
  confFile: textFlag(
    'conf-file',
    "list of plugins to install, such as cni-conf.json of flannel's ConfigMap; without it flannel's own",
    { placeholder: 'path', argumentOnly: true, emptyIsUnset: true },
  ),
  confDir: textFlag('conf-dir', 'directory that the container runtime reads', {
    placeholder: 'path',
    fallback: '/etc/cni/net.d',
    argumentOnly: true,
  }),
  confName: textFlag('conf-name', 'name of the file there', {
    placeholder: 'name',
    fallback: '10-flannel.conflist',
    argumentOnly: true,
  }),
  binDir: textFlag('bin-dir', 'directory of the plugins, in which those of the list must be', {
    placeholder: 'path',
    fallback: '/opt/cni/bin',
    argumentOnly: true,
  }),
  subnetFile: textFlag('subnet-file', "the daemon's, for flannel's own list", {
    placeholder: 'path',
    fallback: DAEMON_DEFAULTS.subnetFile,
  }),
  print: booleanFlag('print', 'print the list and write nothing', false, { argumentOnly: true }),
};

export const installCniCommand: Command = {
  name: 'install-cni',
  summary: 'install the CNI configuration for pods (10-flannel.conflist)',
  description:
    "Writes the list of plugins by which a container runtime sets up pods, whole or not at all, once\nevery plugin it needs is there: for flannel's own list flannel, bridge, host-local and portmap.\nDoes what kube-flannel's init container install-cni does; the plugins themselves are others'\nprograms.",
  flags,
  footer: `
Environment:
  FLANNELD_SUBNET_FILE, as for run; the flag wins.

Examples:
  flannelette install-cni                                      # /etc/cni/net.d/10-flannel.conflist
  flannelette install-cni --conf-file=/etc/kube-flannel/cni-conf.json
  flannelette install-cni --bin-dir=/usr/lib/cni --print

Exit codes:
  0  written; with a warning where the runtime takes another file first
  1  a plugin is missing, or a file could not be read or written
  2  the input is wrong, or a key in the list
`,
  run: async (given, io) => {
    const values = resolveFlags(flags, given, io.env);
    const { confFile, confDir, confName, binDir, subnetFile } = values;
    if (!/^[^/]+\.conflist$/.test(confName)) {
      throw inputError('--conf-name', confName, 'a file name that ends in .conflist');
    }
    const other = subnetFile === DAEMON_DEFAULTS.subnetFile ? undefined : subnetFile;
    const text = confFile === undefined ? defaultConflist(other) : await readList(confFile);
    const plugins = pluginsOf(text, confFile ?? "flannel's own list");
    if (values.print) {
      io.out(text);
      return ExitCode.ok;
    }
    const missing = await missingPlugins(binDir, plugins);
    if (missing.length > 0) {
      throw systemError(
        `--bin-dir: ${binDir} lacks ${missing.join(', ')}: expected ${plugins.join(', ')} as programs there, from the releases of flannel's cni-plugin and of containernetworking/plugins`,
        { field: '--bin-dir', value: binDir },
      );
    }
    const path = join(confDir, confName);
    await replaceFile(path, text).catch((error: unknown) => {
      throw fileError('write', path, '--conf-dir', error);
    });
    const first = await fileBefore(confDir, confName).catch((error: unknown) => {
      throw fileError('read', confDir, '--conf-dir', error);
    });
    if (first !== undefined) {
      io.err(
        `${join(confDir, first)} comes before ${confName} by name: the container runtime takes that one\n`,
      );
    }
    return ExitCode.ok;
  },
};

async function readList(path: string): Promise<string> {
  try {
    return (await readBounded(path, { maxBytes: MAX_BYTES })).text;
  } catch (error) {
    throw fileError('read', path, '--conf-file', error);
  }
}

function fileError(
  what: 'read' | 'write',
  path: string,
  field: string,
  error: unknown,
): FlannelletteError {
  const code = errnoOf(error);
  return systemError(`${field}: cannot ${what} ${path}: ${messageOf(error)}`, {
    field,
    value: path,
    cause: error,
    ...(code === undefined ? {} : { code }),
  });
}
