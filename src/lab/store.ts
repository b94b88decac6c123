/**
 * Where the lab's daemons keep their leases: a lease file, or a real etcd at the switch's address,
 * which every host reaches through its eth0.
 *
 * Either way each host takes the documents' subnet. The lease file has a reservation for it. In etcd
 * leases are ordinary ones, as a cluster has them: subnet.env of an "earlier run" tells the daemon
 * which subnet to take again.
 */
import type { Etcd3 } from 'etcd3';
import { messageOf, systemError } from '../errors.js';
import { replaceFile } from '../host/atomic-file.js';
import { LEASE_FILE, LEASE_FILE_FLAGS, subnetFileOf, writeLeaseFile } from './daemon-process.js';
import {
  checkEtcd,
  configEntry,
  ETCD_PREFIX,
  leaseKey,
  type EtcdCheck,
  type EtcdEntry,
} from './etcd-check.js';
import type { EtcdServer } from './etcd-server.js';
import type { Programs } from './isolate.js';
import { GATEWAY, LAB_DIRECTORY, OVERLAY, type HostPlan } from './topology.js';

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
  /** Resolves when the store has ended though nobody closed it, with the reason. */
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
const CALL_MS = 5_000;
/** Written by the "earlier run": UDP over an Ethernet of 1500. */
const EARLIER_MTU = 1_472;

class EtcdLabStore implements LabStore {
  readonly kind = 'etcd';
  readonly location: string;
  readonly daemonFlags: readonly string[];
  readonly #server: EtcdServer;
  readonly #client: Etcd3;

  private constructor(server: EtcdServer) {
    this.#server = server;
    this.location = server.endpoint;
    this.daemonFlags = [`--etcd-endpoints=${server.endpoint}`];
    this.#client = server.client({
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + CALL_MS }),
    });
  }

  static async start(): Promise<EtcdLabStore> {
    const options = { directory: LAB_DIRECTORY, address: GATEWAY, port: ETCD_PORT };
    // Loads etcd's client, which a lab on the lease file does without.
    const etcd = await import('./etcd-server.js');
    const store = new EtcdLabStore(await etcd.EtcdServer.start(options));
    try {
      const { key, value } = configEntry();
      await store.#ask(() => store.#client.put(key).value(value).exec());
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
    const { deleted } = await this.#ask(() => this.#client.delete().key(key).exec());
    if (deleted !== '1') throw systemError(`${key} was not in etcd, nothing to remove`);
  }

  async check(hosts: readonly HostPlan[]): Promise<EtcdCheck> {
    const { kvs } = await this.#ask(() => this.#client.getAll().prefix(ETCD_PREFIX).exec());
    const entries = kvs.map(async ({ key, value, lease }): Promise<EtcdEntry> => ({
      key: key.toString('utf8'),
      value: value.toString('utf8'),
      leaseSeconds: await this.#grantedSeconds(lease),
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

  async #grantedSeconds(lease: string): Promise<number | undefined> {
    if (lease === '0') return undefined;
    const grant = await this.#ask(() => this.#client.leaseClient.leaseTimeToLive({ ID: lease }));
    return Number(grant.grantedTTL);
  }

  async #ask<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      throw systemError(`etcd at ${this.location}: ${messageOf(error)}`, { cause: error });
    }
  }
}
