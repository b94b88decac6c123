import { describe, expect, it } from 'vitest';
import { parseIpv4 } from '../../../../src/config/ipv4.js';
import {
  annotationNames,
  firstDifference,
  ownAnnotations,
  readAttributes,
} from '../../../../src/lease/kube/annotations.js';

const names = annotationNames('flannel.alpha.coreos.com');
const publicIp = parseIpv4('ip', '10.168.0.2');

describe('the prefix', () => {
  it.each([
    ['flannel.alpha.coreos.com', 'flannel.alpha.coreos.com/public-ip'],
    ['flannel.alpha.coreos.com/', 'flannel.alpha.coreos.com/public-ip'],
    ['net.example.com/blue', 'net.example.com/blue-public-ip'],
    ['net.example.com/blue-', 'net.example.com/blue-public-ip'],
  ])('%s makes %s, as in flanneld', (prefix, expected) => {
    expect(annotationNames(prefix).publicIp).toBe(expected);
  });

  it.each(['', 'flannel', 'Flannel.example.com', 'a.b/c/d', 'a.b/c d', 'a..b'])(
    '"%s" is refused by name',
    (prefix) => {
      expect(() => annotationNames(prefix)).toThrow(
        `--kube-annotation-prefix: ${JSON.stringify(prefix)} is not valid: expected a domain`,
      );
    },
  );
});

describe('attributes', () => {
  const read = (more: Record<string, string>) =>
    readAttributes(names, { [names.publicIp]: '10.168.0.2', ...more });

  it.each([{}, { [names.backendData]: 'null' }, { [names.backendType]: '' }])(
    'of udp have neither type nor data: %j',
    (more) => {
      expect(read(more)).toEqual({ publicIp });
    },
  );

  it('of another backend have both', () => {
    const more = { [names.backendType]: 'vxlan', [names.backendData]: '{"VNI":1}' };
    expect(read(more)).toEqual({ publicIp, backendType: 'vxlan', backendData: { VNI: 1 } });
  });

  it.each([
    [{ [names.publicIp]: '' }, `${names.publicIp}: "" is not valid`],
    [{ [names.publicIp]: 'fd00::1' }, `${names.publicIp}: "fd00::1" is not valid`],
    [{ [names.backendData]: '{"VNI":' }, `${names.backendData}: "{\\"VNI\\":" is not valid`],
    [{ [names.backendData]: '['.repeat(40) + ']'.repeat(40) }, `${names.backendData}: `],
    [{ [names.backendData]: `"${'x'.repeat(70_000)}"` }, `${names.backendData}: `],
  ])('%j say what is wrong in one line', (more, why) => {
    const found = read(more);
    expect(found).toEqual(expect.stringContaining(why));
    expect(JSON.stringify(found).length).toBeLessThan(500);
  });

  it('are told apart by the first that differs', () => {
    const wanted = ownAnnotations(names, {}, { publicIp });
    expect(firstDifference(wanted, wanted)).toBeUndefined();
    expect(firstDifference(wanted, { ...wanted, [names.publicIp]: '10.168.0.3' })).toBe(
      `${names.publicIp}: "10.168.0.3" is not valid: expected "10.168.0.2"`,
    );
  });
});
