/**
 * The lab's daemons: one real `flannelette run` process per host, on one store: the lease file, where
 * reservations pin each host to the documents' subnet, unless given another (src/lab/scenario/lab-store.ts).
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { requestJson } from '../daemon/status-client.js';
import { statusSocketPath, type DaemonMode } from '../daemon/options.js';
import type { DaemonStatus } from '../daemon/status.js';
import { systemError } from '../errors.js';
import { replaceFile } from '../host/atomic-file.js';
import { inNamespace, Program, waitFor } from './programs.js';
import { addContainer, LAB_DIRECTORY, OVERLAY, type HostPlan } from './topology.js';

export const LEASE_FILE = join(LAB_DIRECTORY, 'leases.json');

/** What makes a daemon use the lease file. */
export const LEASE_FILE_FLAGS: readonly string[] = [`--lease-file=${LEASE_FILE}`];

/** UDP port of the tunnel. */
export const TUNNEL_PORT = 8285;

/** The network's configuration, as an operator would write it. */
export const NETWORK_CONFIG = { Network: OVERLAY, Backend: { Type: 'udp', Port: TUNNEL_PORT } };

/** Writes the lease file: the configuration, and a reservation for each host. */
export async function writeLeaseFile(
  hosts: readonly HostPlan[],
  config: object = NETWORK_CONFIG,
  attributes: object = {},
  more: object = {},
): Promise<void> {
  const leases = Object.fromEntries(
    hosts.map((plan) => [
      plan.subnet.replace('/', '-'),
      { PublicIP: plan.address, PublicIPv6: null, ...attributes },
    ]),
  );
  await replaceFile(
    LEASE_FILE,
    `${JSON.stringify({ version: 1, config, leases: { ...leases, ...more } }, null, 2)}\n`,
  );
}

export interface DaemonSettings {
  /** The command that is flannelette, e.g. [node, main.js]. */
  readonly command: readonly string[];
  readonly mode: DaemonMode;
  /** Flags that name the store; default the lease file's. */
  readonly storeFlags?: readonly string[];
  /** More flags of `run`. */
  readonly flags?: readonly string[];
  /** Default subnetFileOf; another one for a second daemon of the host. */
  readonly subnetFile?: string;
  /** Milliseconds a daemon may take until it forwards; default 30,000. */
  readonly readyLimitMs?: number;
}

/** What subnet.env says, as Docker would be given it. */
export interface SubnetFile {
  readonly FLANNEL_NETWORK: string;
  readonly FLANNEL_SUBNET: string;
  readonly FLANNEL_MTU: string;
  readonly FLANNEL_IPMASQ: string;
}

export class DaemonProcess {
  readonly plan: HostPlan;
  readonly subnetFile: string;
  readonly program: Program;
  readonly #readyLimitMs: number;

  /** Starts the daemon of a host; `ready` waits for it. */
  constructor(plan: HostPlan, settings: DaemonSettings) {
    this.plan = plan;
    this.#readyLimitMs = settings.readyLimitMs ?? 30_000;
    this.subnetFile = settings.subnetFile ?? subnetFileOf(plan);
    this.program = new Program(
      inNamespace(plan.host, [
        ...settings.command,
        'run',
        ...(settings.storeFlags ?? LEASE_FILE_FLAGS),
        '--iface=eth0',
        // A namespace just made has an empty firewall, which accepts everything.
        '--iptables-forward-rules=false',
        `--mode=${settings.mode}`,
        `--subnet-file=${this.subnetFile}`,
        ...(settings.flags ?? []),
      ]),
    );
  }

  /** Waits until the daemon forwards; its own words when it ends instead. */
  async ready(): Promise<void> {
    await waitFor(`the daemon of ${this.plan.host}`, this.#readyLimitMs, async () => {
      if (!this.program.running) throw this.#ended(await this.program.ended);
      const status = await this.status().catch(() => undefined);
      return status?.ready === true ? true : undefined;
    });
  }

  /** Resolves when the daemon has ended, for whatever cause, with its own words as the reason. */
  async ended(): Promise<Error> {
    return this.#ended(await this.program.ended);
  }

  async status(): Promise<DaemonStatus> {
    return (await requestJson(statusSocketPath(this.subnetFile), '/status', 2_000)) as DaemonStatus;
  }

  /** Lets it go on in another mode; it has when this resolves. */
  async changeMode(mode: DaemonMode): Promise<void> {
    await requestJson(statusSocketPath(this.subnetFile), `/mode/${mode}`, 2_000, { method: 'PUT' });
  }

  async readSubnetFile(): Promise<SubnetFile> {
    const lines = (await readFile(this.subnetFile, 'utf8')).trim().split('\n');
    const pairs = lines.map((line) => [
      line.slice(0, line.indexOf('=')),
      line.slice(line.indexOf('=') + 1),
    ]);
    return Object.fromEntries(pairs) as SubnetFile;
  }

  /** Asks it to end; throws when it does not end well. */
  async stop(): Promise<void> {
    const code = await this.program.stop();
    if (code !== 0) throw this.#ended(code);
  }

  #ended(code: number): Error {
    const said = lastWords(this.program.stderr);
    return systemError(
      `the daemon of ${this.plan.host} ended with code ${code}${said === '' ? '' : `: ${said}`}`,
    );
  }
}

/** pino's level of an error. */
const LEVEL_ERROR = 50;

/** What a daemon said about its end: its last plain lines and errors of its log, not its news. */
export function lastWords(stderr: string): string {
  const lines = stderr.split('\n').flatMap((line) => {
    if (!line.startsWith('{')) return line.trim();
    try {
      const { level, msg } = JSON.parse(line) as { level?: unknown; msg?: unknown };
      return typeof level === 'number' && level >= LEVEL_ERROR && typeof msg === 'string'
        ? msg
        : [];
    } catch {
      // The first line kept of a long log may be cut.
      return [];
    }
  });
  return lines
    .filter((line) => line !== '')
    .slice(-3)
    .join('; ');
}

export function subnetFileOf(plan: HostPlan): string {
  return join(LAB_DIRECTORY, plan.host, 'subnet.env');
}

/** Starts a daemon per host, with the same settings or its own, and waits until all of them forward. */
export async function startDaemons(
  hosts: readonly HostPlan[],
  settings: DaemonSettings | ((plan: HostPlan) => DaemonSettings),
): Promise<DaemonProcess[]> {
  const daemons: DaemonProcess[] = [];
  try {
    for (const plan of hosts) {
      await mkdir(join(LAB_DIRECTORY, plan.host), { recursive: true });
      const own = typeof settings === 'function' ? settings(plan) : settings;
      daemons.push(new DaemonProcess(plan, own));
    }
    await Promise.all(daemons.map((daemon) => daemon.ready()));
    return daemons;
  } catch (error) {
    await Promise.allSettled(daemons.map((daemon) => daemon.program.stop()));
    throw error;
  }
}

/**
 * Gives a host the docker0 and container its subnet.env asks for, which must be the documents';
 * returns the overlay's MTU.
 */
export async function attachContainer(daemon: DaemonProcess): Promise<number> {
  const { plan } = daemon;
  const env = await daemon.readSubnetFile();
  const expected = `${plan.bridgeAddress}/24`;
  if (env.FLANNEL_SUBNET !== expected) {
    throw systemError(
      `${plan.host} was given FLANNEL_SUBNET=${env.FLANNEL_SUBNET}, expected ${expected}`,
    );
  }
  const mtu = Number(env.FLANNEL_MTU);
  await addContainer(plan, env.FLANNEL_SUBNET, mtu);
  return mtu;
}

/** Aborts when asked to stop and when one of the programs ends, each with its reason. */
export function endedEarly(
  programs: readonly { ended(): Promise<Error> }[],
  stop: AbortSignal,
): AbortSignal {
  const controller = new AbortController();
  const follow = (): void => {
    controller.abort(stop.reason);
  };
  if (stop.aborted) follow();
  stop.addEventListener('abort', follow, { once: true });
  for (const program of programs) {
    void program.ended().then((reason) => {
      controller.abort(reason);
    });
  }
  return controller.signal;
}
