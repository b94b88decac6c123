/** The store a daemon's options name. */
import { EtcdStore } from '../lease/etcd/store.js';
import { LeaseFileStore } from '../lease/file-store.js';
import { rememberedPath } from '../lease/remembered-file.js';
import { RememberingStore } from '../lease/remembering-store.js';
import type { LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';
import type { DaemonOptions } from './options.js';

/** `options` are validated. A remote store is opened with what is remembered of it. */
export async function openStore(options: DaemonOptions, log: Logger): Promise<LeaseStore> {
  const { leaseFile, etcd, subnetFile } = options;
  if (etcd !== undefined) {
    const store = new EtcdStore(etcd, { log });
    return RememberingStore.open(store, rememberedPath(subnetFile), { log });
  }
  return LeaseFileStore.open(leaseFile ?? '', { log });
}
