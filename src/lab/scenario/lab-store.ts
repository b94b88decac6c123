/**
 * Where the lab's daemons keep their leases: a lease file, or a real etcd at the switch's address,
 * which every host reaches through its eth0.
 *
 * Either way each host takes the documents' subnet. The lease file has a reservation for it. In etcd
 * leases are ordinary ones, as a cluster has them: subnet.env of an "earlier run" tells the daemon
 * which subnet to take again.
 */
import { readFile } from 'node:fs/promises';
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
  leaseEntry,
  leaseKey,
  type EtcdCheck,
  type EtcdEntry,
} from './etcd-check.js';
import { EtcdServer } from '../../testbed/etcd-server.js';
import type { Programs } from '../../testbed/isolate.js';
import {
  GATEWAY,
  LAB_DIRECTORY,
  OVERLAY,
  UNDERLAY_MTU,
  type HostPlan,
} from '../../testbed/topology.js';
import type { LabBackend } from '../backends/backend.js';
import { networkConfig } from '../backends/registry.js';

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
export async function openStore(kind: StoreKind, backend: LabBackend): Promise<LabStore> {
  return kind === 'etcd' ? EtcdLabStore.start(backend) : FileLabStore.create(backend);
}

class FileLabStore implements LabStore {
  readonly kind = 'file';
  readonly location = LEASE_FILE;
  readonly daemonFlags = LEASE_FILE_FLAGS;
  readonly #backend: LabBackend;

  private constructor(backend: LabBackend) {
    this.#backend = backend;
  }

  static async create(backend: LabBackend): Promise<FileLabStore> {
    const store = new FileLabStore(backend);
    await store.#write([], {});
    return store;
  }

  async add(plan: HostPlan): Promise<void> {
    await this.#write([plan], await this.#leases());
  }

  async remove(plan: HostPlan): Promise<void> {
    const { [fileKey(plan)]: removed, ...others } = await this.#leases();
    if (removed === undefined) throw systemError(`${LEASE_FILE} has no lease of ${plan.host}`);
    await this.#write([], others);
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

  async #leases(): Promise<Record<string, unknown>> {
    const { leases } = JSON.parse(await readFile(LEASE_FILE, 'utf8')) as {
      leases: Record<string, unknown>;
    };
    return leases;
  }

  /** No daemon writes now: those that run have completed their reservations (awaitRoutes). */
  async #write(hosts: readonly HostPlan[], others: object): Promise<void> {
    const { leaseType } = this.#backend;
    const attributes = leaseType === undefined ? {} : { BackendType: leaseType };
    await writeLeaseFile(hosts, networkConfig(this.#backend), attributes, others);
  }
}

function fileKey(plan: HostPlan): string {
  return plan.subnet.replace('/', '-');
}

/** etcd's own, for clients. */
const ETCD_PORT = 2379;
/** A call without an answer ends by itself. */
const NEVER = new AbortController().signal;

class EtcdLabStore implements LabStore {
  readonly kind = 'etcd';
  readonly location: string;
  readonly daemonFlags: readonly string[];
  readonly #server: EtcdServer;
  readonly #client: EtcdClient;

  readonly #backend: LabBackend;

  private constructor(server: EtcdServer, client: EtcdClient, backend: LabBackend) {
    this.#server = server;
    this.#client = client;
    this.#backend = backend;
    this.location = server.endpoint;
    this.daemonFlags = [`--etcd-endpoints=${server.endpoint}`];
  }

  static async start(backend: LabBackend): Promise<EtcdLabStore> {
    const options = { directory: LAB_DIRECTORY, address: GATEWAY, port: ETCD_PORT };
    const server = await EtcdServer.start(options);
    const { endpoint } = server;
    const etcd = { endpoints: [endpoint], prefix: ETCD_PREFIX };
    const store = new EtcdLabStore(server, new EtcdClient(etcd, { location: endpoint }), backend);
    try {
      const { key, value } = store.#config();
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
      `FLANNEL_MTU=${UNDERLAY_MTU - this.#backend.overhead}`,
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
    const leases = hosts.map(async (plan) =>
      leaseEntry(plan, await this.#backend.leaseValue(plan)),
    );
    return checkEtcd(await Promise.all(entries), [this.#config(), ...(await Promise.all(leases))]);
  }

  ended(): Promise<Error> {
    return this.#server.ended();
  }

  async close(): Promise<void> {
    this.#client.close();
    await this.#server.stop();
  }

  #config(): EtcdEntry {
    return configEntry(networkConfig(this.#backend));
  }

  async #grantedSeconds(lease: bigint): Promise<number> {
    return (await this.#client.timeToLive(lease, NEVER)).grantedTtl;
  }
}
