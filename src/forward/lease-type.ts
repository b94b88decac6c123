/** Whether a lease is for this host's backend. */
import type { LeaseAttributes } from '../lease/store.js';

/** Why a host of backend `type` has no route for a lease, if it is another backend's. */
export function typeFault(type: string, { backendType }: LeaseAttributes): string | undefined {
  if (backendType === type) return undefined;
  const found = backendType === undefined ? 'missing, as in a lease of udp' : `"${backendType}"`;
  return `BackendType is ${found}: this host's backend is ${type}`;
}
