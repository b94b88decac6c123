/**
 * Where the soak happens: the documents' two hosts on a real etcd, with 200 other hosts that are only
 * leases, and load between the containers.
 *
 *   container-1 -- host-1: one daemon from beginning to end; modes, links and leases change around it
 *   container-2 -- host-2: a daemon that is replaced again and again
 */
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, systemError } from '../../src/errors.js';
import { replaceFile } from '../../src/host/atomic-file.js';
import { EtcdClient } from '../../src/lease/etcd/etcd-client.js';
import { NO_GRANT } from '../../src/lease/etcd/own-lease.js';
import type { DaemonMode } from '../../src/daemon/options.js';
import {
  attachContainer,
  DaemonProcess,
  NETWORK_CONFIG,
  startDaemons,
  subnetFileOf,
  type DaemonSettings,
} from '../../src/testbed/daemon-process.js';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import { memoryOf, treeOf } from '../../src/testbed/proc.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import {
  addHost,
  buildSwitch,
  GATEWAY,
  hostPlan,
  LAB_DIRECTORY,
  type HostPlan,
} from '../../src/testbed/topology.js';
import { IperfTarget, type TcpResult, type UdpResult } from '../../src/testbed/traffic.js';
import { FLANNELETTE } from '../frame/machine.js';
import { xorshift32 } from '../frame/stats.js';
import { longestSilence, readAnswers } from './silence.js';
import type { Ending, Sample } from './observed.js';

const ETCD_PORT = 2379;
const PREFIX = '/coreos.com/network';
/** The third part of the subnets of hosts that are only leases. */
const OTHERS = Array.from({ length: 200 }, (_, index) => index + 16);
/** Changes of their leases a second. */
const FLAPS = 20;
const CONNECTIONS = 4;
const DATAGRAM_BYTES = 200;
const PING_SECONDS = 0.05;
/** How long a fault may hinder the daemons themselves: until both are ready, with every route. */
const RECOVERY_MS = 40_000;
/** For the next start of a daemon. */
const KEPT_FILES = ['subnet.env', 'subnet.env.leases.json'];
/** A call of etcd ends by itself. */
const NEVER = new AbortController().signal;

export interface Load {
  /** Mbit/s of TCP. */
  readonly tcp: number;
  /** Datagrams a second. */
  readonly udp: number;
  readonly minutes: number;
}

export class Stage {
  readonly near: HostPlan;
  readonly etcd: EtcdServer;
  readonly #far: HostPlan;
  readonly #client: EtcdClient;
  readonly #settings: DaemonSettings;
  readonly #nearDaemon: DaemonProcess;
  #farDaemon: DaemonProcess;
  readonly #pings: Program;
  readonly #stop = new AbortController();
  readonly #tcp: Promise<TcpResult | undefined>;
  readonly #udp: Promise<UdpResult | undefined>;
  readonly #broken: string[] = [];
  readonly #flapping: Promise<void>;
  #standStill = false;
  /** Leases of the others that are there, as far as etcd has confirmed. */
  readonly #leases = new Set<number>();
  #replaced = 0;

  static async setUp(load: Load): Promise<Stage> {
    const [near, far] = [hostPlan(1), hostPlan(2)];
    await buildSwitch();
    for (const plan of [near, far]) {
      await addHost(plan);
      // As its last run would have left it: it takes that subnet again.
      await replaceFile(subnetFileOf(plan), `FLANNEL_SUBNET=${plan.bridgeAddress}/24\n`);
    }
    const etcd = await EtcdServer.start({
      directory: LAB_DIRECTORY,
      address: GATEWAY,
      port: ETCD_PORT,
    });
    const { endpoint } = etcd;
    const client = new EtcdClient(
      { endpoints: [endpoint], prefix: PREFIX },
      { location: endpoint },
    );
    await client.put(`${PREFIX}/config`, JSON.stringify(NETWORK_CONFIG), NO_GRANT, NEVER);
    const settings: DaemonSettings = {
      command: FLANNELETTE,
      mode: 'offload',
      storeFlags: [`--etcd-endpoints=${endpoint}`],
      flags: ['--ip-masq'],
    };
    const [nearDaemon, farDaemon] = await startDaemons([near, far], settings);
    if (nearDaemon === undefined || farDaemon === undefined) throw systemError('no daemons');
    for (const daemon of [nearDaemon, farDaemon]) await attachContainer(daemon);
    return new Stage(near, far, etcd, client, settings, nearDaemon, farDaemon, load);
  }

  private constructor(
    near: HostPlan,
    far: HostPlan,
    etcd: EtcdServer,
    client: EtcdClient,
    settings: DaemonSettings,
    nearDaemon: DaemonProcess,
    farDaemon: DaemonProcess,
    load: Load,
  ) {
    this.near = near;
    this.#far = far;
    this.etcd = etcd;
    this.#client = client;
    this.#settings = settings;
    this.#nearDaemon = nearDaemon;
    this.#farDaemon = farDaemon;
    const argv = ['ping', '-n', '-D', '-i', String(PING_SECONDS), far.containerAddress];
    this.#pings = new Program(inNamespace(near.container, argv));
    // The last fault may begin when the time is up.
    const seconds = load.minutes * 60 + 60;
    const target = new IperfTarget(far);
    this.#tcp = this.#flow(
      'TCP',
      target.tcp(near, {
        seconds,
        streams: CONNECTIONS,
        bitsPerSecond: (load.tcp * 1e6) / CONNECTIONS,
      }),
    );
    this.#udp = this.#flow(
      'UDP',
      target.udp(near, {
        seconds,
        bytes: DATAGRAM_BYTES,
        bitsPerSecond: load.udp * DATAGRAM_BYTES * 8,
        port: 5202,
      }),
    );
    this.#flapping = this.#flap();
  }

  /** Causes a fault, and waits until both daemons forward as before. */
  async tryFault(
    cause: (stage: Stage) => Promise<void>,
  ): Promise<{ silenceSeconds: number; problem: string | undefined }> {
    const from = Date.now() / 1_000;
    const problem = await this.#caused(cause).catch(messageOf);
    const to = Date.now() / 1_000;
    return { silenceSeconds: longestSilence(readAnswers(this.#pings.stdout), from, to), problem };
  }

  async changeModes(mode: DaemonMode): Promise<void> {
    for (const daemon of [this.#nearDaemon, this.#farDaemon]) await daemon.changeMode(mode);
  }

  async takeOver(): Promise<void> {
    const before = this.#farDaemon;
    this.#farDaemon = this.#startFar(['--takeover']);
    await this.#answering();
    const code = await before.program.ended;
    if (code !== 0) throw systemError(`the daemon before ended with code ${code}`);
  }

  async restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const { program } = this.#farDaemon;
    program.kill(signal);
    const code = await program.ended;
    if (signal === 'SIGTERM' && code !== 0) throw systemError(`SIGTERM ended it with code ${code}`);
    this.#farDaemon = this.#startFar([]);
    await this.#answering();
  }

  /** Makes etcd forget every change up to now. */
  async compact(): Promise<void> {
    const { header } = await this.#client.get(`${PREFIX}/config`, NEVER);
    const argv = [
      'etcdctl',
      `--endpoints=${this.etcd.endpoint}`,
      'compact',
      String(header.revision),
    ];
    await run(argv);
  }

  /** The others' leases stand still, until both hosts' routes are exactly the leases. */
  async settleLeases(): Promise<void> {
    this.#standStill = true;
    try {
      await delay(1_000);
      await this.#readLeases();
      for (const daemon of [this.#nearDaemon, this.#farDaemon]) {
        const peer = daemon === this.#nearDaemon ? this.#far : this.near;
        const expected = [...this.#leases].map(subnetOf).concat(peer.subnet);
        let difference: string[] = [];
        await waitFor(`the routes of ${daemon.plan.host}`, RECOVERY_MS, async () => {
          const found = (await daemon.status()).routes.map(({ subnet }) => subnet);
          difference = [
            ...expected.filter((subnet) => !found.includes(subnet)).map((one) => `no ${one}`),
            ...found.filter((subnet) => !expected.includes(subnet)).map((one) => `still ${one}`),
          ];
          return difference.length === 0 || undefined;
        }).catch((error: unknown) => {
          throw systemError(`${messageOf(error)}: ${difference.slice(0, 5).join(', ')}`);
        });
      }
    } finally {
      this.#standStill = false;
    }
  }

  /** Of both daemons now; none of one that is being replaced. */
  async sample(at: number): Promise<Sample[]> {
    const taken = [this.#nearDaemon, this.#farDaemon].map(async (daemon) => {
      const { pid } = daemon.program;
      try {
        if (pid === undefined) return [];
        const [{ rss }, descriptors, threads] = await Promise.all([
          memoryOf(pid),
          readdir(`/proc/${pid}/fd`),
          readdir(`/proc/${pid}/task`),
        ]);
        const { uptimeSeconds, mode, ready, dataPlane } = await daemon.status();
        return [
          {
            at,
            host: daemon.plan.host,
            pid,
            uptimeSeconds,
            mode,
            ready,
            rss,
            descriptors: descriptors.length,
            threads: threads.length,
            packets: sum(
              dataPlane?.threads.map(
                ({ sentPackets, kernelPackets }) => sentPackets + kernelPackets,
              ),
            ),
            drops: sum(dataPlane?.threads.flatMap(({ drops }) => Object.values(drops))),
            dataPlaneRestarts: dataPlane?.restarts ?? 0,
          },
        ];
      } catch {
        return [];
      }
    });
    return (await Promise.all(taken)).flat();
  }

  /** Waits for the load to end, ends everything else, and looks at what is left. */
  async tearDown(): Promise<Ending> {
    const tcp = await this.#tcp;
    const udp = await this.#udp;
    this.#stop.abort();
    await this.#flapping;
    this.#pings.kill('SIGINT');
    await this.#pings.ended;
    const transmitted = /(\d+) packets transmitted, (\d+) received/.exec(this.#pings.stdout);
    const codes: number[] = [];
    for (const daemon of [this.#nearDaemon, this.#farDaemon]) {
      codes.push(await daemon.program.stop(10_000));
    }
    const left = [...(await this.#leftBehind(this.near)), ...(await this.#leftBehind(this.#far))];
    this.#client.close();
    await this.etcd.stop();
    left.push(...(await programs()));
    return {
      tcp: tcp === undefined ? undefined : { connections: CONNECTIONS, ...tcp },
      udp: udp === undefined ? undefined : { sent: udp.sentPackets, arrived: udp.arrivedPackets },
      pings: { sent: Number(transmitted?.[1]), received: Number(transmitted?.[2]) },
      broken: this.#broken,
      replaced: this.#replaced,
      codes,
      left,
    };
  }

  async #caused(cause: (stage: Stage) => Promise<void>): Promise<undefined> {
    await cause(this);
    await waitFor('both daemons, ready', RECOVERY_MS, async () => {
      const both = [this.#nearDaemon, this.#farDaemon];
      const states = await Promise.all(
        both.map((daemon) => daemon.status().catch(() => undefined)),
      );
      return states.every((status) => status?.ready === true) || undefined;
    });
    await waitFor('an answered ping', RECOVERY_MS, () => {
      const [last = 0] = readAnswers(this.#pings.stdout.slice(-1_000)).slice(-1);
      return Date.now() / 1_000 - last < 5 * PING_SECONDS || undefined;
    });
    // A ping that is answered, and then silence, would not be back.
    await delay(2_000);
  }

  #startFar(flags: readonly string[]): DaemonProcess {
    this.#replaced += 1;
    const settings = { ...this.#settings, flags: [...(this.#settings.flags ?? []), ...flags] };
    return new DaemonProcess(this.#far, settings);
  }

  /** Waits until it is the new daemon of host-2 that answers, ready. */
  async #answering(): Promise<void> {
    const daemon = this.#farDaemon;
    await waitFor('the new daemon of host-2', RECOVERY_MS, async () => {
      if (!daemon.program.running) throw await daemon.ended();
      const status = await daemon.status().catch(() => undefined);
      return (status?.pid === daemon.program.pid && status?.ready) || undefined;
    });
  }

  /** A load that breaks before its end has lost its connection. */
  #flow<T>(what: string, load: Promise<T>): Promise<T | undefined> {
    return load.catch((error: unknown) => {
      this.#broken.push(`${what}: ${messageOf(error)}`);
      return undefined;
    });
  }

  /** Leases of hosts that are not there come and go, until the stop. */
  async #flap(): Promise<void> {
    const random = xorshift32(1);
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await delay(1_000 / FLAPS);
      if (this.#standStill) continue;
      const other = OTHERS[random() % OTHERS.length] ?? 0;
      const key = `${PREFIX}/subnets/${subnetOf(other).replace('/', '-')}`;
      const value = `{"PublicIP":"10.168.0.${other}","PublicIPv6":null}`;
      try {
        if (this.#leases.has(other)) await this.#client.delete(key, signal);
        else await this.#client.put(key, value, NO_GRANT, signal);
      } catch {
        // etcd is away; what it did is not known, and the next round finds out.
        await this.#readLeases().catch(() => undefined);
        continue;
      }
      if (!this.#leases.delete(other)) this.#leases.add(other);
    }
  }

  async #readLeases(): Promise<void> {
    const found: number[] = [];
    const take = ({ key }: { key: Buffer }): void => {
      found.push(Number(/\/100\.96\.(\d+)\.0-24$/.exec(key.toString())?.[1]));
    };
    await this.#client.list(`${PREFIX}/subnets/`, take, this.#stop.signal);
    this.#leases.clear();
    for (const other of found) if (OTHERS.includes(other)) this.#leases.add(other);
  }

  /** What a daemon that ended by SIGTERM must not leave on its host. */
  async #leftBehind(plan: HostPlan): Promise<string[]> {
    const ask = async (...argv: string[]): Promise<string[]> =>
      (await run(inNamespace(plan.host, argv))).stdout.split('\n').filter((line) => line !== '');
    const links = await ask('ip', '-o', 'link', 'show', 'type', 'tun');
    const routes = (await ask('ip', '-4', 'route')).filter(
      (line) => line.startsWith('100.96.') && !line.includes('dev docker0'),
    );
    const programs = (await ask('tc', 'qdisc', 'show')).filter((line) => line.includes('clsact'));
    const files = (await readdir(`${LAB_DIRECTORY}/${plan.host}`)).filter(
      (name) => !KEPT_FILES.includes(name),
    );
    return [...links, ...routes, ...programs, ...files].map((what) => `${plan.host}: ${what}`);
  }
}

function subnetOf(other: number): string {
  return `100.96.${other}.0/24`;
}

function sum(values: readonly number[] = []): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Command lines of programs that this process, or one of the lab that has ended, started and left. */
async function programs(): Promise<string[]> {
  const pids = (await treeOf(process.pid)).slice(1);
  // One that has ended and waits to be asked for its code has no command line.
  const lines = pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''));
  return (await Promise.all(lines))
    .filter((line) => line !== '')
    .map((line) => line.replaceAll('\0', ' ').trim());
}
