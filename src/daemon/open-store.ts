/** The store a daemon's options name. */
import { LeaseFileStore } from '../lease/file/file-store.js';
import { rememberedPath } from '../lease/remembered/remembered-file.js';
import { RememberingStore } from '../lease/remembered/remembering-store.js';
import type { LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';
import { isConfig } from '../network/registry.js';
import type { Problem } from '../problems.js';
import type { DaemonSettings } from './options.js';

/**
 * `options` are validated. A remote store is opened with what is remembered of it; `report` hears what
 * somebody has to put right there; a start waits `patienceMs` for the store's own word.
 */
export async function openStore(
  options: DaemonSettings,
  log: Logger,
  report: (problems: readonly Problem[]) => void,
  patienceMs?: number,
): Promise<LeaseStore> {
  const { store: wanted, subnetFile } = options;
  if (wanted.kind === 'given') return wanted.store;
  const remembering = { log, isConfig, ...(patienceMs === undefined ? {} : { patienceMs }) };
  if (wanted.kind === 'etcd') {
    // A client is half of what a daemon loads: only the one that is needed.
    const { EtcdStore } = await import('../lease/etcd/etcd-store.js');
    const store = new EtcdStore(wanted, { log, report });
    return RememberingStore.open(store, rememberedPath(subnetFile), remembering);
  }
  if (wanted.kind === 'kube') {
    const { KubeStore } = await import('../lease/kube/kube-store.js');
    const store = await KubeStore.open(wanted, { log, report });
    return RememberingStore.open(store, rememberedPath(subnetFile), remembering);
  }
  return LeaseFileStore.open(wanted.path, { log });
}
