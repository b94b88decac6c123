/** Values of leases as flanneld, people and neighbours write them. */
import { describe, expect, it } from 'vitest';
import { formatCidr, formatIpv4, parseCidr, parseIpv4 } from '../../../src/config/ipv4.js';
import {
  MAX_LEASE_BYTES,
  parseLeaseText,
  serializeAttributes,
} from '../../../src/lease/attributes.js';
import { decodeEntry } from '../../../src/lease/etcd/codec.js';
import {
  formatRemembered,
  parseRemembered,
} from '../../../src/lease/remembered/remembered-file.js';
import type { Lease } from '../../../src/lease/store.js';

const read = (text: string) => parseLeaseText(Buffer.from(text));
const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;

describe('the keys of a lease match in any case', () => {
  it.each([
    '{"PublicIP":"10.168.0.3"}',
    '{"publicip":"10.168.0.3"}',
    '{"PUBLICIP":"10.168.0.3","publicipv6":null}',
    '{"PublicIp":"10.168.0.9","publicIP":"10.168.0.3"}',
    '{"PublicIP":"::ffff:10.168.0.3"}',
  ])('%s', (text) => {
    expect(read(text)).toEqual({ publicIp: parseIpv4('test', '10.168.0.3') });
  });

  it('of a backend, too', () => {
    const value = '{"publicip":"10.168.0.3","backendtype":"vxlan","BACKENDDATA":{"VNI":1}}';
    const attributes = read(value);
    if (typeof attributes === 'string') throw new Error(attributes);
    expect(serializeAttributes(attributes)).toBe(
      '{"PublicIP":"10.168.0.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}',
    );
  });
});

describe('what is no lease is told in a line of bounded length', () => {
  it.each([
    [
      'nested',
      `{"PublicIP":"10.168.0.3","BackendData":${deep.slice(90_000, 110_000)}}`,
      /nested too deep/,
    ],
    [
      'nested beyond the size',
      `{"BackendData":${deep}}`,
      /has 200016 bytes: expected at most 65536/,
    ],
    ['large', `{"PublicIP":"10.168.0.3","x":"${'y'.repeat(MAX_LEASE_BYTES)}"}`, /expected at most/],
    [
      'a long address',
      `{"PublicIP":"${'1'.repeat(60_000)}"}`,
      /^PublicIP: "1{299}\.\.\. is not valid/,
    ],
    [
      'a long type',
      `{"PublicIP":"10.168.0.3","BackendType":[${'1,'.repeat(20_000)}1]}`,
      /^BackendType/,
    ],
    ['no JSON', 'x'.repeat(60_000), /^the value is not JSON/],
    ['empty', '', /^the value is not JSON/],
    ['an IPv6 address', '{"PublicIP":"2001:db8::1"}', /^PublicIP: "2001:db8::1"/],
    ['nothing', '{}', /^PublicIP: \(missing\)/],
  ])('%s', (_what, text, reason) => {
    const result = read(text);
    if (typeof result !== 'string') throw new Error('a lease');
    expect(result).toMatch(reason);
    expect(result.length).toBeLessThan(500);
  });
});

// The seeds of flannel's FuzzKvToIPLease (pkg/subnet/etcd/fuzz_test.go), and what they become.
it.each([
  ['10.5.1.0-24', '{"PublicIP":"192.168.0.1","BackendType":"vxlan"}', '10.5.1.0/24 192.168.0.1'],
  [
    '10.5.1.0-24&fc00::-64',
    '{"PublicIP":"192.168.0.1","PublicIPv6":"fc00::1"}',
    '10.5.1.0/24 192.168.0.1',
  ],
  ['10.5.1.0-24', '{"PublicIP":"2001:db8::1"}', /^PublicIP/],
  ['not-a-subnet', '{}', /is not a subnet key/],
  ['', '', /is not a subnet key/],
])('the entry %j %j', (name, value, expected) => {
  const entry = decodeEntry(name, Buffer.from(value));
  if (typeof entry === 'string') {
    expect(entry).toMatch(expected);
  } else {
    expect(`${formatCidr(entry.subnet)} ${formatIpv4(entry.attributes.publicIp)}`).toBe(expected);
    expect(entry.key).toBe(name === '10.5.1.0-24' ? undefined : name);
  }
});

describe('remembering', () => {
  const lease = (subnet: string, more: Partial<Lease> = {}): Lease => ({
    subnet: parseCidr('test', subnet),
    attributes: { publicIp: parseIpv4('test', '10.168.0.3') },
    expiresAt: undefined,
    ...more,
  });
  const again = (leases: Lease[]) =>
    parseRemembered(
      formatRemembered({
        store: 's',
        asOf: 0,
        config: '{"Network":"100.96.0.0/16"}',
        own: undefined,
        leases,
      }),
    ).leases;

  it('keeps leases under other keys apart', () => {
    const leases = [
      lease('100.96.2.0/24'),
      lease('100.96.2.0/24', { key: '100.96.2.5-24' }),
      lease('100.96.3.0/24', { key: '100.96.3.0-24&fd00::-64' }),
    ];
    expect(again(leases)).toEqual(leases);
  });

  it('leaves out data so large that the file could not be read again', () => {
    const attributes = { publicIp: 7, backendType: 'extension', backendData: 'x'.repeat(60_000) };
    const [kept] = again([lease('100.96.2.0/24', { attributes })]);
    expect(kept?.attributes).toEqual({ publicIp: 7, backendType: 'extension' });
    const small = { ...attributes, backendData: { VtepMAC: '82:4b:b6:2f:54:4e' } };
    expect(again([lease('100.96.2.0/24', { attributes: small })])[0]?.attributes).toEqual(small);
  });
});
