/** Results of benchmarks for tests: medians of a real run, intervals of a hundredth around them. */
import type { Estimate } from '../../bench/frame/stats.js';
import type { Cell, CopiesResult, Fit } from '../../bench/copies/copies-result.js';
import type { Metric } from '../../bench/overlays/metrics.js';
import type { OverlaysResult, Value } from '../../bench/overlays/overlays-result.js';

const SINGLE = [64, 256, 512, 1_024, 1_472];
const TRAIN = [4_096, 8_192, 16_384, 32_768, 65_000];

/** Crossing, checksum, segmented, ns by size, a, b. */
const CROSSING_ROWS = [
  ['container-send', 'software', false, [1888, 1936, 1948, 1968, 1990], 1904, 0.0628],
  ['container-send', 'none', false, [1821, 1891, 1882, 1902, 1898], 1851, 0.0416],
  ['container-send', 'offload', false, [1851, 1889, 1923, 1902, 1926], 1872, 0.0394],
  ['container-send', 'offload', true, [2045, 2235, 2780, 3784, 6915], 1658, 0.0729],
  ['tun-read', 'software', false, [336, 354, 357, 359, 363], 343, 0.0155],
  ['tun-read', 'none', false, [335, 355, 355, 360, 365], 343, 0.0167],
  ['tun-read', 'offload', false, [443, 464, 466, 469, 476], 451, 0.0188],
  ['tun-read', 'offload', true, [618, 747, 1336, 2639, 5343], 256, 0.071],
  ['udp-send', 'software', false, [2212, 2258, 2268, 2301, 2313], 2227, 0.0649],
  ['udp-send', 'none', false, [2185, 2227, 2240, 2263, 2314], 2193, 0.0797],
  ['udp-send', 'offload', false, [2251, 2287, 2315, 2304, 2322], 2269, 0.0393],
  ['udp-send', 'offload', true, [2471, 2663, 3155, 4214, 7148], 2082, 0.0717],
  ['udp-send-device', 'software', false, [1023, 1062, 1077, 1098, 1129], 1033, 0.0665],
  ['udp-send-device', 'none', false, [1009, 1045, 1062, 1090, 1114], 1018, 0.069],
  ['udp-send-device', 'offload', false, [1065, 1097, 1098, 1104, 1107], 1079, 0.0229],
  ['udp-send-device', 'offload', true, [1216, 1366, 1865, 2851, 5448], 884, 0.0641],
  ['udp-receive', 'software', false, [461, 464, 475, 495, 513], 456, 0.038],
  ['udp-receive', 'none', false, [461, 477, 477, 483, 484], 467, 0.0138],
  ['udp-receive', 'offload', false, [461, 476, 479, 481, 484], 467, 0.013],
  ['udp-receive', 'offload', true, [585, 697, 1260, 2625, 5284], 221, 0.0698],
  ['tun-write', 'software', false, [1809, 1823, 1806, 1832, 1836], 1809, 0.0185],
  ['tun-write', 'none', false, [1762, 1795, 1812, 1811, 1822], 1777, 0.0343],
  ['tun-write', 'offload', false, [1883, 1930, 1951, 1953, 1989], 1900, 0.0613],
  ['tun-write', 'offload', true, [2352, 2600, 3143, 4241, 7517], 1954, 0.078],
  ['container-receive', 'software', false, [457, 464, 474, 500, 515], 454, 0.0425],
  ['container-receive', 'none', false, [457, 478, 476, 479, 485], 465, 0.0148],
  ['container-receive', 'offload', false, [456, 476, 478, 480, 485], 465, 0.0157],
  ['container-receive', 'offload', true, [625, 733, 1265, 2480, 5192], 274, 0.0666],
] as const;

const MACHINE = {
  date: '2026-01-02',
  commit: 'abc1234',
  kernel: '6.18.44',
  node: 'v20.20.2',
  cpu: 'Processor @ 2.50GHz',
  cpus: 2,
  busyBefore: 0.01,
} as const;

function around(median: number, count: number): Estimate {
  return { median, low: median * 0.99, high: median * 1.01, count };
}

function cellOf(bytes: number, ns: number, rounds: number): Cell {
  return {
    bytes,
    ns: around(ns, rounds),
    again: around(1, rounds),
    samples: [ns],
    packets: 640,
    batches: 10,
    lossy: 0,
    interrupted: 0,
  };
}

function fitOf(a: number, b: number, rounds: number): Fit {
  return { a: around(a, rounds), b: around(b, rounds), worstDeviation: 0.012 };
}

/** Of `flannelette bench copies`, with everything it measures. */
export function copiesResult(rounds = 41): CopiesResult {
  return {
    kind: 'copies',
    version: 2,
    environment: {
      ...MACHINE,
      command: 'flannelette bench copies --json=copies.json',
      mtu: 1_472,
      rounds,
      batches: 20,
      quick: false,
    },
    crossings: CROSSING_ROWS.map(([crossing, checksum, segmented, times, a, b]) => ({
      crossing,
      checksum,
      segmented,
      cells: times.map((ns, index) =>
        cellOf((segmented ? TRAIN : SINGLE)[index] ?? NaN, ns, rounds),
      ),
      fit: fitOf(a, b, rounds),
    })),
    references: [
      { reference: 'null-syscall', cells: [cellOf(0, 93, rounds)], fit: undefined },
      {
        reference: 'memcpy-cold',
        cells: [cellOf(64, 65.8, rounds), cellOf(1_472, 455, rounds)],
        fit: fitOf(58, 0.25, rounds),
      },
      { reference: 'wake-other-cpu', cells: [cellOf(0, 11_227, rounds)], fit: undefined },
    ],
    missing: [],
    noise: { median: 0.003, p95: 0.016 },
  };
}

const METRICS: readonly (Omit<Metric, 'main'> & { readonly values: readonly number[] })[] = [
  {
    key: 'tcp.throughput',
    title: 'TCP, 1 stream',
    unit: 'Gbit/s',
    digits: 2,
    better: 'more',
    values: [0.31, 1.62, 1.98, 9.41, 7.12, 7.1, 14.6],
  },
  {
    key: 'udp.packets',
    title: 'UDP, 64 bytes',
    unit: 'packets/s',
    digits: 0,
    better: 'more',
    values: [31_000, 152_000, 181_000, 190_000, 301_000, 302_000, 402_000],
  },
  {
    key: 'rtt',
    title: 'Round trip, median',
    unit: 'ms',
    digits: 3,
    better: 'less',
    values: [0.312, 0.083, 0.081, 0.079, 0.031, 0.031, 0.024],
  },
  {
    key: 'rttP99',
    title: 'Round trip, 99th percentile',
    unit: 'ms',
    digits: 3,
    better: 'less',
    values: [1.312, 0.183, 0.181, 0.179, 0.061, 0.061, 0.044],
  },
  {
    key: 'tcp.user',
    title: 'user',
    unit: 'ns',
    digits: 0,
    better: 'less',
    values: [30_000, 900, 700, 220, 60, 60, 40],
  },
  {
    key: 'tcp.system',
    title: 'system',
    unit: 'ns',
    digits: 0,
    better: 'less',
    values: [18_000, 9_000, 7_800, 1_600, 1_900, 1_900, 900],
  },
  {
    key: 'tcp.softirq',
    title: 'softirq',
    unit: 'ns',
    digits: 0,
    better: 'less',
    values: [4_000, 3_000, 2_600, 300, 900, 900, 400],
  },
  {
    key: 'tcp.idle',
    title: 'idle',
    unit: 'ns',
    digits: 0,
    better: 'less',
    values: [20_000, 1_000, 900, 200, 300, 300, 100],
  },
  {
    key: 'tcp.calls',
    title: 'system calls',
    unit: '',
    digits: 3,
    better: 'less',
    values: [4.4, 4.2, 1.9, 0.21, 0, 0, 0],
  },
  {
    key: 'tcp.copied',
    title: 'bytes copied',
    unit: '',
    digits: 2,
    better: 'less',
    values: [6, 6, 6, 6, 2, 2, 2],
  },
];

const MODES = ['js', 'basic', 'batch', 'offload', 'vxlan', 'vxlan-again', 'host-gw'] as const;

/** Of `flannelette bench modes`; the numbers are made up. */
export function modesResult(rounds = 9): OverlaysResult {
  const valueOf = (values: readonly number[], index: number): Value => {
    const [value = NaN, base = NaN] = [values[index], values[MODES.indexOf('vxlan')]];
    return {
      value: around(value, rounds),
      ratio: base === 0 ? null : around(value / base, rounds),
      samples: [value],
    };
  };
  return {
    kind: 'overlays',
    version: 3,
    environment: {
      ...MACHINE,
      title: 'The modes, and what each costs a packet',
      command: 'flannelette bench modes --json=modes.json',
      rounds,
      seconds: 3,
      underlayMtu: 1_500,
      congestion: 'cubic',
      packages: 'iperf3 3.12',
      quick: false,
      repeated: ['js: no ping'],
    },
    countedBy: 'ends',
    metrics: METRICS.map(({ key, title, unit, digits, better }) => ({
      key,
      title,
      unit,
      digits,
      better,
      main: true,
    })),
    underlays: [
      {
        underlay: 'offload',
        subjects: MODES.map((name, index) => ({
          name,
          what: `what ${name} is`,
          mtu: name.startsWith('vxlan') ? 1_450 : name === 'host-gw' ? 1_500 : 1_472,
          kernelOnly: index > 3,
          values: Object.fromEntries(
            METRICS.map(({ key, values }) => [key, valueOf(values, index)]),
          ),
        })),
      },
    ],
    missing: [{ what: 'tcp.yields', reason: 'perf is not installed' }],
  };
}
