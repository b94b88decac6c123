/**
 * `flannelette extension`: the commands of flanneld's extension backend, one each. They take no flag
 * from the environment: FLANNELD_... there is meant for flanneld.
 */
import { once } from 'node:events';
import { isAbsolute } from 'node:path';
import { resolveDaemonOptions, validateDaemonOptions } from '../daemon/options.js';
import { packageVersion } from '../daemon/version.js';
import { ExitCode, inputError } from '../errors.js';
import { reportStart, startInBackground } from '../extension/background.js';
import { backendData } from '../extension/contract.js';
import { ControlServer, extensionPaths, identify, tell } from '../extension/control.js';
import type { ExtensionOptions } from '../extension/data-plane.js';
import { createLogger } from '../log.js';
import type { Command, CommandGroup } from './command.js';
import {
  booleanFlag,
  integerFlag,
  resolveFlags,
  textFlag,
  type Flags,
  type FlagValues,
  type GivenFlags,
} from './flags.js';
import { giveStartBack } from './give-start-back.js';
import type { CliIo } from './io.js';
import { logProcessEvents } from './process-log.js';
import { daemonOptions } from './run-command.js';
import { runFlags } from './run-flags.js';

const DEFAULT_SUBNET_FILE = '/run/flannel/extension.env';
const DEFAULT_PORT = 8285;

/** Names the instance for every command. */
const instanceFlags = {
  subnetFile: textFlag(
    'subnet-file',
    'where subnet and MTU are written; beside it PATH.sock answers flannelette status, PATH.control these commands, and PATH.log is the log',
    { placeholder: 'path', fallback: DEFAULT_SUBNET_FILE },
  ),
};

const tunnelFlags = {
  port: integerFlag(
    'port',
    'UDP port of the tunnel, the same on every host',
    { min: 1, max: 65_535, fallback: DEFAULT_PORT },
    { placeholder: 'port' },
  ),
  directRouting: booleanFlag(
    'direct-routing',
    'send to hosts on the same segment without the tunnel',
  ),
  ...instanceFlags,
  iface: {
    ...runFlags.iface,
    help: 'interface (name or address) to bind the tunnel to; may be repeated, the first that fits is taken; without it the one of PUBLIC_IP',
  },
  mode: runFlags.mode,
  disable: runFlags.disable,
  workers: runFlags.workers,
  cpus: runFlags.cpus,
  sourcePorts: runFlags.sourcePorts,
  socketBuffer: runFlags.socketBuffer,
  tunQueue: runFlags.tunQueue,
  ringBytes: runFlags.ringBytes,
  pathMtuAge: runFlags.pathMtuAge,
  sourceCheck: runFlags.sourceCheck,
  healthzIp: runFlags.healthzIp,
  healthzTokenFile: runFlags.healthzTokenFile,
  healthzPort: runFlags.healthzPort,
  verbosity: runFlags.verbosity,
  logFormat: runFlags.logFormat,
};

/** As on the command line alone. */
function resolved<F extends Flags & typeof instanceFlags>(flags: F, given: GivenFlags) {
  const values = resolveFlags(flags, given, {});
  const { subnetFile } = values as FlagValues<typeof instanceFlags>;
  // up, and flanneld whose child it is, may be in another directory than the next command.
  if (!isAbsolute(subnetFile)) throw inputError('--subnet-file', subnetFile, 'an absolute path');
  return values;
}

/** Throws an input error for the first value that cannot be. */
function extensionOptions(values: FlagValues<typeof tunnelFlags>): ExtensionOptions {
  const ofRun = resolveFlags(runFlags, new Map(), {});
  const { port, directRouting, ...rest } = values;
  const { store, ...daemon } = daemonOptions({ ...ofRun, ...rest });
  validateDaemonOptions(resolveDaemonOptions({ store, ...daemon }));
  return { tunnel: { port, directRouting }, daemon };
}

/** Two data planes with the same text are the same. */
function settingsOf(values: FlagValues<typeof tunnelFlags>): string {
  return JSON.stringify([packageVersion(), values]);
}

const EXIT_CODES = `
Exit codes:
  0  done
  1  the machine or the data plane refused
  2  the input is wrong
`;

const upCommand: Command = {
  name: 'extension up',
  summary: 'PreStartupCommand: start the data plane in the background',
  description:
    'Starts a process that goes on when this one has ended, and prints what flanneld keeps as\nBackendData: the UDP port, which the other hosts compare with theirs. A data plane with the same\nflags that runs already stays, with its traffic; one with others is replaced. No device is made\nbefore post.',
  flags: tunnelFlags,
  footer: `
Example (in the network configuration):
  "PreStartupCommand": "/usr/bin/flannelette extension up --port=8285"
${EXIT_CODES}`,
  run: async (given, io, argv) => {
    const values = resolved(tunnelFlags, given);
    const { tunnel } = extensionOptions(values);
    const { subnetFile } = values;
    const there = await identify(subnetFile);
    if (there?.settings !== settingsOf(values)) {
      if (there !== undefined) await tell(subnetFile, 'down', { env: {}, data: '' });
      const program = [...process.execArgv, process.argv[1] ?? ''];
      await startInBackground(
        [process.execPath, ...program, 'extension', 'serve', ...argv],
        subnetFile,
      );
    }
    io.out(`${backendData(tunnel.port)}\n`);
    return ExitCode.ok;
  },
};

const serveCommand: Command = {
  name: 'extension serve',
  summary: 'the process that up leaves running, in the foreground',
  description:
    'The data plane itself, for a unit of its own: up with the same flags finds it running and leaves\nit so. Its log goes to standard error.',
  flags: tunnelFlags,
  footer: `
Example (a unit that starts before flanneld's and that a stop of flanneld does not end):
  ExecStart=/usr/bin/flannelette extension serve --port=8285
${EXIT_CODES}`,
  run: async (given, io) => {
    const values = resolved(tunnelFlags, given);
    const options = extensionOptions(values);
    const log = createLogger({ verbosity: values.verbosity, format: values.logFormat });
    const releaseProcess = logProcessEvents(log);
    // The other commands start without what a data plane loads.
    const { ExtensionDataPlane } = await import('../extension/data-plane.js');
    const stop = new AbortController();
    io.signals?.stopBy(stop, log);
    const plane = new ExtensionDataPlane(options, log);
    const server = new ControlServer(
      { pid: process.pid, settings: settingsOf(values) },
      {
        post: async ({ env }) => {
          const told = await plane.post(env);
          void giveStartBack(log);
          return told;
        },
        add: ({ env, data }) => plane.add(env, data),
        remove: ({ env }) => plane.remove(env),
        down: async () => {
          await plane.close();
          // The socket is gone before the answer is there: a new data plane can come at once.
          void server.close();
          stop.abort();
          return 'ended';
        },
      },
    );
    let code: ExitCode = ExitCode.failure;
    try {
      const path = extensionPaths(values.subnetFile).socket;
      await server.listen(path);
      reportStart();
      log.info({ socket: path, port: values.port }, 'waiting for the commands of flanneld');
      if (!stop.signal.aborted) await once(stop.signal, 'abort');
      code = ExitCode.ok;
    } catch (error) {
      reportStart(error);
      throw error;
    } finally {
      await plane.close();
      await server.close();
      releaseProcess();
      io.signals?.end(code);
    }
    return code;
  },
};

const ENVIRONMENT = {
  own: 'NETWORK, SUBNET and PUBLIC_IP of this host, as flanneld sets them.',
  other: 'SUBNET and PUBLIC_IP of the other host, as flanneld sets them.',
};

/** What flanneld sets; more is nobody's business. */
function variables({ NETWORK, SUBNET, PUBLIC_IP }: CliIo['env']): CliIo['env'] {
  return { NETWORK, SUBNET, PUBLIC_IP };
}

const postCommand: Command = {
  name: 'extension post',
  summary: 'PostStartupCommand: set the tunnel up for the subnet of this host',
  description:
    'Makes the TUN device, the route of the network and the socket, and ends once packets can travel.\nTold again, with the same subnet, traffic goes on: routes that flanneld does not add again are\nremoved once it has added nothing for a minute.',
  flags: instanceFlags,
  footer: `
Environment:
  ${ENVIRONMENT.own}

Example (in the network configuration):
  "PostStartupCommand": "/usr/bin/flannelette extension post"
${EXIT_CODES}`,
  run: async (given, io) => {
    const { subnetFile } = resolved(instanceFlags, given);
    io.out(`${await tell(subnetFile, 'post', { env: variables(io.env), data: '' })}\n`);
    return ExitCode.ok;
  },
};

const addCommand: Command = {
  name: 'extension add',
  summary: 'SubnetAddCommand: send packets for a subnet to its host',
  description:
    "Standard input is the other host's BackendData: another port or another data plane there is\nrefused.",
  flags: instanceFlags,
  footer: `
Environment:
  ${ENVIRONMENT.other}

Examples:
  "SubnetAddCommand": "/usr/bin/flannelette extension add"     (in the network configuration)
  SUBNET=100.96.2.0/24 PUBLIC_IP=10.168.0.3 flannelette extension add </dev/null
${EXIT_CODES}`,
  run: async (given, io) => {
    const { subnetFile } = resolved(instanceFlags, given);
    const data = (await io.input?.()) ?? '';
    io.out(`${await tell(subnetFile, 'add', { env: variables(io.env), data })}\n`);
    return ExitCode.ok;
  },
};

const removeCommand: Command = {
  name: 'extension remove',
  summary: 'SubnetRemoveCommand: send packets for a subnet nowhere',
  description: 'A subnet that was not there is no error. Standard input is not read.',
  flags: instanceFlags,
  footer: `
Environment:
  ${ENVIRONMENT.other}

Example (in the network configuration):
  "SubnetRemoveCommand": "/usr/bin/flannelette extension remove"
${EXIT_CODES}`,
  run: async (given, io) => {
    const { subnetFile } = resolved(instanceFlags, given);
    io.out(`${await tell(subnetFile, 'remove', { env: variables(io.env), data: '' })}\n`);
    return ExitCode.ok;
  },
};

const downCommand: Command = {
  name: 'extension down',
  summary: 'end the data plane and remove its device and routes',
  description:
    'flanneld runs no command when it ends: call this from what stops it, such as ExecStopPost= of its\nunit. No data plane is no error.',
  flags: instanceFlags,
  footer: `
Example (in flanneld's unit):
  ExecStopPost=/usr/bin/flannelette extension down
${EXIT_CODES}`,
  run: async (given, io) => {
    const { subnetFile } = resolved(instanceFlags, given);
    const there = await identify(subnetFile);
    const text =
      there === undefined ? 'no data plane' : await tell(subnetFile, 'down', { env: {}, data: '' });
    io.out(`${text}\n`);
    return ExitCode.ok;
  },
};

export const extensionGroup: CommandGroup = {
  name: 'extension',
  noun: 'command',
  summary: "flanneld's extension backend: up, post, add, remove, down; serve",
  description:
    'The commands with which a stock flanneld drives this data plane: Backend.Type extension in its\nnetwork configuration. flanneld keeps leases, store, subnet file and firewall rules; packets are\ncarried here.',
  commands: [upCommand, postCommand, addCommand, removeCommand, downCommand, serveCommand],
};
