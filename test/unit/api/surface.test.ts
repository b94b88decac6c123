/** The surface that embedders compile against: what is exported, and what its types take. */
import { describe, expect, expectTypeOf, it } from 'vitest';
import * as entry from '../../../src/index.js';
import * as parts from '../../../src/parts.js';

describe('flannelette', () => {
  it('has twelve names', () => {
    expect(Object.keys(entry).sort()).toEqual([
      'BACKEND_WAYS',
      'DAEMON_DEFAULTS',
      'Daemon',
      'FlannelletteError',
      'chooseBackend',
      'createLogger',
      'createMetrics',
      'formatIpv4',
      'parseConfig',
      'parseIpv4',
      'probeKernel',
      'readSubnetEnv',
    ]);
  });

  it('takes a daemon with a store alone, and no daemon without', () => {
    expectTypeOf<{ store: { kind: 'file'; path: string } }>().toExtend<entry.DaemonOptions>();
    expectTypeOf<{
      store: { kind: 'etcd'; endpoints: string[] };
    }>().toExtend<entry.DaemonOptions>();
    expectTypeOf<{ iface: string[] }>().not.toExtend<entry.DaemonOptions>();
    expectTypeOf<{ store: { kind: 'file' } }>().not.toExtend<entry.DaemonOptions>();
    expectTypeOf(entry.Daemon).toBeConstructibleWith({ store: { kind: 'file', path: '/l' } });
    expectTypeOf<entry.Daemon['run']>().toEqualTypeOf<(signal: AbortSignal) => Promise<void>>();
    expectTypeOf<entry.Daemon['readiness']>().returns.toEqualTypeOf<entry.Readiness>();
    expectTypeOf<entry.Daemon['status']>().returns.toEqualTypeOf<entry.DaemonStatus>();
    expectTypeOf(entry.readSubnetEnv).parameter(0).toEqualTypeOf<string>();
    expectTypeOf(entry.parseConfig).returns.toEqualTypeOf<entry.NetworkConfig>();
    expectTypeOf(entry.parseIpv4).returns.toEqualTypeOf<entry.Ipv4>();
    expectTypeOf(entry.formatIpv4).parameter(0).toEqualTypeOf<entry.Ipv4>();
    expectTypeOf(entry.createLogger).returns.toEqualTypeOf<entry.Logger>();
    expectTypeOf(entry.probeKernel).returns.toEqualTypeOf<readonly entry.KernelFeature[]>();
    expect(entry.DAEMON_DEFAULTS.mode).toBe('auto');
  });
});

describe('flannelette/parts', () => {
  it('has what the daemon is made of', () => {
    const needed = ['EtcdStore', 'LeaseFileStore', 'RouteTable', 'createBackend', 'silentLogger'];
    expect(Object.keys(parts)).toEqual(expect.arrayContaining(needed));
    expectTypeOf<parts.Forwarder>().toHaveProperty('apply');
  });
});
