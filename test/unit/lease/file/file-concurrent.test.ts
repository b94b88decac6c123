/**
 * Real daemons' worth of processes on one lease file, started at the same moment; they run the
 * built code, so `npm run build:ts` comes first (`npm test` does it).
 */
import { fork, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';

const WORKER = fileURLToPath(new URL('../../../support/lease-file-worker.mjs', import.meta.url));
const BUILT = fileURLToPath(
  new URL('../../../../dist/src/lease/file/file-store.js', import.meta.url),
);
const WORKERS = 10;
const RENEWALS = 3;

let directory: string;
let path: string;
let children: ChildProcess[];

beforeEach(async () => {
  if (!existsSync(BUILT)) throw new Error(`${BUILT} is missing: run npm run build:ts first`);
  directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
  path = join(directory, 'leases.json');
  children = [];
});
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(directory, { recursive: true, force: true });
});

function message(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', (code) => {
      reject(new Error(`worker ${child.pid} ended with ${code}`));
    });
  });
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    if (child.exitCode === null && child.signalCode === null) child.once('exit', resolve);
    else resolve(child.exitCode);
  });
}

async function startWorkers(count: number, renewals = RENEWALS): Promise<ChildProcess[]> {
  const started = Array.from({ length: count }, (_, n) =>
    fork(WORKER, [path, `10.168.0.${n + 2}`, `${renewals}`], { execArgv: [] }),
  );
  children.push(...started);
  expect(await Promise.all(started.map(message))).toEqual(started.map(() => 'ready'));
  return started;
}

/** Returns once the file has been replaced that many times. */
async function replacements(count: number): Promise<void> {
  let seen = (await stat(path)).ino;
  for (let n = 0; n < count;) {
    await delay(1);
    const { ino } = await stat(path);
    if (ino !== seen) n++;
    seen = ino;
  }
}

/** Reads without a lock, again and again; every read must be a whole document. */
async function readUntil(done: Promise<unknown>): Promise<number> {
  let finished = false;
  void done.finally(() => (finished = true)).catch(() => undefined);
  let reads = 0;
  while (!finished) {
    const document = JSON.parse(await readFile(path, 'utf8')) as { version: number };
    expect(document.version).toBe(1);
    reads++;
    // The workers need the processor more.
    await delay(1);
  }
  return reads;
}

async function run(workers: ChildProcess[]): Promise<string[]> {
  const reports = Promise.all(workers.map(message)) as Promise<{ subnet: string }[]>;
  const reads = readUntil(reports);
  for (const worker of workers) worker.send('go');
  const subnets = (await reports).map((report) => report.subnet);
  expect(await reads).toBeGreaterThan(0);
  expect(await Promise.all(workers.map(exitOf))).toEqual(workers.map(() => 0));
  return subnets;
}

it('ten daemons acquiring at once get ten subnets, and the file is whole at every moment', async () => {
  // Room for 14, so that collisions would be likely without the lock.
  const network = { Network: '100.96.0.0/20', SubnetLen: 24 };
  await writeFile(path, JSON.stringify({ version: 1, config: network, leases: {}, note: 'kept' }));
  const subnets = await run(await startWorkers(WORKERS));

  expect(new Set(subnets).size).toBe(WORKERS);
  const document = JSON.parse(await readFile(path, 'utf8')) as {
    note: string;
    leases: Record<string, { PublicIP: string }>;
  };
  expect(document.note).toBe('kept');
  const held = Object.entries(document.leases).map(([key, entry]) => `${key} ${entry.PublicIP}`);
  const told = subnets.map((subnet, n) => `${subnet.replace('/', '-')} 10.168.0.${n + 2}`);
  expect(held.sort()).toEqual(told.sort());
  expect(await readdir(directory)).toEqual(['leases.json']);
}, 120_000);

it('daemons killed amid their changes leave no lock, and the others carry on', async () => {
  await writeFile(path, '{"version":1,"config":{"Network":"100.96.0.0/20"},"leases":{}}');
  const victims = await startWorkers(3, Infinity);
  for (const victim of victims) victim.send('go');
  for (const victim of victims) {
    await replacements(10);
    victim.kill('SIGKILL');
    expect(await exitOf(victim)).toBeNull();
  }
  const subnets = await run(await startWorkers(WORKERS));
  expect(new Set(subnets).size).toBe(WORKERS);
  const { leases } = JSON.parse(await readFile(path, 'utf8')) as { leases: object };
  expect(Object.keys(leases)).toHaveLength(WORKERS);
}, 120_000);
