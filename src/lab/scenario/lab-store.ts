/**
 * Where the lab's daemons keep their leases: a lease file, or a real etcd at the switch's address,
 * which every host reaches through its eth0.
 *
 * Either way each host takes the documents' subnet. The lease file has a reservation for it. In etcd
 * leases are ordinary ones, as a cluster has them: subnet.env of an "earlier run" tells the daemon
 * which subnet to take again.
 */
import { systemError } from '../../errors.js';
import { EtcdClient } from '../../lease/etcd/etcd-client.js';
import type { KeyValue } from '../../lease/etcd/etcd-messages.js';
import { NO_GRANT } from '../../lease/etcd/own-lease.js';
import { replaceFile } from '../../host/atomic-file.js';
import {
  LEASE_FILE,
  LEASE_FILE_FLAGS,
  subnetFileOf,
  writeLeaseFile,
} from '../../testbed/daemon-process.js';
import {
  checkEtcd,
  configEntry,
  ETCD_PREFIX,
  leaseKey,
  type EtcdCheck,
  type EtcdEntry,
} from './etcd-check.js';
import { EtcdServer } from '../../testbed/etcd-server.js';
import type { Programs } from '../../testbed/isolate.js';
import { GATEWAY, LAB_DIRECTORY, OVERLAY, type HostPlan } from '../../testbed/topology.js';

export type StoreKind = 'file' | 'etcd';

export interface LabStore {
  readonly kind: StoreKind;
  /** Its path or URL inside the lab. */
  readonly location: string;
  /** Flags of `run` that make a daemon use it. */
  readonly daemonFlags: readonly string[];
  /** Before a host's daemon starts: it will take the documents' subnet. */
  add(plan: HostPlan): Promise<void>;
  /** Removes a host's lease, as an operator does for a host that is gone for good. */
  remove(plan: HostPlan): Promise<void>;
  /** What the daemons of these hosts have written; undefined where the lab wrote it itself. */
  check(hosts: readonly HostPlan[]): Promise<EtcdCheck | undefined>;
  /** Resolves when the store has ended without being closed, with the reason. */
  ended(): Promise<Error>;
  close(): Promise<void>;
}

/** Programs a store needs on the machine. */
export const STORE_PROGRAMS: Readonly<Record<StoreKind, Programs>> = {
  file: {},
  etcd: { etcd: 'etcd-server' },
};

/** Opens an empty store that holds the network's configuration; the switch must be there. */
export async function openStore(kind: StoreKind): Promise<LabStore> {
  return kind === 'etcd' ? EtcdLabStore.start() : FileLabStore.create();
}

class FileLabStore implements LabStore {
  readonly kind = 'file';
  readonly location = LEASE_FILE;
  readonly daemonFlags = LEASE_FILE_FLAGS;
  #hosts: readonly HostPlan[] = [];

  static async create(): Promise<FileLabStore> {
    const store = new FileLabStore();
    await store.#write([]);
    return store;
  }

  async add(plan: HostPlan): Promise<void> {
    await this.#write([...this.#hosts, plan]);
  }

  async remove(plan: HostPlan): Promise<void> {
    await this.#write(this.#hosts.filter(({ number }) => number !== plan.number));
  }

  check(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  ended(): Promise<Error> {
    return new Promise(() => undefined);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Daemons with a reservation write nothing, so there is no change of theirs to lose. */
  async #write(hosts: readonly HostPlan[]): Promise<void> {
    this.#hosts = hosts;
    await writeLeaseFile(hosts);
  }
}

/** etcd's own, for clients. */
const ETCD_PORT = 2379;
/** A call without an answer ends by itself. */
const NEVER = new AbortController().signal;
/** Written by the "earlier run": UDP over an Ethernet of 1500. */
const EARLIER_MTU = 1_472;

class EtcdLabStore implements LabStore {
  readonly kind = 'etcd';
  readonly location: string;
  readonly daemonFlags: readonly string[];
  readonly #server: EtcdServer;
  readonly #client: EtcdClient;

  private constructor(server: EtcdServer, client: EtcdClient) {
    this.#server = server;
    this.#client = client;
    this.location = server.endpoint;
    this.daemonFlags = [`--etcd-endpoints=${server.endpoint}`];
  }

  static async start(): Promise<EtcdLabStore> {
    const options = { directory: LAB_DIRECTORY, address: GATEWAY, port: ETCD_PORT };
    const server = await EtcdServer.start(options);
    const { endpoint } = server;
    const etcd = { endpoints: [endpoint], prefix: ETCD_PREFIX };
    const store = new EtcdLabStore(server, new EtcdClient(etcd, { location: endpoint }));
    try {
      const { key, value } = configEntry();
      await store.#client.put(key, value, NO_GRANT, NEVER);
      return store;
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  async add(plan: HostPlan): Promise<void> {
    const lines = [
      `FLANNEL_NETWORK=${OVERLAY}`,
      `FLANNEL_SUBNET=${plan.bridgeAddress}/24`,
      `FLANNEL_MTU=${EARLIER_MTU}`,
      'FLANNEL_IPMASQ=false',
    ];
    await replaceFile(subnetFileOf(plan), `${lines.join('\n')}\n`);
  }

  async remove(plan: HostPlan): Promise<void> {
    const key = leaseKey(plan);
    if ((await this.#client.delete(key, NEVER)) !== 1)
      throw systemError(`${key} was not in etcd, nothing to remove`);
  }

  async check(hosts: readonly HostPlan[]): Promise<EtcdCheck> {
    const found: KeyValue[] = [];
    await this.#client.list(ETCD_PREFIX, (entry) => found.push(entry), NEVER);
    const entries = found.map(async ({ key, value, lease }): Promise<EtcdEntry> => ({
      key: key.toString('utf8'),
      value: value.toString('utf8'),
      leaseSeconds: lease === NO_GRANT ? undefined : await this.#grantedSeconds(lease),
    }));
    return checkEtcd(await Promise.all(entries), hosts);
  }

  ended(): Promise<Error> {
    return this.#server.ended();
  }

  async close(): Promise<void> {
    this.#client.close();
    await this.#server.stop();
  }

  async #grantedSeconds(lease: bigint): Promise<number> {
    return (await this.#client.timeToLive(lease, NEVER)).grantedTtl;
  }
}
