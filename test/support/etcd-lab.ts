/**
 * Two hosts on a real etcd, as an operator has them: the store is where the documents' gateway is,
 * and each daemon is told only where that is.
 *
 *        host-1 10.168.0.2            host-2 10.168.0.3          no containers: traffic goes
 *      flannel0 100.96.1.0          flannel0 100.96.2.0          between the ends of the tunnel
 *              `------ br0 10.168.0.1 ------'
 *                   etcd, the tests
 *
 * A test starts its daemons; `reset` ends them and leaves an empty etcd for the next one.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Etcd3, IKeyValue } from 'etcd3';
import type { Readiness } from '../../src/daemon/reporter.js';
import type { DaemonStatus } from '../../src/daemon/status.js';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { lastWords } from '../../src/testbed/daemon-process.js';
import { GATEWAY, LAB_DIRECTORY, type HostPlan } from '../../src/testbed/topology.js';
import { PingStream } from '../../src/testbed/traffic.js';
import { etcdClient } from './etcd.js';
import { askDaemon, COMMAND, TestLab } from './test-lab.js';

const PORT = 2379;
export const ENDPOINT = `http://${GATEWAY}:${PORT}`;
export const PREFIX = '/coreos.com/network';
/** The documents' network. */
export const CONFIG: object = { Network: '100.96.0.0/16', Backend: { Type: 'udp', Port: 8285 } };

async function startEtcd(): Promise<EtcdServer> {
  const directory = join(LAB_DIRECTORY, 'etcd');
  await rm(directory, { recursive: true, force: true });
  return EtcdServer.start({ directory, address: GATEWAY, port: PORT });
}

/** An etcd at the switch's address with the documents' network and a reservation for each host. */
export async function startEtcdFor(hosts: readonly HostPlan[]): Promise<EtcdServer> {
  const server = await startEtcd();
  const client = etcdClient(server);
  await client.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
  for (const { subnet, address } of hosts) {
    const key = `${PREFIX}/subnets/${subnet.replace('/', '-')}`;
    await client.put(key).value(JSON.stringify({ PublicIP: address }));
  }
  client.close();
  return server;
}

export interface StartOptions {
  /** More flags of `run`. */
  readonly flags?: readonly string[];
  /** Instead of the flags that a daemon is otherwise given. */
  readonly onlyFlags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly subnetFile?: string;
  /** FLANNEL_SUBNET of an earlier run; that of the plan unless told, none when null. */
  readonly earlier?: string | null;
}

export class EtcdLab {
  readonly #lab: TestLab;
  readonly #server: EtcdServer;
  #client: Etcd3;
  #storeKilled = false;
  #daemons: EtcdDaemon[] = [];
  #programs: Program[] = [];
  #streams = new AbortController();

  private constructor(lab: TestLab, server: EtcdServer) {
    this.#lab = lab;
    this.#server = server;
    this.#client = etcdClient(server);
  }

  static async setUp(): Promise<EtcdLab> {
    const lab = await TestLab.bare(2);
    try {
      return new EtcdLab(lab, await startEtcd());
    } catch (error) {
      await lab.tearDown();
      throw error;
    }
  }

  /** The tests' own way to the store. */
  get client(): Etcd3 {
    return this.#client;
  }
  get near(): HostPlan {
    return this.#lab.near;
  }
  get far(): HostPlan {
    return this.#lab.far;
  }

  async configure(config: object = CONFIG): Promise<void> {
    await this.client.put(`${PREFIX}/config`).value(JSON.stringify(config));
  }

  /** Starts a daemon; whoever needs it forwarding waits for `ready`. */
  async start(plan: HostPlan, options: StartOptions = {}): Promise<EtcdDaemon> {
    const subnetFile = options.subnetFile ?? subnetFileOf(plan);
    const earlier = options.earlier === undefined ? `${plan.bridgeAddress}/24` : options.earlier;
    if (earlier !== null && options.subnetFile === undefined) {
      // As its last run would have left it; what a run in the same test left comes first.
      await mkdir(dirname(subnetFile), { recursive: true });
      await writeFile(subnetFile, `FLANNEL_SUBNET=${earlier}\n`, { flag: 'wx' }).catch(
        () => undefined,
      );
    }
    const daemon = new EtcdDaemon(plan, subnetFile, options);
    this.#daemons.push(daemon);
    return daemon;
  }

  /** Both hosts' daemons, forwarding. */
  async startBoth(options: StartOptions = {}): Promise<{ near: EtcdDaemon; far: EtcdDaemon }> {
    const near = await this.start(this.near, options);
    const far = await this.start(this.far, options);
    await Promise.all([near.ready(), far.ready()]);
    await this.reaches(this.near, this.far.tunAddress);
    return { near, far };
  }

  /** etcd is there and says nothing: connections stay open. */
  freezeStore(): void {
    this.#server.freeze();
  }

  thawStore(): void {
    this.#server.thaw();
    this.#reconnect();
  }

  /** etcd is gone: connections are refused. */
  async killStore(): Promise<void> {
    this.#storeKilled = true;
    await this.#server.kill();
  }

  /** Starts a killed etcd again, on what it held. */
  async restoreStore(): Promise<void> {
    if (!this.#storeKilled) return;
    await this.#server.restart();
    this.#storeKilled = false;
    this.#reconnect();
  }

  /** A lease's key as it is in etcd. */
  async stored(subnet: string): Promise<IKeyValue | undefined> {
    const { kvs } = await this.client.get(leaseKey(subnet)).exec();
    return kvs[0];
  }

  /** Names of the leases there are, e.g. 100.96.1.0-24. */
  async leases(): Promise<string[]> {
    const prefix = leaseKey('');
    const keys = await this.client.getAll().prefix(prefix).keys();
    return keys.map((key) => key.slice(prefix.length));
  }

  /** Writes a lease without a grant; `value` is the PublicIP, or the whole value. */
  async putLease(subnet: string, value: string): Promise<void> {
    const text = /^[\d.]+$/.test(value) ? attributes(value) : value;
    await this.client.put(leaseKey(subnet)).value(text);
  }

  async deleteLease(subnet: string): Promise<void> {
    await this.client.delete().key(leaseKey(subnet));
  }

  /** Waits until a ping from a host gets through. */
  async reaches(from: HostPlan, address: string, deadlineMs = 5_000): Promise<void> {
    await waitFor(`a ping from ${from.host} to ${address}`, deadlineMs, async () => {
      const argv = inNamespace(from.host, ['ping', '-q', '-n', '-c1', '-W1', address]);
      return (await run(argv, { accept: [0, 1, 2] })).code === 0 ? true : undefined;
    });
  }

  /** A ping each 10 ms from a host's end of the tunnel until it is asked what came back. */
  stream(from: HostPlan, address: string): PingStream {
    const { signal } = this.#streams;
    return new PingStream(from, address, { intervalSeconds: 0.01, namespace: from.host, signal });
  }

  /** A program in a host's namespace that ends with the test. */
  program(plan: HostPlan, argv: readonly string[]): Program {
    const program = new Program(inNamespace(plan.host, argv));
    this.#programs.push(program);
    return program;
  }

  /** Ends what a test started; etcd is empty afterwards, also when the test stopped it. */
  async reset(): Promise<void> {
    const programs = [...this.#daemons.map(({ program }) => program), ...this.#programs];
    this.#daemons = [];
    this.#programs = [];
    this.#streams.abort();
    this.#streams = new AbortController();
    await Promise.all(programs.map((program) => program.stop()));
    this.thawStore();
    await this.restoreStore();
    await this.client.delete().all();
    for (const plan of [this.near, this.far]) {
      await rm(join(LAB_DIRECTORY, plan.host), { recursive: true, force: true });
      await run(inNamespace(plan.host, ['nft', 'flush', 'ruleset']));
    }
  }

  async tearDown(): Promise<void> {
    this.#client.close();
    await this.#server.stop();
    await this.#lab.tearDown();
  }

  /** A client that has seen its server fail refuses for a while to try again. */
  #reconnect(): void {
    this.#client.close();
    this.#client = etcdClient(this.#server);
  }
}

/** One `flannelette run` in a host's namespace. */
export class EtcdDaemon {
  readonly plan: HostPlan;
  readonly subnetFile: string;
  readonly program: Program;

  constructor(plan: HostPlan, subnetFile: string, options: StartOptions) {
    this.plan = plan;
    this.subnetFile = subnetFile;
    const flags = options.onlyFlags ?? [
      `--etcd-endpoints=${ENDPOINT}`,
      '--iface=eth0',
      `--subnet-file=${subnetFile}`,
      ...(options.flags ?? []),
    ];
    const env = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`);
    const argv = [...(env.length === 0 ? [] : ['env', ...env]), ...COMMAND, 'run', ...flags];
    this.program = new Program(inNamespace(plan.host, argv));
  }

  async ready(deadlineMs = 15_000): Promise<void> {
    await this.until('ready', deadlineMs, async () => (await this.readyz()).code === 200);
  }

  /** Waits for a condition; the daemon's own words when it ends instead. */
  async until(
    what: string,
    deadlineMs: number,
    holds: () => Promise<boolean> | boolean,
  ): Promise<void> {
    await this.#wait(what, deadlineMs, async () => {
      if (!this.program.running) throw new Error(`it ended: ${lastWords(this.program.stderr)}`);
      return (await Promise.resolve(holds()).catch(notAnswering)) ? true : undefined;
    });
  }

  /** Until a line of the log has this message; the line. */
  async logged(message: string, deadlineMs = 5_000): Promise<Record<string, unknown>> {
    return this.#wait(`the log line "${message}"`, deadlineMs, () =>
      this.log().findLast(({ msg }) => msg === message),
    );
  }

  /** Says with its failure what the daemon logged last. */
  async #wait<T>(
    what: string,
    deadlineMs: number,
    probe: Parameters<typeof waitFor<T>>[2],
  ): Promise<T> {
    try {
      return await waitFor(`${this.plan.host}: ${what}`, deadlineMs, probe);
    } catch (error) {
      throw new Error(`${String(error)}\n${this.program.stderr.slice(-3_000)}`, { cause: error });
    }
  }

  log(): Record<string, unknown>[] {
    return this.program.stderr.split('\n').flatMap((line) => {
      try {
        return [JSON.parse(line) as Record<string, unknown>];
      } catch {
        return [];
      }
    });
  }

  async status(): Promise<DaemonStatus> {
    return JSON.parse((await this.get('/status')).body) as DaemonStatus;
  }

  async readyz(): Promise<{ code: number; detail: Readiness }> {
    const { code, body } = await this.get('/readyz');
    return { code, detail: JSON.parse(body) as Readiness };
  }

  /** The value of a metric without labels. */
  async metric(name: string): Promise<number> {
    const { body } = await this.get('/metrics');
    const line = new RegExp(`^flannelette_${name} (\\S+)$`, 'm').exec(body);
    return Number(line?.[1]);
  }

  async subnetEnv(): Promise<string> {
    return readFile(this.subnetFile, 'utf8');
  }

  /** Ends it by SIGTERM: its exit code and how long that took. */
  async terminate(): Promise<{ code: number; ms: number }> {
    const started = performance.now();
    const code = await this.program.stop(10_000);
    return { code, ms: performance.now() - started };
  }

  /** Over the unix socket, which network namespaces share. */
  get(path: string): Promise<{ code: number; body: string }> {
    return askDaemon(this.subnetFile, path);
  }
}

export function leaseKey(subnet: string): string {
  return `${PREFIX}/subnets/${subnet.replace('/', '-')}`;
}

/** What flanneld's udp backend writes as a lease's value, to the byte. */
export function attributes(publicIp: string): string {
  return `{"PublicIP":"${publicIp}","PublicIPv6":null}`;
}

export function subnetFileOf(plan: HostPlan): string {
  return join(LAB_DIRECTORY, plan.host, 'subnet.env');
}

function notAnswering(): false {
  return false;
}
