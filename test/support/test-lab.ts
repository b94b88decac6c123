/**
 * The lab for the namespace tests: set up and torn down per file or per test, in the namespaces that
 * `npm test -- --stage netns` made for the whole stage.
 */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join, resolve } from 'node:path';
import {
  DaemonProcess,
  LEASE_FILE,
  startDaemons,
  writeLeaseFile,
  type DaemonSettings,
} from '../../src/testbed/daemon-process.js';
import { statusSocketPath } from '../../src/daemon/options.js';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import type { ThreadCounters } from '../../src/dataplane/dataplane.js';
import {
  addContainer,
  addHost,
  buildSwitch,
  GATEWAY,
  hostPlan,
  ipBatch,
  LAB_DIRECTORY,
  removeContainer,
  removeHost,
  removeSwitch,
  SWITCH,
  switchPort,
  type HostPlan,
} from '../../src/testbed/topology.js';

export const ROOT = resolve(import.meta.dirname, '..', '..');
export const COMMAND = [process.execPath, join(ROOT, 'dist', 'src', 'cli', 'main.js')];

/** Refuses to work anywhere but where PID 1 is the test runner: in namespaces of our own. */
export async function requireIsolation(): Promise<void> {
  const first = await readFile('/proc/1/cmdline', 'utf8');
  if (first.includes('vitest')) return;
  throw new Error('not isolated: run these tests by `npm test -- --stage netns`');
}

export class TestLab {
  readonly hosts: HostPlan[] = [];
  readonly daemons: DaemonProcess[] = [];
  readonly #containers: HostPlan[] = [];
  readonly #settings: DaemonSettings;

  private constructor(settings: Partial<DaemonSettings>) {
    this.#settings = { command: COMMAND, mode: 'batch', ...settings };
  }

  /** The switch and the hosts, without daemons and containers. */
  static async bare(
    count: number,
    settings: Partial<DaemonSettings> = {},
    underlay: Parameters<typeof addHost>[1] = {},
  ): Promise<TestLab> {
    await requireIsolation();
    const lab = new TestLab(settings);
    await buildSwitch();
    try {
      for (let number = 1; number <= count; number += 1) {
        const plan = hostPlan(number);
        await addHost(plan, underlay);
        await mkdir(join(LAB_DIRECTORY, plan.host), { recursive: true });
        lab.hosts.push(plan);
      }
      await writeLeaseFile(lab.hosts);
      return lab;
    } catch (error) {
      await lab.tearDown();
      throw error;
    }
  }

  /** Two hosts with daemons and containers. */
  static async setUp(
    settings: Partial<DaemonSettings> = {},
    underlay: Parameters<typeof addHost>[1] = {},
  ): Promise<TestLab> {
    const lab = await TestLab.bare(2, settings, underlay);
    try {
      lab.daemons.push(...(await startDaemons(lab.hosts, lab.#settings)));
      for (const daemon of lab.daemons) await lab.attachContainer(daemon);
      return lab;
    } catch (error) {
      await lab.tearDown();
      throw error;
    }
  }

  /** Two hosts of their own settings each, and their containers. */
  static async pair(near: Partial<DaemonSettings>, far: Partial<DaemonSettings>): Promise<TestLab> {
    const lab = await TestLab.bare(2);
    try {
      await lab.attachContainer(await lab.startDaemon(lab.near, near));
      await lab.attachContainer(await lab.startDaemon(lab.far, far));
      return lab;
    } catch (error) {
      await lab.tearDown();
      throw error;
    }
  }

  get near(): HostPlan {
    return this.#at(this.hosts, 0);
  }
  get far(): HostPlan {
    return this.#at(this.hosts, 1);
  }
  get nearDaemon(): DaemonProcess {
    return this.#at(this.daemons, 0);
  }
  get farDaemon(): DaemonProcess {
    return this.#at(this.daemons, 1);
  }

  /** Starts a host's daemon and waits until it forwards. */
  async startDaemon(
    plan: HostPlan,
    settings: Partial<DaemonSettings> = {},
  ): Promise<DaemonProcess> {
    const daemon = new DaemonProcess(plan, { ...this.#settings, ...settings });
    this.daemons.push(daemon);
    await daemon.ready();
    return daemon;
  }

  /** docker0 and container with what the daemon's subnet.env says, unless they are there. */
  async attachContainer(daemon: DaemonProcess): Promise<void> {
    if (this.#containers.includes(daemon.plan)) return;
    const env = await daemon.readSubnetFile();
    await this.addContainer(daemon.plan, Number(env.FLANNEL_MTU));
  }

  /** The same where no daemon of the lab runs. */
  async addContainer(plan: HostPlan, mtu: number): Promise<void> {
    await addContainer(plan, `${plan.bridgeAddress}/24`, mtu);
    this.#containers.push(plan);
  }

  /** Ends and removes everything that is there. */
  async tearDown(): Promise<void> {
    await Promise.all(this.daemons.map((daemon) => daemon.program.stop()));
    for (const plan of this.#containers) await removeContainer(plan);
    for (const plan of this.hosts) await removeHost(plan);
    await removeSwitch();
  }

  #at<T>(list: readonly T[], index: number): T {
    const item = list[index];
    if (item === undefined) throw new Error('the lab is not set up');
    return item;
  }
}

/** Asks a daemon over its unix socket, which network namespaces share. */
export function askDaemon(
  subnetFile: string,
  path: string,
): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const socketPath = statusSocketPath(subnetFile);
    const signal = AbortSignal.timeout(2_000);
    const query = request({ socketPath, path, signal, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('error', reject);
      response.on('end', () => {
        resolve({ code: response.statusCode ?? 0, body });
      });
    });
    query.on('error', reject).end();
  });
}

export async function counters(
  daemon: DaemonProcess,
  direction: ThreadCounters['direction'],
): Promise<ThreadCounters> {
  const threads = (await daemon.status()).dataPlane?.threads ?? [];
  const found = threads.find((thread) => thread.direction === direction);
  if (found === undefined) throw new Error(`no counters of ${direction}`);
  return found;
}

/** Waits until a drop counter has reached a value, and returns all of them. */
export async function waitForDrops(
  daemon: DaemonProcess,
  direction: ThreadCounters['direction'],
  reason: string,
  atLeast: number,
): Promise<Readonly<Record<string, number>>> {
  return waitFor(`${atLeast} drops for ${reason}`, 5_000, async () => {
    const { drops } = await counters(daemon, direction);
    return (drops[reason] ?? 0) >= atLeast ? drops : undefined;
  });
}

/** Packets the kernel received from (rx) and handed to (tx) a device. */
export async function linkPackets(
  namespace: string,
  device: string,
): Promise<{ rx: number; tx: number }> {
  const { stdout } = await run(inNamespace(namespace, ['ip', '-j', '-s', 'link', 'show', device]));
  const [link] = JSON.parse(stdout) as {
    stats64: { rx: { packets: number }; tx: { packets: number } };
  }[];
  if (link === undefined) throw new Error(`${device} is not there`);
  return { rx: link.stats64.rx.packets, tx: link.stats64.tx.packets };
}

/** State of a kernel feature in a daemon's data plane. */
export async function featureOf(daemon: DaemonProcess, name: string): Promise<string | undefined> {
  const { dataPlane } = await daemon.status();
  return dataPlane?.features.find((feature) => feature.name === name)?.state;
}

/** Names of the TUN devices in a namespace. */
export async function tunDevices(namespace: string): Promise<string[]> {
  const { stdout } = await run(inNamespace(namespace, ['ip', '-j', 'link', 'show', 'type', 'tun']));
  return (JSON.parse(stdout || '[]') as { ifname?: string }[]).flatMap(
    ({ ifname }) => ifname ?? [],
  );
}

/** Sends UDP datagrams from a host's address; resolves when the kernel has taken all of them. */
export async function sendDatagrams(
  from: HostPlan,
  to: string,
  datagrams: readonly Buffer[],
): Promise<void> {
  const script = join(ROOT, 'test', 'support', 'send-datagrams.mjs');
  await run(inNamespace(from.host, [process.execPath, script, from.address, to, '8285']), {
    input: JSON.stringify(datagrams.map((datagram) => datagram.toString('base64'))),
  });
}

export { LEASE_FILE };

/** What a lab could leave on the machine it runs on: devices, routes, named namespaces, its files. */
export async function machine(): Promise<unknown> {
  const said = [['link'], ['-4', 'route'], ['netns', 'list']].map(async (words) => {
    const { stdout } = await run(['ip', '-br', ...words]);
    return stdout;
  });
  return [
    await Promise.all(said),
    await readdir('/run'),
    await readdir(LAB_DIRECTORY).catch(() => []),
  ];
}

/** Processes whose environment holds `mark`; a dead one's environment is empty. */
export async function processesWith(mark: string): Promise<{ pid: number; argv: string[] }[]> {
  const found: { pid: number; argv: string[] }[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const read = (file: string): Promise<string[]> =>
      readFile(`/proc/${name}/${file}`, 'utf8').then(
        (text) => text.split('\0'),
        () => [],
      );
    if ((await read('environ')).includes(mark)) {
      found.push({ pid: Number(name), argv: await read('cmdline') });
    }
  }
  return found;
}

/** Index of a host's interface. */
export async function indexOf({ host }: HostPlan, device = 'eth0'): Promise<string> {
  const { stdout } = await run(inNamespace(host, ['ip', '-o', 'link', 'show', device]));
  return stdout.slice(0, stdout.indexOf(':'));
}

/** Deletes a host's eth0 and makes it again, as a driver that is loaded again does. */
export async function remakeUplink(plan: HostPlan): Promise<void> {
  const uplink = switchPort(plan);
  await ipBatch(undefined, [
    `link delete ${uplink}`,
    `link add eth0 netns ${plan.host} type veth peer name ${uplink}`,
    `link set ${uplink} master ${SWITCH} up`,
  ]);
  await ipBatch(plan.host, [
    `address add ${plan.address}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${GATEWAY} dev eth0`,
  ]);
}
