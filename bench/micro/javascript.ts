/**
 * What the control plane's own operations cost, by the `benchmark` package: route lookups and
 * changes, and the reads of counters that status and metrics make.
 */
import { compileChanges, compileRoutes } from '../../src/forward/udp/compile.js';
import Benchmark from 'benchmark';
import { cidrOf, type Cidr } from '../../src/config/ipv4.js';
import {
  DataPlane,
  DEFAULT_RESOURCES,
  type DataPlaneOptions,
} from '../../src/dataplane/dataplane.js';
import type { Lease } from '../../src/lease/store.js';
import { RouteTable } from '../../src/network/route-table.js';
import { median } from '../frame/stats.js';
import type { Sample } from './samples.js';

const NETWORK = 0x0a000000;
const FIRST_HOST = 0xac100000;
const MANY = 65_536;
const OWN = MANY - 1;
/** Time of an operation in a round. */
const ROUND_SECONDS = 0.1;

const subnetOf = (number: number): Cidr => cidrOf(NETWORK + number * 256, 24);

const leaseOf = (number: number, host: number): Lease => ({
  subnet: subnetOf(number),
  attributes: { publicIp: FIRST_HOST + host },
  expiresAt: undefined,
});

function tableOf(count: number): RouteTable {
  const table = new RouteTable({
    network: cidrOf(NETWORK, 8),
    own: subnetOf(OWN),
    ownPublicIp: 1,
  });
  table.replaceAll(Array.from({ length: count }, (_, number) => leaseOf(number, number)));
  table.takeChanges();
  return table;
}

/** Addresses spread over the first `count` subnets. */
function addresses(count: number): Uint32Array {
  return Uint32Array.from({ length: 1_024 }, (_, i) => NETWORK + ((i * 7_919) % count) * 256 + 9);
}

/** A sample of each operation a round. Needs namespaces of its own: it opens a data plane. */
export function measureJavaScript(rounds: number): Sample[] {
  const plane = new DataPlane(OPTIONS);
  const each = (what: string, work: Operations): Sample[] =>
    Array.from({ length: rounds }, () => measure(what, work)).flat();
  try {
    return [
      // What is published for the second count stays out of the first.
      ...[2, MANY - 1].flatMap((count) => each(`${count} routes`, operations(plane, count))),
      ...each('data plane', { 'counters and features': () => plane.snapshot() }),
    ];
  } finally {
    plane.close();
  }
}

type Operations = Readonly<Record<string, () => unknown>>;

function operations(plane: DataPlane, count: number): Operations {
  const table = tableOf(count);
  const wanted = addresses(count);
  plane.changeRoutes(compileRoutes(table.routes()));
  let next = 0;
  const address = (): number => wanted[next++ & 1_023] ?? 0;
  const change = (): void => {
    next += 1;
    table.put(leaseOf((next * 7_919) % count, next % 50_000));
  };
  return {
    'route lookup': () => table.lookup(address()),
    "the data plane's lookup": () => plane.lookup(address()),
    'lease to published route': () => {
      change();
      plane.changeRoutes(compileChanges(table.takeChanges()));
    },
  };
}

/**
 * The median of what `benchmark` samples in one round: those samples follow one another within a moment
 * and are no rounds.
 */
function measure(what: string, work: Operations): Sample[] {
  const suite = new Benchmark.Suite();
  for (const [name, fn] of Object.entries(work)) suite.add(name, fn, { maxTime: ROUND_SECONDS });
  const samples: Sample[] = [];
  suite.on('cycle', ({ target }: { target: Benchmark }) => {
    if (target.error !== undefined) throw target.error;
    samples.push({
      group: 'operations of the control plane',
      cell: `${what}, ${target.name ?? ''}`,
      unit: 'ns',
      value: median(target.stats.sample) * 1e9,
    });
  });
  suite.run({ async: false });
  return samples;
}

const OPTIONS: DataPlaneOptions = {
  tunName: 'flannel%d',
  tunAddress: NETWORK + OWN * 256,
  network: NETWORK,
  networkPrefix: 8,
  subnet: NETWORK + OWN * 256,
  subnetPrefix: 24,
  mtu: 1_472,
  bindAddress: 0x7f000001,
  port: 8_285,
  mode: 'batch',
  disabled: [],
  sourceCheck: true,
  ...DEFAULT_RESOURCES,
};
