/**
 * A container runtime as far as CNI goes (specification 0.3.1): reads the first list of a directory and
 * runs its plugins on the network namespace of a pod, in order to add and backwards to delete.
 *
 * Hosts share the file system here, so plugins run in a mount namespace where /run/flannel and
 * /var/lib/cni are the host's own.
 */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ipBatch, LAB_DIRECTORY, type HostPlan } from '../../src/testbed/topology.js';

interface Plugin {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
}

interface List {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly Plugin[];
}

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp';
}

/** The fields of a plugin's answer that tests read. */
export interface Added {
  readonly interfaces: readonly { readonly name: string; readonly sandbox?: string }[];
  readonly ips: readonly { readonly address: string; readonly gateway?: string }[];
}

const ISOLATE =
  'mount -t tmpfs none /var/lib; mkdir -p /var/lib/cni /run/flannel; ' +
  'mount --bind "$1/cni" /var/lib/cni; mount --bind "$1" /run/flannel; shift; exec "$@"';

export class CniRuntime {
  readonly plan: HostPlan;
  readonly #binDir: string;
  readonly #pods = new Map<
    string,
    { readonly ports: readonly PortMapping[]; readonly result: unknown }
  >();

  constructor(plan: HostPlan, binDir: string) {
    this.plan = plan;
    this.#binDir = binDir;
  }

  /** /run/flannel of the host. */
  get directory(): string {
    return join(LAB_DIRECTORY, this.plan.host);
  }

  get confDir(): string {
    return join(this.directory, 'net.d');
  }

  /** Addresses that host-local has given out. */
  async reserved(): Promise<string[]> {
    const { name } = await this.#list();
    const files = await readdir(join(this.directory, 'cni', 'networks', name));
    return files.filter((file) => /^[\d.]+$/.test(file)).sort();
  }

  /** A pod: its network namespace, lo by the loopback plugin, eth0 by the list. */
  async add(pod: string, ports: readonly PortMapping[] = []): Promise<Added> {
    await mkdir(join(this.directory, 'cni'), { recursive: true });
    await ipBatch(undefined, [`netns add ${pod}`]);
    const loopback = { cniVersion: '0.3.1', name: 'lo', type: 'loopback' };
    await this.#run('loopback', loopback, 'ADD', pod, 'lo');
    const { plugins, ...list } = await this.#list();
    let result: unknown;
    for (const plugin of plugins) {
      const input = { ...plugin, ...list, ...runtimeConfig(plugin, ports), prevResult: result };
      result = await this.#run(plugin.type, input, 'ADD', pod, 'eth0');
    }
    this.#pods.set(pod, { ports, result });
    return result as Added;
  }

  async delete(pod: string): Promise<void> {
    const known = this.#pods.get(pod);
    if (known === undefined) throw new Error(`${this.plan.host} has no pod ${pod}`);
    this.#pods.delete(pod);
    const { plugins, ...list } = await this.#list();
    for (const plugin of [...plugins].reverse()) {
      const config = runtimeConfig(plugin, known.ports);
      const input = { ...plugin, ...list, ...config, prevResult: known.result };
      await this.#run(plugin.type, input, 'DEL', pod, 'eth0');
    }
    await ipBatch(undefined, [`netns delete ${pod}`]);
  }

  async deleteAll(): Promise<void> {
    for (const pod of [...this.#pods.keys()]) await this.delete(pod);
  }

  async #list(): Promise<List> {
    const [first = ''] = (await readdir(this.confDir)).sort();
    return JSON.parse(await readFile(join(this.confDir, first), 'utf8')) as List;
  }

  async #run(
    plugin: string,
    input: object,
    command: 'ADD' | 'DEL',
    pod: string,
    ifname: string,
  ): Promise<unknown> {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: `${this.plan.host}-${pod}`,
      CNI_NETNS: `/run/netns/${pod}`,
      CNI_IFNAME: ifname,
      CNI_PATH: this.#binDir,
    };
    const pairs = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const isolated = ['unshare', '--mount', 'sh', '-ec', ISOLATE, 'sh', this.directory];
    const argv = [...isolated, 'env', ...pairs, join(this.#binDir, plugin)];
    const program = inNamespace(this.plan.host, argv);
    const { code, stdout } = await run(program, { input: JSON.stringify(input), accept: [0, 1] });
    if (code !== 0) throw new Error(`${plugin} ${command} of ${pod}: ${stdout}`);
    return stdout.trim() === '' ? undefined : (JSON.parse(stdout) as unknown);
  }
}

function runtimeConfig(plugin: Plugin, ports: readonly PortMapping[]): object {
  if (plugin.capabilities?.['portMappings'] !== true || ports.length === 0) return {};
  return { runtimeConfig: { portMappings: ports } };
}
