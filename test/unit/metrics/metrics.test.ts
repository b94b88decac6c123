import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { createMetrics, type MetricsSample } from '../../../src/metrics/metrics.js';
import { counters } from '../../support/fake-dataplane.js';
import { toolAt } from '../../../src/testbed/tools.js';

interface Scrape {
  readonly types: ReadonlyMap<string, string>;
  readonly values: ReadonlyMap<string, number>;
}

/** The text format, strictly: every sample after the TYPE of its family. */
function parse(text: string): Scrape {
  const types = new Map<string, string>();
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('# HELP ')) continue;
    const type = /^# TYPE (\w+) (\w+)$/.exec(line);
    if (type !== null) {
      types.set(type[1] ?? '', type[2] ?? '');
      continue;
    }
    const match = /^(\w+)(\{(?:\w+="[^"]*",?)*\})? (\S+)$/.exec(line);
    if (match === null) throw new Error(`not the text format: ${line}`);
    const name = match[1] ?? '';
    const family = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '');
    if (!types.has(family)) throw new Error(`no TYPE before ${line}`);
    const key = `${name}${match[2] ?? ''}`;
    if (values.has(key)) throw new Error(`twice: ${key}`);
    values.set(key, Number(match[3]));
  }
  return { types, values };
}

function setUp(first: Partial<MetricsSample> = {}) {
  let samples = 0;
  let sample: MetricsSample = {
    dataPlane: undefined,
    dataPlaneUp: true,
    dataPlaneRestarts: 0,
    ready: true,
    routes: 2,
    rejectedLeases: 1,
    leaseExpiresAt: 1_700_000_000_500,
    storeUp: true,
    leasesAgeSeconds: 0,
    firewall: { inPlace: true, repairs: 3 },
    problems: [],
    features: [
      { name: 'mmsg', state: 'yes', since: '3.0', detail: '' },
      { name: 'udp-gro', state: 'no', since: '5.12', detail: '' },
      { name: 'tun', state: 'untried', since: '2.4', detail: '' },
    ],
    ...first,
  };
  const metrics = createMetrics({
    version: '1.2.3',
    mode: 'batch',
    sample: () => {
      samples += 1;
      return sample;
    },
  });
  return {
    metrics,
    samples: () => samples,
    set: (more: Partial<MetricsSample>) => {
      sample = { ...sample, ...more };
    },
    scrape: async () => parse((await metrics.scrape()).text),
  };
}

const plane = (packets: number) => ({
  mode: 'batch' as const,
  features: [],
  queues: null,
  threads: [
    counters('encapsulate', packets, {
      queueDrops: 3,
      drops: { no_route: 7, short: 0 },
      batchSizes: [3, 2, 1],
      ringBytes: 5,
      icmpUnreachable: 4,
    }),
    counters('decapsulate', 1),
  ],
});

describe('metrics', () => {
  it('shows the state of the control plane', async () => {
    const { scrape } = setUp();
    const { values, types } = await scrape();
    const build = `flannelette_build_info{version="1.2.3",mode="batch",node_version="${process.version}"}`;
    expect(values.get(build)).toBe(1);
    expect(values.get('flannelette_ready')).toBe(1);
    expect(values.get('flannelette_store_up')).toBe(1);
    expect(values.get('flannelette_routes')).toBe(2);
    expect(values.get('flannelette_rejected_leases')).toBe(1);
    expect(values.get('flannelette_lease_expiry_timestamp_seconds')).toBe(1_700_000_000.5);
    expect(values.get('flannelette_kernel_feature{feature="mmsg"}')).toBe(1);
    expect(values.get('flannelette_kernel_feature{feature="udp-gro"}')).toBe(0);
    expect(values.get('flannelette_kernel_feature{feature="tun"}')).toBe(-1);
    expect(types.has('process_cpu_seconds_total')).toBe(true);
  });

  it('has the path MTU of hosts that have one of their own, as long as they do', async () => {
    const { scrape, set } = setUp({ pathMtus: [{ host: '10.168.0.3', bytes: 1_372 }] });
    const name = 'flannelette_path_mtu_bytes{host="10.168.0.3"}';
    expect((await scrape()).values.get(name)).toBe(1_372);
    set({ pathMtus: [] });
    expect((await scrape()).values.has(name)).toBe(false);
  });

  it('leaves the expiry of a reservation out', async () => {
    const { scrape, set } = setUp();
    set({ leaseExpiresAt: undefined });
    const { values } = await scrape();
    expect(values.has('flannelette_lease_expiry_timestamp_seconds')).toBe(false);
    set({ leaseExpiresAt: 1_000 });
    expect((await scrape()).values.get('flannelette_lease_expiry_timestamp_seconds')).toBe(1);
  });

  it('shows the data plane by direction, with the totals as they are and not added up', async () => {
    const { scrape, set } = setUp({ dataPlane: plane(10) });
    await scrape();
    const { values, types } = await scrape();
    expect(types.get('flannelette_sent_packets_total')).toBe('counter');
    expect(values.get('flannelette_sent_packets_total{direction="encapsulate"}')).toBe(10);
    expect(values.get('flannelette_received_bytes_total{direction="encapsulate"}')).toBe(1_000);
    const drop = 'flannelette_dropped_packets_total{direction="encapsulate",reason="no_route"}';
    expect(values.get(drop)).toBe(7);
    const icmp = 'flannelette_icmp_errors_total{direction="encapsulate",type="unreachable"}';
    expect(values.get(icmp)).toBe(4);
    const call = 'flannelette_syscalls_total{direction="encapsulate",call="read"}';
    expect(values.get(call)).toBe(10);
    const queue = 'flannelette_queue_dropped_packets_total{direction="encapsulate"}';
    expect(values.get(queue)).toBe(3);
    expect(values.get('flannelette_ring_bytes{direction="encapsulate"}')).toBe(5);
    expect(values.get('flannelette_ring_capacity_bytes{direction="decapsulate"}')).toBe(4_096);
    set({ dataPlane: plane(25) });
    const later = await scrape();
    expect(later.values.get('flannelette_sent_packets_total{direction="encapsulate"}')).toBe(25);
  });

  it('gives batch sizes as a cumulative histogram', async () => {
    const { scrape } = setUp({ dataPlane: plane(10) });
    const { values, types } = await scrape();
    expect(types.get('flannelette_batch_packets')).toBe('histogram');
    const bucket = (le: string) =>
      values.get(`flannelette_batch_packets_bucket{direction="encapsulate",le="${le}"}`);
    expect(['1', '2', '4', '+Inf'].map(bucket)).toEqual([3, 5, 6, 6]);
    expect(values.get('flannelette_batch_packets_count{direction="encapsulate"}')).toBe(6);
    expect(values.get('flannelette_batch_packets_sum{direction="encapsulate"}')).toBe(10);
  });

  it('takes one sample a scrape, also when the registry is asked directly', async () => {
    const { metrics, samples } = setUp({ dataPlane: plane(1) });
    await metrics.scrape();
    expect(samples()).toBe(1);
    await metrics.registry.metrics();
    expect(samples()).toBe(2);
    await metrics.registry.getMetricsAsJSON();
    expect(samples()).toBe(3);
  });

  it('keeps one series for a feature whose state changes', async () => {
    const { scrape, set } = setUp();
    const series: string[][] = [];
    for (const state of ['unused', 'active', 'refused', 'disabled'] as const) {
      const features = [{ name: 'udp-gro' as const, state, errno: 0 }];
      set({ dataPlane: { ...plane(1), features } });
      const { values } = await scrape();
      const found = [...values].filter(([name]) => name.startsWith('flannelette_feature_active'));
      series.push(found.map(([name, value]) => `${name} ${value}`));
    }
    const name = 'flannelette_feature_active{feature="udp-gro"}';
    expect(series).toEqual([[`${name} 0`], [`${name} 1`], [`${name} 0`], [`${name} 0`]]);
  });

  it('scrapes samples of embedders that know of no problems', async () => {
    const { scrape, set } = setUp();
    set({ problems: undefined });
    expect((await scrape()).values.get('flannelette_ready')).toBe(1);
  });

  const promtool = toolAt('promtool');
  it.skipIf(promtool === undefined)('satisfies `promtool check metrics`', async () => {
    const { metrics } = setUp({
      dataPlane: { ...plane(1), features: [{ name: 'mmsg', state: 'active', errno: 0 }] },
      problems: [{ id: 'some_problem', message: 'something' }],
    });
    const { text } = await metrics.scrape();
    const { status, stdout, stderr } = spawnSync(promtool ?? '', ['check', 'metrics'], {
      input: text,
      encoding: 'utf8',
    });
    expect([status, stdout, stderr]).toEqual([0, '', '']);
  });

  it('keeps the registries of two daemons apart', async () => {
    const one = setUp({ routes: 1 });
    const two = setUp({ routes: 2 });
    expect((await one.scrape()).values.get('flannelette_routes')).toBe(1);
    expect((await two.scrape()).values.get('flannelette_routes')).toBe(2);
    one.metrics.close();
    expect(one.metrics.registry.getMetricsAsArray()).toEqual([]);
  });
});
