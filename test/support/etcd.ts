/** What the tests against a real etcd share: a server of their own, keys as flanneld has them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3, type IOptions } from 'etcd3';
import { parseNetworkConfig } from '../../src/config/network.js';
import { EtcdServer, type EtcdServerOptions } from '../../src/testbed/etcd-server.js';
import { EtcdStore, type EtcdStoreOptions } from '../../src/lease/etcd/etcd-store.js';
import { ETCD_DEFAULTS, type EtcdOptions } from '../../src/lease/etcd/etcd-options.js';
import type { LeaseRequest } from '../../src/lease/store.js';
import { silentLogger } from '../../src/log.js';
import { parseCidr, parseIpv4 } from '../../src/config/ipv4.js';

export { Watcher } from './watcher.js';

export const PREFIX = ETCD_DEFAULTS.prefix;
export const CONFIG = { Network: '100.96.0.0/16', Backend: { Type: 'udp' } };

export interface TestEtcd {
  readonly server: EtcdServer;
  readonly client: Etcd3;
  readonly directory: string;
  end(): Promise<void>;
}

/** Another client than the one under test, for what the tests do to etcd themselves. */
export function etcdClient(
  { endpoint }: Pick<EtcdServer, 'endpoint'>,
  options: Partial<IOptions> = {},
): Etcd3 {
  return new Etcd3({ hosts: endpoint, ...options });
}

/** An empty etcd on a free port. */
export async function startEtcd(more: Partial<EtcdServerOptions> = {}): Promise<TestEtcd> {
  const directory = await mkdtemp(join(tmpdir(), 'flannelette-etcd-'));
  const server = await EtcdServer.start({ directory, port: await freePort(), ...more });
  const client = etcdClient(server);
  return {
    server,
    client,
    directory,
    end: async () => {
      client.close();
      await server.stop();
      await rm(directory, { recursive: true });
    },
  };
}

/** A port free now, and the one after it as well. */
export async function freePort(): Promise<number> {
  for (;;) {
    const first = await listen(0);
    const next = await listen(first.port + 1).catch(() => undefined);
    first.close();
    next?.close();
    if (next !== undefined) return first.port;
  }
}

function listen(port: number): Promise<{ port: number; close: () => void }> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      if (typeof address !== 'object' || address === null) throw new Error('no port');
      resolve({ port: address.port, close: () => server.close() });
    });
  });
}

export function openStore(
  endpoints: readonly string[],
  more: Partial<EtcdOptions> = {},
  options: Partial<EtcdStoreOptions> = {},
): EtcdStore {
  return new EtcdStore({ endpoints, prefix: PREFIX, ...more }, { log: silentLogger(), ...options });
}

export function leaseRequest(publicIp: string, more: Partial<LeaseRequest> = {}): LeaseRequest {
  return {
    config: parseNetworkConfig(JSON.stringify(CONFIG)),
    attributes: { publicIp: parseIpv4('PublicIP', publicIp) },
    previousSubnet: undefined,
    ...more,
  };
}

export const subnet = (text: string) => parseCidr('subnet', text);
