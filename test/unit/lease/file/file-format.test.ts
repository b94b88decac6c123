import { parseNetworkConfig } from '../../../../src/config/network.js';
import { describe, expect, it } from 'vitest';
import { parseCidr, parseIpv4, subnetKey } from '../../../../src/config/ipv4.js';
import {
  parseLeaseDocument,
  serializeDocument,
  withLease,
  withoutLeases,
} from '../../../../src/lease/file/file-format.js';
import {
  changesBetween,
  isOutdated,
  keepLastGood,
  viewAt,
} from '../../../../src/lease/lease-view.js';

const cidr = (text: string): ReturnType<typeof parseCidr> => parseCidr('test', text);
const GOOD = { PublicIP: '10.168.0.2', PublicIPv6: null, expiresAt: '2026-11-21T12:00:00.000Z' };
const parse = (leases: unknown, rest: object = {}): ReturnType<typeof parseLeaseDocument> =>
  parseLeaseDocument(JSON.stringify({ version: 1, leases, ...rest }));

describe('a text that makes no sense', () => {
  it.each([
    ['', /not JSON/],
    ['{"version":1,', /not JSON/],
    ['null', /not a JSON object/],
    ['[]', /not a JSON object/],
    ['{}', /^version: \(missing\) .* expected 1/],
    ['{"version":2}', /^version: 2/],
    ['{"version":1,"leases":[]}', /^leases: not a JSON object/],
  ])('%j is refused whole', (text, reason) => {
    expect(() => parseLeaseDocument(text)).toThrow(reason);
  });
});

describe('entries', () => {
  it('are leases, or reservations without expiresAt', () => {
    const document = parse({ '100.96.1.0-24': GOOD, '100.96.2.0-24': { PublicIP: '10.168.0.3' } });
    expect(document.leases.get('100.96.1.0-24')).toEqual({
      subnet: cidr('100.96.1.0/24'),
      attributes: { publicIp: parseIpv4('test', '10.168.0.2') },
      expiresAt: Date.UTC(2026, 10, 21, 12),
    });
    expect(document.leases.get('100.96.2.0-24')?.expiresAt).toBeUndefined();
    expect(document.rejected).toEqual([]);
  });

  it.each<[string, unknown, RegExp]>([
    ['100.96.1.5-33', GOOD, /not a subnet key/],
    ['100.96.1.0', GOOD, /not a subnet key/],
    ['__proto', GOOD, /not a subnet key/],
    ['100.96.3.0-24', null, /not a JSON object/],
    ['100.96.3.0-24', 'x', /not a JSON object/],
    ['100.96.3.0-24', {}, /^PublicIP: \(missing\)/],
    ['100.96.3.0-24', { PublicIP: '10.168.0' }, /^PublicIP: "10.168.0"/],
    ['100.96.3.0-24', { PublicIP: 7 }, /^PublicIP: 7/],
    ['100.96.3.0-24', { ...GOOD, expiresAt: '1' }, /^expiresAt: "1"/],
    ['100.96.3.0-24', { ...GOOD, expiresAt: 1e12 }, /^expiresAt: 1000000000000/],
    ['100.96.3.0-24', { ...GOOD, expiresAt: '2026-13-41' }, /^expiresAt: "2026-13-41"/],
    ['100.96.3.0-24', { ...GOOD, BackendType: 5 }, /^BackendType: 5/],
  ])('%s %j is set aside beside a good one', (key, entry, reason) => {
    const document = parse({ '100.96.1.0-24': GOOD, [key]: entry });
    expect([...document.leases.keys()]).toEqual(['100.96.1.0-24']);
    expect(document.rejected).toEqual([{ key, reason: expect.stringMatching(reason) as string }]);
    expect(document.blocked.map(subnetKey)).toEqual(key === '100.96.3.0-24' ? [key] : []);
  });
});

describe('entries as flanneld reads them', () => {
  it.each([
    ['PUBLICIP', 'EXPIRESAT'],
    ['publicip', 'expiresat'],
    ['publicIp', 'ExpiresAt'],
  ])('keys in any case: %s, %s', (publicIp, expiresAt) => {
    const entry = { [publicIp]: '10.168.0.2', [expiresAt]: '2026-11-21T12:00:00Z', x: 1 };
    const document = parse({ '100.96.1.0-24': entry });
    const lease = document.leases.get('100.96.1.0-24');
    expect(lease?.attributes.publicIp).toBe(parseIpv4('test', '10.168.0.2'));
    expect(lease?.expiresAt).toBe(Date.UTC(2026, 10, 21, 12));
    // And none of them is left beside ours when it is written.
    if (lease === undefined) throw new Error('no lease');
    const raw = withLease(document, { ...lease, expiresAt: undefined });
    expect(raw['leases']).toEqual({
      '100.96.1.0-24': { PublicIP: '10.168.0.2', PublicIPv6: null, x: 1 },
    });
  });

  it.each(['100.96.1.7-24', '100.96.1.0-24&fd00::-64', '100.96.1.0-024'])(
    'a key of another form, %s, stands beside the usual one',
    (key) => {
      const document = parse({ [key]: GOOD, '100.96.2.0-24': GOOD });
      expect(document.rejected).toEqual([]);
      expect(document.leases.get(key)).toMatchObject({ subnet: cidr('100.96.1.0/24'), key });
      expect(document.leases.get('100.96.2.0-24')?.key).toBeUndefined();
    },
  );
});

describe('what is nested 100,000 deep', () => {
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  const other = '"100.96.2.0-24":{"PublicIP":"10.168.0.3"}';
  const text = (entry: string): string =>
    `{"version":1,"config":{"Network":"100.96.0.0/16"},"leases":{"100.96.1.0-24":${entry},${other}}}`;

  it.each([
    ['the entry', deep],
    ['its data', `{"PublicIP":"10.168.0.2","BackendData":${deep}}`],
    ['a field nobody knows', `{"PublicIP":"10.168.0.2","x":${deep}}`],
    ['objects', `{"PublicIP":"10.168.0.2","x":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`],
  ])('%s: set aside, and written back as it was', (_what, entry) => {
    const document = parseLeaseDocument(text(entry));
    expect([...document.leases.keys()]).toEqual(['100.96.2.0-24']);
    expect(document.rejected).toHaveLength(1);
    expect(document.rejected[0]?.reason).toMatch(
      /^the entry is (nested too deep|not a JSON object)/,
    );
    const written = serializeDocument(
      withLease(document, {
        subnet: cidr('100.96.3.0/24'),
        attributes: { publicIp: parseIpv4('test', '10.168.0.4') },
        expiresAt: undefined,
      }),
    );
    expect(written).toContain(`"100.96.1.0-24":${entry}`);
    expect([...parseLeaseDocument(written).leases.keys()]).toEqual([
      '100.96.2.0-24',
      '100.96.3.0-24',
    ]);
  });

  it('the configuration: one that is not valid, not a file that is', () => {
    const document = parseLeaseDocument(`{"version":1,"config":${deep},"leases":{${other}}}`);
    expect(document.leases.size).toBe(1);
    expect(() => parseNetworkConfig(document.config ?? '')).toThrow('"nested too deep"');
  });
});

describe('writing', () => {
  it('puts a lease exactly as flanneld, plus expiresAt', () => {
    const raw = withLease(parse({}), {
      subnet: cidr('100.96.1.0/24'),
      attributes: { publicIp: parseIpv4('test', '10.168.0.2') },
      expiresAt: Date.UTC(2026, 10, 21, 12),
    });
    expect(JSON.stringify(raw)).toBe(
      `{"version":1,"leases":{"100.96.1.0-24":${JSON.stringify(GOOD)}}}`,
    );
    expect(parseLeaseDocument(serializeDocument(raw)).leases.size).toBe(1);
  });

  it('keeps fields it does not know, everywhere, and bad entries', () => {
    const document = parse(
      { '100.96.1.0-24': { ...GOOD, comment: 'rack 7' }, oops: 1 },
      { owner: ['me'], config: { Network: '100.96.0.0/16' } },
    );
    const lease = document.leases.get('100.96.1.0-24');
    if (lease === undefined) throw new Error('no lease');
    expect(withLease(document, { ...lease, expiresAt: undefined })).toEqual({
      version: 1,
      owner: ['me'],
      config: { Network: '100.96.0.0/16' },
      leases: {
        '100.96.1.0-24': { PublicIP: '10.168.0.2', PublicIPv6: null, comment: 'rack 7' },
        oops: 1,
      },
    });
    expect(withoutLeases(document, [lease.subnet]).raw['leases']).toEqual({ oops: 1 });
  });
});

describe('views', () => {
  const noon = Date.UTC(2026, 10, 21, 12);
  const document = parse({ '100.96.1.0-24': GOOD, '100.96.2.0-24': { PublicIP: '10.168.0.3' } });

  it('leave out what has ended and know when the next ends', () => {
    const before = viewAt(document, noon - 1);
    expect([before.leases.size, before.nextExpiry]).toEqual([2, noon]);
    const after = viewAt(document, noon);
    expect([...after.leases.keys()]).toEqual(['100.96.2.0-24']);
    expect(after.nextExpiry).toBe(Infinity);
    expect(changesBetween(before, after)).toEqual([
      { type: 'delete', subnet: cidr('100.96.1.0/24') },
    ]);
    expect(isOutdated(before, noon - 1)).toBe(false);
    expect(isOutdated(before, noon)).toBe(true);
    // The clock was set back: what had ended may be in force again.
    expect(isOutdated(after, noon - 86_400_000)).toBe(true);
  });

  it('tell many changes as one snapshot', () => {
    const many = Object.fromEntries(
      Array.from({ length: 65 }, (_, n) => [`100.96.${n}.0-24`, { PublicIP: '10.168.0.3' }]),
    );
    const empty = viewAt(parse({}), noon);
    expect(changesBetween(empty, viewAt(parse(many), noon))).toMatchObject([{ type: 'snapshot' }]);
    expect(changesBetween(empty, viewAt(document, noon - 1))).toMatchObject([
      { type: 'put' },
      { type: 'put' },
    ]);
  });

  it('keep the last good lease of an entry that a bad edit broke', () => {
    const broken = parse({ '100.96.1.0-24': { PublicIP: 'oops' }, '100.96.9.0-24': null });
    const kept = keepLastGood(broken, document);
    expect([...kept.leases.keys()]).toEqual(['100.96.1.0-24']);
    expect(kept.rejected).toHaveLength(2);
  });
});

describe('a document read again', () => {
  const first = parse({
    '100.96.1.0-24': { PublicIP: '10.168.0.2', expiresAt: '2026-11-21T12:00:00Z' },
    '100.96.2.0-24': { PublicIP: '10.168.0.3' },
    '100.96.3.0-24': { PublicIP: '10.168.0.4', BackendData: { a: 1 } },
  });

  it('takes over what stayed the same and parses the rest', () => {
    const text = serializeDocument({
      version: 1,
      leases: {
        '100.96.1.0-24': { PublicIP: '10.168.0.2', expiresAt: '2026-11-21T13:00:00Z' },
        '100.96.2.0-24': { PublicIP: '10.168.0.3', note: 'new' },
        '100.96.3.0-24': { PublicIP: '10.168.0.4', BackendData: { a: 2 } },
        '100.96.4.0-24': { PublicIP: '10.168.0.5' },
      },
    });
    const again = parseLeaseDocument(text, first);
    expect(again).toEqual(parseLeaseDocument(text));
    expect(again.leases.get('100.96.2.0-24')).toBe(first.leases.get('100.96.2.0-24'));
  });

  it('rejects a bad entry again though its last good lease was kept', () => {
    const bad = serializeDocument({ version: 1, leases: { '100.96.2.0-24': { PublicIP: 'x' } } });
    const document = parseLeaseDocument(bad, first);
    const kept = { ...document, leases: first.leases };
    expect(parseLeaseDocument(bad, kept).rejected).toEqual(document.rejected);
    expect(document.rejected).toHaveLength(1);
  });
});
