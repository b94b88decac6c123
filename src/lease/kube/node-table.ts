/**
 * The leases of all nodes, and how they change when a node does.
 *
 * Most changes of a Node are a kubelet's heartbeat and say nothing here. A node whose annotations became
 * unreadable keeps the lease it had, so that a slip of an editor takes nobody off the network. Of several
 * nodes with one podCIDR one has it: this host's own, else the oldest.
 */
import { formatCidr, subnetKey, type Cidr } from '../../config/ipv4.js';
import { sameAttributes } from '../attributes.js';
import type { Lease, LeaseAttributes, LeaseEvent, RejectedEntry } from '../store.js';
import type { AnnotationNames } from './annotations.js';
import { leaseOfNode, type KubeNode, type NodeLease } from './node-lease.js';

export interface NodeTableOptions {
  readonly names: AnnotationNames;
  readonly ownNode: string;
  /**
   * What this host asked for, where its node says so; undefined where the node says something else, which
   * is no lease of this host's then.
   */
  readonly ownAttributes: (node: KubeNode) => LeaseAttributes | undefined;
}

interface Entry {
  readonly uid: string;
  readonly created: string;
  readonly lease: NodeLease | undefined;
  /** Why what the node says now is no lease. */
  readonly fault: string | undefined;
}

export class NodeTable {
  readonly #options: NodeTableOptions;
  /** By name. Nodes that no flannel keeps are not there. */
  readonly #entries = new Map<string, Entry>();
  /** Names of the nodes with a lease of the subnet. */
  readonly #holders = new Map<string, Set<string>>();
  /** What the reader was told: by subnet, and by key of what is no lease. */
  readonly #told = new Map<string, NodeLease>();
  readonly #rejected = new Map<string, RejectedEntry>();

  constructor(options: NodeTableOptions) {
    this.#options = options;
  }

  /** Makes the table what these nodes say, all of them. */
  replaceAll(nodes: Iterable<KubeNode>): Extract<LeaseEvent, { type: 'snapshot' }> {
    const gone = new Set(this.#entries.keys());
    for (const node of nodes) {
      gone.delete(node.name);
      this.#enter(node);
    }
    for (const name of gone) this.#remove(name);
    this.#told.clear();
    this.#rejected.clear();
    for (const key of this.#holders.keys()) this.#settle(key);
    for (const name of this.#entries.keys()) this.#judge(name);
    const leases = Array.from(this.#told.values(), leaseOf);
    return { type: 'snapshot', leases, rejected: [...this.#rejected.values()] };
  }

  /** The events that a node's change means; none for most. */
  put(node: KubeNode): LeaseEvent[] {
    const before = this.#entries.get(node.name);
    const after = this.#enter(node);
    return same(before, after) ? [] : this.#events(node.name, [before, after]);
  }

  delete(name: string): LeaseEvent[] {
    const before = this.#entries.get(name);
    if (before === undefined) return [];
    this.#remove(name);
    return this.#events(name, [before]);
  }

  #enter(node: KubeNode): Entry | undefined {
    const { name, uid, created } = node;
    const before = this.#entries.get(name);
    const found = this.#read(node);
    if (found === undefined) {
      this.#remove(name);
      return undefined;
    }
    const isFault = typeof found === 'string';
    const kept = before?.uid === uid ? before.lease : undefined;
    const lease = isFault ? kept : found;
    const entry = { uid, created, lease, fault: isFault ? found : undefined };
    if (same(before, entry)) return before;
    this.#remove(name);
    this.#entries.set(name, entry);
    if (lease !== undefined) {
      const key = subnetKey(lease.subnet);
      const holders = this.#holders.get(key) ?? new Set();
      this.#holders.set(key, holders.add(name));
    }
    return entry;
  }

  #read(node: KubeNode): NodeLease | string | undefined {
    const found = leaseOfNode(node, this.#options.names);
    if (node.name !== this.#options.ownNode) return found;
    const attributes = this.#options.ownAttributes(node);
    if (attributes === undefined || typeof found === 'string') return undefined;
    return found === undefined ? undefined : { ...found, attributes };
  }

  #remove(name: string): void {
    const lease = this.#entries.get(name)?.lease;
    this.#entries.delete(name);
    if (lease === undefined) return;
    const key = subnetKey(lease.subnet);
    const holders = this.#holders.get(key);
    holders?.delete(name);
    if (holders?.size === 0) this.#holders.delete(key);
  }

  /** Brings what the reader knows in line, for a node and the subnets it had and has. */
  #events(name: string, entries: readonly (Entry | undefined)[]): LeaseEvent[] {
    const subnets = new Map<string, Cidr>();
    for (const entry of entries) {
      if (entry?.lease !== undefined)
        subnets.set(subnetKey(entry.lease.subnet), entry.lease.subnet);
    }
    const deletes: LeaseEvent[] = [];
    const puts: LeaseEvent[] = [];
    const names = new Set([name]);
    for (const [key, subnet] of subnets) {
      for (const holder of this.#holders.get(key) ?? []) names.add(holder);
      const before = this.#told.get(key);
      const after = this.#settle(key);
      if (after === undefined && before !== undefined) deletes.push({ type: 'delete', subnet });
      if (after === undefined) continue;
      if (before !== undefined && sameAttributes(before.attributes, after.attributes)) continue;
      puts.push({ type: 'put', lease: leaseOf(after) });
    }
    // Deletes first, so that an address that moved is never told twice at a time.
    return [...deletes, ...puts, ...[...names].flatMap((one) => this.#judge(one))];
  }

  /** Decides whose the subnet is. */
  #settle(key: string): NodeLease | undefined {
    const winner = this.#winner(key);
    const lease = winner === undefined ? undefined : this.#entries.get(winner)?.lease;
    if (lease === undefined) this.#told.delete(key);
    else this.#told.set(key, lease);
    return lease;
  }

  #winner(key: string): string | undefined {
    const holders = this.#holders.get(key);
    if (holders === undefined || holders.size < 2) return holders?.values().next().value;
    if (holders.has(this.#options.ownNode)) return this.#options.ownNode;
    const age = (name: string): string => `${this.#entries.get(name)?.created ?? ''} ${name}`;
    return [...holders].reduce((first, name) => (age(name) < age(first) ? name : first));
  }

  /** Why a node is no lease, told once, and that it is over. */
  #judge(name: string): LeaseEvent[] {
    const key = `node ${name}`;
    const entry = this.#entries.get(name);
    const reason = entry?.fault ?? this.#conflict(name, entry?.lease);
    const before = this.#rejected.get(key);
    if (reason === before?.reason) return [];
    if (reason === undefined) {
      this.#rejected.delete(key);
      return [{ type: 'cleared', key }];
    }
    const rejected = { key, reason };
    this.#rejected.set(key, rejected);
    return [{ type: 'rejected', entry: rejected }];
  }

  #conflict(name: string, lease: NodeLease | undefined): string | undefined {
    const winner = lease === undefined ? name : this.#winner(subnetKey(lease.subnet));
    if (lease === undefined || winner === undefined || winner === name) return undefined;
    return `podCIDR ${formatCidr(lease.subnet)} is that of node ${winner} as well: expected another one for each node`;
  }
}

function leaseOf({ subnet, attributes }: NodeLease): Lease {
  return { subnet, attributes, expiresAt: undefined };
}

function same(a: Entry | undefined, b: Entry | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  return a.uid === b.uid && a.fault === b.fault && sameLease(a.lease, b.lease);
}

function sameLease(a: NodeLease | undefined, b: NodeLease | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  return subnetKey(a.subnet) === subnetKey(b.subnet) && sameAttributes(a.attributes, b.attributes);
}
