/**
 * The lab's daemons: one real `flannelette run` process per host, on one lease file. Reservations in
 * it pin each host to the documents' subnet.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { requestJson } from '../daemon/client.js';
import { statusSocketPath, type DaemonMode } from '../daemon/options.js';
import type { DaemonStatus } from '../daemon/status.js';
import { systemError } from '../errors.js';
import { inNamespace, Program, waitFor } from './commands.js';
import { LAB_DIRECTORY, OVERLAY, type HostPlan } from './topology.js';

export const LEASE_FILE = join(LAB_DIRECTORY, 'leases.json');

/** UDP port of the tunnel. */
export const TUNNEL_PORT = 8285;

/** Writes the lease file: the configuration, and a reservation for each host. */
export async function writeLeaseFile(
  hosts: readonly HostPlan[],
  config: object = { Network: OVERLAY, Backend: { Type: 'udp', Port: TUNNEL_PORT } },
): Promise<void> {
  const leases = Object.fromEntries(
    hosts.map((plan) => [
      plan.subnet.replace('/', '-'),
      { PublicIP: plan.address, PublicIPv6: null },
    ]),
  );
  await writeFile(LEASE_FILE, `${JSON.stringify({ version: 1, config, leases }, null, 2)}\n`);
}

export interface DaemonSettings {
  /** The command that is flannelette, e.g. [node, main.js]. */
  readonly command: readonly string[];
  readonly mode: DaemonMode;
  /** More flags of `run`. */
  readonly flags?: readonly string[];
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

  /** Starts the daemon of a host; `ready` waits for it. */
  constructor(plan: HostPlan, settings: DaemonSettings) {
    this.plan = plan;
    this.subnetFile = subnetFileOf(plan);
    this.program = new Program(
      inNamespace(plan.host, [
        ...settings.command,
        'run',
        `--lease-file=${LEASE_FILE}`,
        '--iface=eth0',
        `--mode=${settings.mode}`,
        `--subnet-file=${this.subnetFile}`,
        ...(settings.flags ?? []),
      ]),
    );
  }

  /** Waits until the daemon forwards; its own words when it ends instead. */
  async ready(deadlineMs = 10_000): Promise<void> {
    await waitFor(`the daemon of ${this.plan.host}`, deadlineMs, async () => {
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

/** Starts a daemon per host and waits until all of them forward. */
export async function startDaemons(
  hosts: readonly HostPlan[],
  settings: DaemonSettings,
): Promise<DaemonProcess[]> {
  const daemons: DaemonProcess[] = [];
  try {
    for (const plan of hosts) {
      await mkdir(join(LAB_DIRECTORY, plan.host), { recursive: true });
      daemons.push(new DaemonProcess(plan, settings));
    }
    await Promise.all(daemons.map((daemon) => daemon.ready()));
    return daemons;
  } catch (error) {
    await Promise.allSettled(daemons.map((daemon) => daemon.program.stop()));
    throw error;
  }
}
