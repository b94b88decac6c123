/** The two stores under test: filled with every lease, told apart only by how they are written. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Etcd3 } from 'etcd3';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import { LAB_DIRECTORY } from '../../src/testbed/topology.js';
import type { Pace } from './changes.js';
import {
  CONFIG,
  GATEWAY,
  grantOf,
  GRANTS,
  hostLeases,
  initialLeases,
  isReservation,
  leaseFileText,
  leaseValue,
} from './network.js';
import type { WriterTarget } from './writer-order.js';

/** `watched` is what the daemons follow; `control` is as large, changes alike, and is followed by no daemon. */
export type Place = 'watched' | 'control';

export interface BenchStore {
  readonly name: 'etcd' | 'file';
  /** How leases are changed, for the report. */
  readonly how: string;
  /** Flags of `run` for the filled store, or for one with the two hosts' leases alone. */
  flags(content: 'filled' | 'empty'): readonly string[];
  target(place: Place): WriterTarget;
  pace(perSecond: number, seconds: number): Pace;
  /** Holder by key, as the watched place is now. */
  leases(): Promise<Map<string, string>>;
  close(): Promise<void>;
}

const REWRITES_PER_SECOND = 10;
const LEASE_SECONDS = 86_400;
/** etcd's own limit of operations in a transaction. */
const TRANSACTION = 128;

export async function openFile(): Promise<BenchStore> {
  const path = (place: string): string => join(LAB_DIRECTORY, place, 'leases.json');
  const expiresAt = new Date(Date.now() + LEASE_SECONDS * 1_000).toISOString();
  const write = async (place: string, leases: Map<string, string>): Promise<void> => {
    await mkdir(dirname(path(place)), { recursive: true });
    await writeFile(path(place), leaseFileText(leases, expiresAt));
  };
  await write('watched', initialLeases());
  await write('control', initialLeases());
  await write('empty', hostLeases());
  return {
    name: 'file',
    how: `the whole file replaced ${REWRITES_PER_SECOND} times a second, each time with a tenth of the changes; control: another file`,
    flags: (content) => [`--lease-file=${path(content === 'filled' ? 'watched' : 'empty')}`],
    target: (place) => ({ store: 'file', path: path(place), expiresAt }),
    pace: (perSecond, seconds) => ({
      perSecond,
      perStep: Math.max(1, Math.round(perSecond / REWRITES_PER_SECOND)),
      count: perSecond * seconds,
    }),
    leases: async () => {
      const { leases } = JSON.parse(await readFile(path('watched'), 'utf8')) as {
        leases: Record<string, { PublicIP: string }>;
      };
      return new Map(Object.entries(leases).map(([key, { PublicIP }]) => [key, PublicIP]));
    },
    close: () => Promise.resolve(),
  };
}

export async function openEtcd(): Promise<BenchStore> {
  const directory = join(LAB_DIRECTORY, 'etcd');
  await mkdir(directory, { recursive: true });
  const server = await EtcdServer.start({ directory, address: GATEWAY, port: 2379 });
  // All leases are one answer of 7 MB.
  const client = new Etcd3({
    hosts: server.endpoint,
    grpcOptions: { 'grpc.max_receive_message_length': -1 },
  });
  const prefix = (place: string): string => `/${place}/network`;
  const fill = async (place: string, leases: Map<string, string>): Promise<void> => {
    await client.put(`${prefix(place)}/config`).value(JSON.stringify(CONFIG));
    const entries = [...leases];
    for (let at = 0; at < entries.length; at += TRANSACTION) {
      const success = entries.slice(at, at + TRANSACTION).map(([key, holder]) => ({
        request_put: {
          key: Buffer.from(`${prefix(place)}/subnets/${key}`),
          value: Buffer.from(leaseValue(holder)),
          ...(isReservation(holder) ? {} : { lease: grantOf(key) }),
        },
      }));
      await client.kv.txn({ success });
    }
  };

  try {
    await Promise.all(
      Array.from({ length: GRANTS }, (_, index) =>
        client.leaseClient.leaseGrant({ TTL: LEASE_SECONDS, ID: String(index + 1) }),
      ),
    );
    await fill('watched', initialLeases());
    await fill('control', initialLeases());
    await fill('empty', hostLeases());
  } catch (error) {
    client.close();
    await server.stop();
    throw error;
  }
  return {
    name: 'etcd',
    how: 'one put or delete a change, each a revision of its own, 64 leases a grant; control: keys under another prefix',
    flags: (content) => [
      `--etcd-endpoints=${server.endpoint}`,
      `--etcd-prefix=${prefix(content === 'filled' ? 'watched' : 'empty')}`,
    ],
    target: (place) => ({ store: 'etcd', endpoint: server.endpoint, prefix: prefix(place) }),
    pace: (perSecond, seconds) => ({ perSecond, perStep: 1, count: perSecond * seconds }),
    leases: async () => {
      const subnets = `${prefix('watched')}/subnets/`;
      const values = await client.getAll().prefix(subnets).strings();
      return new Map(
        Object.entries(values).map(([key, value]) => [
          key.slice(subnets.length),
          (JSON.parse(value) as { PublicIP: string }).PublicIP,
        ]),
      );
    },
    close: async () => {
      client.close();
      await server.stop();
    },
  };
}
