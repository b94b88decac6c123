/**
 * What the in-process API server keeps: objects under their paths, one resource version for all of them,
 * the changes since the last compaction, and the patches of the Kubernetes API.
 */
import { randomUUID } from 'node:crypto';

export type Json = Record<string, unknown>;

export interface KubeObject extends Json {
  metadata: Json & {
    name: string;
    namespace?: string;
    uid: string;
    resourceVersion: string;
    creationTimestamp: string;
    annotations?: Record<string, string>;
  };
  spec?: Json;
  status?: Json;
}

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** Path of the collection, e.g. `/api/v1/nodes`. */
  readonly collection: string;
  readonly version: number;
  readonly object: KubeObject;
}

/** An answer of kind Status. */
export class StatusError extends Error {
  readonly code: number;
  readonly reason: string;

  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }

  get body(): Json {
    const { code, reason, message } = this;
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      code,
    };
  }
}

export class Objects {
  readonly #objects = new Map<string, KubeObject>();
  readonly #watchers = new Set<(change: Change) => void>();
  #changes: Change[] = [];
  /** No watch goes on from before this one. */
  #compacted = 0;
  #version = 1;

  get version(): number {
    return this.#version;
  }

  get compacted(): number {
    return this.#compacted;
  }

  /** Forgets the past. */
  compact(): void {
    this.#compacted = this.#version;
    this.#changes = [];
  }

  list(collection: string): KubeObject[] {
    const found: [string, KubeObject][] = [];
    for (const entry of this.#objects) {
      if (entry[0].slice(0, entry[0].lastIndexOf('/')) === collection) found.push(entry);
    }
    return found.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
  }

  /** All objects of a resource in every namespace. */
  all(resource: string): KubeObject[] {
    return [...this.#objects]
      .filter(([path]) => path.split('/').at(-2) === resource)
      .map(([, o]) => o);
  }

  get(collection: string, name: string): KubeObject {
    const found = this.#objects.get(`${collection}/${name}`);
    if (found !== undefined) return found;
    const resource = collection.split('/').at(-1) ?? '';
    throw new StatusError(404, 'NotFound', `${resource} "${name}" not found`);
  }

  create(collection: string, given: Json): KubeObject {
    const metadata = (given.metadata ?? {}) as Json;
    const name = String(metadata.name);
    const path = `${collection}/${name}`;
    const resource = collection.split('/').at(-1) ?? '';
    if (this.#objects.has(path)) {
      throw new StatusError(409, 'AlreadyExists', `${resource} "${name}" already exists`);
    }
    const object = structuredClone(given) as KubeObject;
    object.metadata = {
      ...metadata,
      name,
      uid: randomUUID(),
      creationTimestamp: `${new Date().toISOString().slice(0, 19)}Z`,
      resourceVersion: '',
    };
    return this.#store('ADDED', collection, object);
  }

  /** Writes it unless nothing changed, which makes no new version. */
  update(collection: string, name: string, make: (before: KubeObject) => KubeObject): KubeObject {
    const before = this.get(collection, name);
    const after = make(structuredClone(before));
    const wanted = after.metadata.resourceVersion;
    if (wanted !== before.metadata.resourceVersion) {
      const resource = collection.split('/').at(-1) ?? '';
      const message = `Operation cannot be fulfilled on ${resource} "${name}": the object has been modified; please apply your changes to the latest version and try again`;
      throw new StatusError(409, 'Conflict', message);
    }
    if (JSON.stringify(after) === JSON.stringify(before)) return before;
    return this.#store('MODIFIED', collection, after);
  }

  delete(collection: string, name: string): KubeObject {
    const object = structuredClone(this.get(collection, name));
    this.#objects.delete(`${collection}/${name}`);
    this.#version += 1;
    object.metadata.resourceVersion = String(this.#version);
    this.#tell({ type: 'DELETED', collection, version: this.#version, object });
    return object;
  }

  /** Calls back for every change after `version`; throws the error of a past that is gone. */
  watch(collection: string, version: number, told: (change: Change) => void): () => void {
    if (version < this.#compacted) {
      const message = `too old resource version: ${version} (${this.#compacted})`;
      throw new StatusError(410, 'Expired', message);
    }
    const heard = (change: Change): void => {
      if (change.collection === collection && change.version > version) told(change);
    };
    for (const change of this.#changes) heard(change);
    this.#watchers.add(heard);
    return () => this.#watchers.delete(heard);
  }

  #store(type: 'ADDED' | 'MODIFIED', collection: string, object: KubeObject): KubeObject {
    this.#version += 1;
    object.metadata.resourceVersion = String(this.#version);
    this.#objects.set(`${collection}/${object.metadata.name}`, object);
    this.#tell({ type, collection, version: this.#version, object });
    return object;
  }

  #tell(change: Change): void {
    this.#changes.push(change);
    for (const told of [...this.#watchers]) told(change);
  }
}

/** Lists of a Node that are merged by a key, not replaced (patchMergeKey of core/v1). */
const MERGE_KEYS: Readonly<Record<string, string>> = {
  conditions: 'type',
  addresses: 'type',
  taints: 'key',
};

/** A strategic merge patch, as far as Nodes need one; without merge keys a JSON merge patch. */
export function mergePatch(target: unknown, patch: unknown, strategic: boolean, key = ''): unknown {
  const mergeKey = MERGE_KEYS[key];
  if (Array.isArray(patch)) {
    if (!strategic || mergeKey === undefined || !Array.isArray(target)) return patch;
    const merged = [...(target as Json[])];
    for (const item of patch as Json[]) {
      const at = merged.findIndex((one) => one[mergeKey] === item[mergeKey]);
      if (item.$patch === 'delete') {
        if (at >= 0) merged.splice(at, 1);
      } else if (at < 0) merged.push(item);
      else merged[at] = mergePatch(merged[at], item, strategic) as Json;
    }
    return merged;
  }
  if (!isObject(patch)) return patch;
  const result: Json = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value, strategic, name);
  }
  return result;
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
