/**
 * The process that changes leases, apart from what measures: `node writer.js ORDER`, ORDER as JSON.
 * Prints `ready`, starts on SIGUSR2, and ends with one JSON line (WriterReport).
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Etcd3 } from 'etcd3';
import { changesDue, planChanges, type Change, type Pace } from './changes.js';
import { grantOf, leaseFileText, leaseValue } from './network.js';
import type { EtcdTarget, FileTarget, WriterOrder, WriterReport } from './writer-order.js';

/** Makes changes in the store. */
interface Sink {
  /** Begins changes; at most LIMIT requests are under way. */
  apply(changes: readonly Change[]): Promise<void>;
  /** Waits until the store has them all. */
  settle(): Promise<void>;
  close(): void;
}

/** Interval between checks of the clock: 5 changes at 1,000 a second. */
const TICK_MS = 5;
const IN_FLIGHT_LIMIT = 256;

const order = JSON.parse(process.argv[2] ?? '') as WriterOrder;
const sink = order.target.store === 'etcd' ? etcdSink(order.target) : await fileSink(order.target);
const changes = planChanges(order.pace.count, order.seed);
// A signal alone does not keep a process alive.
const alive = setInterval(() => undefined, 1_000);
const started = new Promise<void>((resolve) => {
  process.once('SIGUSR2', () => {
    resolve();
  });
});
process.stdout.write('ready\n');
await started;
const report = await follow(changes, order.pace, sink);
sink.close();
clearInterval(alive);
process.stdout.write(`${JSON.stringify(report)}\n`);

async function follow(plan: readonly Change[], pace: Pace, to: Sink): Promise<WriterReport> {
  const started = performance.now();
  let made = 0;
  // Until the last change was due and begun: what the store then takes for it is no slower pace.
  let ended = started;
  while (made < plan.length) {
    const due = changesDue(pace, performance.now() - started);
    if (due > made) {
      // The first and the last must not be overtaken by what is under way.
      const last = due === plan.length;
      ended = performance.now();
      await to.apply(plan.slice(made, last ? due - 1 : due));
      if (made === 0 || last) await to.settle();
      if (last) await to.apply(plan.slice(due - 1));
      made = due;
    }
    if (made < plan.length) await delay(TICK_MS);
  }
  await to.settle();
  return {
    changes: made,
    seconds: (ended - started) / 1_000,
    lastChangeAt: Date.now(),
  };
}

function etcdSink(target: EtcdTarget): Sink {
  const client = new Etcd3({ hosts: target.endpoint });
  // By key: two changes of one lease must not overtake each other.
  const underWay = new Map<string, Promise<unknown>>();
  return {
    apply: async (some) => {
      for (const { key, holder } of some) {
        while (underWay.size >= IN_FLIGHT_LIMIT) await Promise.race(underWay.values());
        await underWay.get(key);
        const name = Buffer.from(`${target.prefix}/subnets/${key}`);
        const request: Promise<unknown> =
          holder === undefined
            ? client.kv.deleteRange({ key: name })
            : client.kv.put({
                key: name,
                value: Buffer.from(leaseValue(holder)),
                lease: grantOf(key),
              });
        underWay.set(key, request);
        void request.finally(() => underWay.delete(key));
      }
    },
    settle: async () => {
      await Promise.all(underWay.values());
    },
    close: () => {
      client.close();
    },
  };
}

async function fileSink({ path, expiresAt }: FileTarget): Promise<Sink> {
  const { leases } = JSON.parse(await readFile(path, 'utf8')) as {
    leases: Record<string, { PublicIP: string }>;
  };
  const holders = new Map(Object.entries(leases).map(([key, { PublicIP }]) => [key, PublicIP]));
  let dirty = false;
  const write = async (): Promise<void> => {
    if (!dirty) return;
    dirty = false;
    await writeFile(`${path}.new`, leaseFileText(holders, expiresAt));
    await rename(`${path}.new`, path);
  };
  return {
    apply: async (some) => {
      for (const { key, holder } of some) {
        if (holder === undefined) holders.delete(key);
        else holders.set(key, holder);
        dirty = true;
      }
      if (some.length > 1) await write();
    },
    settle: write,
    close: () => undefined,
  };
}
