import { describe, expect, it } from 'vitest';
import { formatCidr } from '../../../../src/config/ipv4.js';
import { annotationNames } from '../../../../src/lease/kube/annotations.js';
import { leaseOfNode, parseNode, podSubnet } from '../../../../src/lease/kube/node-lease.js';

const names = annotationNames('flannel.alpha.coreos.com');
const MANAGED = { [names.managed]: 'true', [names.publicIp]: '10.168.0.3' };

const node = (spec: unknown, annotations: unknown = MANAGED) =>
  parseNode({ metadata: { name: 'n', uid: 'u', resourceVersion: '7', annotations }, spec });

describe('a Node', () => {
  it.each([null, 1, [], {}, { metadata: { name: 'n' } }, { metadata: { resourceVersion: '1' } }])(
    'is not %j',
    (value) => {
      expect(parseNode(value)).toBeUndefined();
    },
  );

  it('may lack everything else', () => {
    expect(parseNode({ metadata: { name: 'n', resourceVersion: '1' } })).toEqual({
      name: 'n',
      uid: '',
      created: '',
      resourceVersion: '1',
      annotations: {},
      podCidrs: [],
    });
    expect(node({}, { a: 1, b: 'x' })?.annotations).toEqual({ b: 'x' });
  });

  it.each([
    [{ podCIDR: '10.244.1.0/24' }, '10.244.1.0/24'],
    [{ podCIDR: '10.244.1.0/24', podCIDRs: [] }, '10.244.1.0/24'],
    [{ podCIDR: 'fd00::/64', podCIDRs: ['fd00::/64', '10.244.1.0/25'] }, '10.244.1.0/25'],
    [{ podCIDRs: ['10.244.1.7/24'] }, '10.244.1.0/24'],
  ])('%j has the subnet %s', (spec, expected) => {
    const found = node(spec);
    expect(found && formatCidr(podSubnet(found))).toBe(expected);
  });

  it.each([
    [{}, '(missing) is not valid: expected an IPv4 subnet, which kube-controller-manager assigns'],
    [{ podCIDR: '' }, '(missing)'],
    [{ podCIDR: 'fd00::/64' }, '["fd00::/64"] is not valid: expected one IPv4 subnet'],
    [{ podCIDRs: ['10.1.0.0/24', '10.2.0.0/24'] }, 'expected one IPv4 subnet'],
    [{ podCIDRs: ['10.1.0.0/24', 'fd00::/64', 'fd01::/64'] }, 'expected one IPv4 subnet'],
    [{ podCIDR: '10.244.1.0' }, '"10.244.1.0" is not valid: expected an IPv4 subnet'],
  ])('%j has none: %s', (spec, why) => {
    const found = node(spec);
    expect(found && leaseOfNode(found, names)).toEqual(
      expect.stringContaining(`podCIDR of node n: `),
    );
    expect(found && leaseOfNode(found, names)).toEqual(expect.stringContaining(why));
  });

  it('that no flannel keeps is no lease', () => {
    for (const annotations of [{}, { [names.managed]: 'false' }, { [names.managed]: 'True' }]) {
      const found = node({ podCIDR: '10.244.1.0/24' }, annotations);
      expect(found && leaseOfNode(found, names)).toBeUndefined();
    }
  });
});
