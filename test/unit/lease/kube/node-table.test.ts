/** The table of nodes against a naive one: whatever is done to nodes, its events tell the same leases. */
import { expect, it } from 'vitest';
import { formatIpv4, subnetKey } from '../../../../src/config/ipv4.js';
import { annotationNames } from '../../../../src/lease/kube/annotations.js';
import type { KubeNode } from '../../../../src/lease/kube/node-lease.js';
import { NodeTable } from '../../../../src/lease/kube/node-table.js';
import type { LeaseEvent } from '../../../../src/lease/store.js';

const names = annotationNames('flannel.alpha.coreos.com');

/** What a reader of the events knows. */
class Reader {
  readonly leases = new Map<string, string>();
  readonly rejected = new Map<string, string>();

  hear(event: LeaseEvent): void {
    if (event.type === 'put') {
      const { subnet, attributes } = event.lease;
      const key = subnetKey(subnet);
      const ip = formatIpv4(attributes.publicIp);
      expect(this.leases.get(key)).not.toBe(ip);
      this.leases.set(key, ip);
    } else if (event.type === 'delete') {
      expect(this.leases.delete(subnetKey(event.subnet))).toBe(true);
    } else if (event.type === 'rejected') {
      this.rejected.set(event.entry.key, event.entry.reason);
    } else if (event.type === 'cleared') {
      expect(this.rejected.delete(event.key)).toBe(true);
    }
  }
}

function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

it.each([1, 2, 3, 4, 5])('tells what a listing of the same nodes would (seed %i)', (seed) => {
  const below = random(seed);
  const options = { names, ownNode: 'n0', ownAttributes: () => undefined };
  const table = new NodeTable(options);
  const nodes = new Map<string, KubeNode>();
  const reader = new Reader();
  table.replaceAll([]);
  for (let step = 0; step < 2_000; step += 1) {
    const name = `n${1 + below(12)}`;
    const before = nodes.get(name);
    if (before !== undefined && below(5) === 0) {
      nodes.delete(name);
      for (const event of table.delete(name)) reader.hear(event);
    } else {
      const isNew = before === undefined || below(8) === 0;
      const node: KubeNode = {
        name,
        uid: isNew ? `u${step}` : before.uid,
        created: isNew ? String(step).padStart(6, '0') : before.created,
        resourceVersion: String(step),
        annotations: {
          [names.managed]: below(10) === 0 ? 'false' : 'true',
          [names.publicIp]: `10.168.0.${1 + below(3)}`,
        },
        podCidrs: isNew ? [`10.244.${below(6)}.0/24`] : before.podCidrs,
      };
      nodes.set(name, node);
      for (const event of table.put(node)) reader.hear(event);
    }
    if (step % 20 !== 0) continue;
    const fresh = new NodeTable(options).replaceAll(nodes.values());
    const expected = fresh.leases.map(({ subnet, attributes }) => [
      subnetKey(subnet),
      formatIpv4(attributes.publicIp),
    ]);
    expect([...reader.leases].sort()).toEqual(expected.sort());
    const rejected = fresh.rejected.map(({ key, reason }) => [key, reason]);
    expect([...reader.rejected].sort()).toEqual(rejected.sort());
  }
});

it('tells nothing of a change that says nothing', () => {
  const table = new NodeTable({ names, ownNode: 'n0', ownAttributes: () => undefined });
  const node: KubeNode = {
    name: 'n1',
    uid: 'u',
    created: '',
    resourceVersion: '1',
    annotations: { [names.managed]: 'true', [names.publicIp]: '10.168.0.3' },
    podCidrs: ['10.244.1.0/24'],
  };
  expect(table.put(node)).toHaveLength(1);
  const annotations = { ...node.annotations, 'example.com/beat': '2' };
  expect(table.put({ ...node, resourceVersion: '2', annotations })).toEqual([]);
  expect(table.delete('n7')).toEqual([]);
});
