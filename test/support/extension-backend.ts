/**
 * flanneld's extension backend as v0.28 runs its commands (pkg/backend/extension): a line is split at
 * white space, $VAR and ${VAR} are expanded from flanneld's environment and the command's own, no shell
 * sees it; standard input is the data and a line feed; both output streams are read until they are
 * closed, and what they gave, trimmed, is the output.
 */
import { inNamespace, run } from '../../src/testbed/programs.js';
import { OVERLAY, type HostPlan } from '../../src/testbed/topology.js';
import { COMMAND } from './test-lab.js';

/** Backend of the network configuration, the same for all hosts. */
export interface Commands {
  readonly PreStartupCommand: string;
  readonly PostStartupCommand: string;
  readonly SubnetAddCommand: string;
  readonly SubnetRemoveCommand: string;
}

export interface Outcome {
  readonly code: number;
  readonly output: string;
}

const FLANNELETTE = COMMAND.join(' ');

/**
 * The hosts of a test share a file system, so each has an instance of its own: by a variable that
 * flanneld expands.
 */
export const INSTANCE = '/run/flannelette-lab/$HOST/extension.env';

export function commands(flags = ''): Commands {
  const command = (name: string, more = ''): string =>
    `${FLANNELETTE}  extension ${name}\t--subnet-file=${INSTANCE} ${more} `;
  return {
    PreStartupCommand: command('up', flags),
    PostStartupCommand: command('post'),
    SubnetAddCommand: command('add'),
    SubnetRemoveCommand: command('remove').replace('$HOST', '${HOST}'),
  };
}

export class ExtensionBackend {
  readonly plan: HostPlan;
  readonly #commands: Commands;
  /** What flanneld itself was started with. */
  readonly #environment: Readonly<Record<string, string>>;
  /** BackendData of this host's lease. */
  backendData = '';

  constructor(plan: HostPlan, by = commands(), environment: Readonly<Record<string, string>> = {}) {
    this.plan = plan;
    this.#commands = by;
    this.#environment = { HOST: plan.host, ...environment };
  }

  get subnetFile(): string {
    return INSTANCE.replace('$HOST', this.plan.host);
  }

  /** RegisterNetwork: flanneld ends when one of the two fails. */
  async register(subnet = this.plan.subnet): Promise<string> {
    this.backendData = await this.succeed(this.#commands.PreStartupCommand, {}, '');
    const { address } = this.plan;
    const env = { NETWORK: OVERLAY, SUBNET: subnet, PUBLIC_IP: address };
    const more = { IPV6SUBNET: '::/0', PUBLIC_IPV6: '<nil>' };
    return this.succeed(this.#commands.PostStartupCommand, { ...env, ...more }, '');
  }

  /** EventAdded of another host's lease. */
  add(other: ExtensionBackend): Promise<string> {
    const { SubnetAddCommand } = this.#commands;
    return this.succeed(SubnetAddCommand, leaseOf(other.plan), other.backendData);
  }

  /** EventRemoved. */
  remove(other: ExtensionBackend): Promise<string> {
    const { SubnetRemoveCommand } = this.#commands;
    return this.succeed(SubnetRemoveCommand, leaseOf(other.plan), other.backendData);
  }

  async succeed(line: string, env: Record<string, string>, data: string): Promise<string> {
    const { code, output } = await this.call(line, env, data);
    if (code !== 0) throw new Error(`${line} ended with ${code}: ${output}`);
    return output;
  }

  async call(line: string, env: Record<string, string>, data: string): Promise<Outcome> {
    const all = { ...this.#environment, ...env };
    const argv = line
      .split(/\s+/)
      .filter((word) => word !== '')
      .map((word) => expand(word, all));
    const pairs = Object.entries(all).map(([name, value]) => `${name}=${value}`);
    const options = { input: `${data}\n`, accept: [0, 1, 2], timeoutMs: 20_000 };
    const program = inNamespace(this.plan.host, ['env', ...pairs, ...argv]);
    const { code, stdout, stderr } = await run(program, options);
    return { code, output: `${stdout}${stderr}`.trim() };
  }

  /** A command by its name, with what this host is told of another, or of nothing. */
  extension(name: string, env: Record<string, string> = {}, data = ''): Promise<Outcome> {
    return this.call(`${FLANNELETTE} extension ${name} --subnet-file=${INSTANCE}`, env, data);
  }
}

export function leaseOf({ subnet, address }: HostPlan): Record<string, string> {
  return { SUBNET: subnet, PUBLIC_IP: address };
}

/** Go's os.Expand for the names that a configuration would use. */
function expand(word: string, env: Readonly<Record<string, string>>): string {
  return word.replaceAll(/\$(?:\{(\w+)\}|(\w+))/g, (_, braced?: string, bare?: string) => {
    return env[braced ?? bare ?? ''] ?? '';
  });
}
