/** `flannelette/lookup`: the look-up alone. */
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FlannelletteError, SubnetLookup } from '../../../src/lookup.js';

const ROOT = resolve(import.meta.dirname, '../../..');

describe('SubnetLookup', () => {
  it('finds the host of the longest subnet', () => {
    const hosts = new SubnetLookup([
      ['100.96.0.0/16', '10.168.0.9'],
      ['100.96.2.0/24', '10.168.0.3'],
    ]);
    expect(hosts.hostOf('100.96.2.7')).toBe('10.168.0.3');
    expect(hosts.hostOf('100.96.3.7')).toBe('10.168.0.9');
    expect(hosts.hostOf('100.97.0.1')).toBeUndefined();
    expect(hosts.size).toBe(2);
  });

  it('follows changes', () => {
    const hosts = new SubnetLookup();
    hosts.set('100.96.2.0/24', '10.168.0.3');
    hosts.set('100.96.2.0/24', '10.168.0.4');
    expect([hosts.size, hosts.hostOf('100.96.2.255')]).toEqual([1, '10.168.0.4']);
    expect([hosts.delete('100.96.2.0/24'), hosts.delete('100.96.2.0/24')]).toEqual([true, false]);
    expect(hosts.hostOf('100.96.2.255')).toBeUndefined();
  });

  it('holds the 65,536 subnets of 10.0.0.0/8', () => {
    const hosts = new SubnetLookup(
      Array.from({ length: 65_536 }, (_, at) => [
        `10.${at >> 8}.${at & 255}.0/24`,
        `192.168.${at >> 8}.${at & 255}`,
      ]),
    );
    expect(hosts.size).toBe(65_536);
    expect(hosts.hostOf('10.7.9.200')).toBe('192.168.7.9');
    expect(hosts.hostOf('11.0.0.1')).toBeUndefined();
  });

  it.each([
    ['subnet', ['100.96.2.0/33', '10.168.0.3']],
    ['subnet', ['100.96.2.1/24', '10.168.0.3']],
    ['host', ['100.96.2.0/24', '10.168.0.256']],
  ] as const)('names a %s that is none: %j', (field, [subnet, host]) => {
    const hosts = new SubnetLookup();
    expect(() => {
      hosts.set(subnet, host);
    }).toThrow(new RegExp(`^${field}: `));
    expect(() => hosts.hostOf('100.96')).toThrow(FlannelletteError);
    expect(hosts.size).toBe(0);
  });
});

it('loads neither the addon nor a store', () => {
  const program = `
    const { SubnetLookup } = await import('flannelette/lookup');
    const { sharedObjects } = process.report.getReport();
    console.log(new SubnetLookup([['100.96.2.0/24', '10.168.0.3']]).hostOf('100.96.2.3'));
    console.log(sharedObjects.filter((file) => file.endsWith('.node')).length);
    console.log(process.moduleLoadList.includes('NativeModule http2'));
  `;
  const argv = ['--input-type=module', '--eval', program];
  const { stdout } = spawnSync(process.execPath, argv, { cwd: ROOT, encoding: 'utf8' });
  expect(stdout.split('\n')).toEqual(['10.168.0.3', '0', 'false', '']);
});
