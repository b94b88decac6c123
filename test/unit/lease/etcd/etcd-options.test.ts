/** What `--etcd-*` flags are taken, as flanneld takes them, what is warned about, and what is never shown. */
import { describe, expect, it } from 'vitest';
import { KeySpace } from '../../../../src/lease/etcd/codec.js';
import { checkEtcdOptions, type EtcdOptions } from '../../../../src/lease/etcd/etcd-options.js';

const PREFIX = '/coreos.com/network';
const check = (endpoints: readonly string[], more: Partial<EtcdOptions> = {}) =>
  checkEtcdOptions({ endpoints, prefix: PREFIX, ...more });
const HTTP = ['http://10.168.0.1:2379'];
const HTTPS = ['https://10.168.0.1:2379'];

describe('endpoints', () => {
  it.each([
    [['http://10.168.0.1:2379'], ['http://10.168.0.1:2379']],
    [['10.168.0.1:2379'], ['http://10.168.0.1:2379']],
    [['HTTP://Etcd.Example:2379/'], ['http://etcd.example:2379']],
    [
      ['http://etcd', 'https://etcd'],
      ['http://etcd:80', 'https://etcd:443'],
    ],
    [['http://[::1]:2379'], ['http://[::1]:2379']],
    [
      ['http://a:1', '', ' http://b:2 ', ''],
      ['http://a:1', 'http://b:2'],
    ],
    [['http://a:1', 'a:1'], ['http://a:1']],
    [
      ['http://a:1', 'https://b:2'],
      ['http://a:1', 'https://b:2'],
    ],
  ])('%j are %j', (given, normal) => {
    expect(check(given)).toMatchObject({ options: { endpoints: normal }, warnings: [] });
  });

  it('without a scheme are https with a client certificate, as in flanneld', () => {
    const files = { certFile: '/c.pem', keyFile: '/k.pem' };
    expect(check(['10.168.0.1:2379'], files).options.endpoints).toEqual([
      'https://10.168.0.1:2379',
    ]);
  });

  it.each([
    ['http://a:1/v3/', /http:\/\/a:1 is used without the path given with it$/],
    ['http://a:1?x=1', /http:\/\/a:1 is used without the query given with it$/],
    ['http://user:secret@a:1', /without the user and password given with it; use --etcd-username/],
  ])('%s: what has no effect is told', (given, warning) => {
    const { options, warnings } = check([given]);
    expect(options.endpoints).toEqual(['http://a:1']);
    expect(warnings).toEqual([expect.stringMatching(warning)]);
    expect(warnings.join('\n')).not.toContain('secret');
  });

  it.each([
    ['ftp://a:1'],
    ['http://'],
    ['http://a:99999'],
    ['http://a b:1'],
    [''],
    ['unix:///run/etcd.sock'],
    ['ftp://user:secret@a:1'],
    ['http://user:sec/ret@a:99999'],
    ['user:secret@a:99999'],
    ['http://user:se@cret@a b'],
  ])('%s is refused, without a secret in the message', (given) => {
    expect(() => check([given])).toThrow(/^--etcd-endpoints: .* is not valid: expected /);
    try {
      check([given]);
    } catch (error) {
      expect(String(error)).not.toMatch(/sec|cret/);
    }
  });
});

describe('files', () => {
  it('have no effect with http endpoints, which is told', () => {
    const { options, warnings } = check(HTTP, { caFile: '/ca', certFile: '/c', keyFile: '/k' });
    expect(options).toEqual({ endpoints: HTTP, prefix: PREFIX });
    expect(warnings).toEqual([
      '--etcd-cafile has no effect with http endpoints',
      '--etcd-certfile has no effect with http endpoints',
      '--etcd-keyfile has no effect with http endpoints',
    ]);
  });

  it('a certificate without its key, or a key alone, has no effect, which is told', () => {
    expect(check(HTTPS, { caFile: '/ca', certFile: '/c' })).toEqual({
      options: { endpoints: HTTPS, prefix: PREFIX, caFile: '/ca' },
      warnings: ['--etcd-certfile has no effect without --etcd-keyfile'],
    });
    expect(check(HTTPS, { keyFile: '/k' }).warnings).toEqual([
      '--etcd-keyfile has no effect without --etcd-certfile',
    ]);
  });
});

describe('users', () => {
  it('are user and password, or nobody', () => {
    const both = { username: 'flannel', password: 'secret' };
    expect(check(HTTP, both)).toEqual({
      options: { endpoints: HTTP, prefix: PREFIX, ...both },
      warnings: [],
    });
    expect(check(HTTP, { username: 'flannel' })).toEqual({
      options: { endpoints: HTTP, prefix: PREFIX },
      warnings: ['--etcd-username has no effect without --etcd-password'],
    });
    expect(check(HTTP, { username: '', password: 'secret' }).warnings).toEqual([
      '--etcd-password has no effect without --etcd-username',
    ]);
  });
});

describe('the prefix', () => {
  it.each([
    ['/coreos.com/network', '/coreos.com/network/config'],
    ['/coreos.com/network/', '/coreos.com/network/config'],
    ['//a//b/', '/a/b/config'],
    ['/a/./b/../c', '/a/c/config'],
    ['a/b', 'a/b/config'],
    ['/', '/config'],
    ['', 'config'],
  ])('%j keeps the configuration at %s, as in flanneld', (prefix, config) => {
    const { options } = check(HTTP, { prefix });
    const keys = new KeySpace(options.prefix);
    expect(keys.config).toBe(config);
    expect(keys.subnets).toBe(config.replace(/config$/, 'subnets/'));
  });

  it('is not a text of several lines', () => {
    expect(() => check(HTTP, { prefix: '/a\n/b' })).toThrow(/^--etcd-prefix: /);
  });
});
