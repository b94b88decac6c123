/**
 * One life of the addon in a process: node --expose-gc engine-scenario.mjs NAME.
 * Each scenario ends the way its name says; the test looks at the exit code and what is left.
 */
import { closeSync, readdirSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { native } from '../../dist/src/dataplane/native.js';

const LOOPBACK = 0x7f000001;
const open = (port, more = {}) =>
  new (native().Engine)({
    tunName: 'flannel%d',
    tunAddress: 0x64600100,
    network: 0x64600000,
    networkPrefix: 16,
    subnet: 0x64600100,
    subnetPrefix: 24,
    mtu: 1472,
    bindAddress: LOOPBACK,
    port,
    mode: 'offload',
    workers: 2,
    cpus: [],
    sourcePorts: 1,
    disabled: [],
    sourceCheck: true,
    socketBufferBytes: 0,
    tunQueuePackets: 1000,
    ringBytes: 1024 * 1024,
    pathMtuSeconds: 600,
    ...more,
  });
const running = (port, more) => {
  const engine = open(port, more);
  engine.changeRoutes(Uint32Array.of(0x64600200, 24, 0x0aa80003));
  engine.start();
  return engine;
};
const worker = (port) =>
  new Promise((resolve) => {
    const thread = new Worker(new URL(import.meta.url), { workerData: { port } });
    thread.once('message', () => {
      resolve(thread);
    });
  });
const expectThrow = (work, code) => {
  try {
    work();
  } catch (error) {
    if (error.code === code) return;
    throw error;
  }
  throw new Error(`expected ${code}`);
};
/** Index of the device; undefined when there is none. */
const deviceIndex = (name) =>
  native()
    .interfaces()
    .find((one) => one.name === name)?.index;
/** What of an engine is the same in every life of one mode. */
const describe = (engine) =>
  JSON.stringify([engine.features(), engine.queueSizes(), engine.counters().length]);
const fds = () => readdirSync('/proc/self/fd').length;
const threads = () => readdirSync('/proc/self/task').length;

const scenarios = {
  'natural-end': () => {
    running(9001);
  },
  'process-exit': () => {
    running(9001);
    process.exit(7);
  },
  'worker-terminate': async () => {
    const thread = await worker(9001);
    await thread.terminate();
  },
  'two-workers': async () => {
    const [one, two] = [await worker(9001), await worker(9002)];
    await Promise.all([one.terminate(), two.terminate()]);
  },
  'exit-with-workers': async () => {
    await worker(9001);
    running(9002);
    process.exit(7);
  },
  'close-twice': () => {
    const engine = running(9001);
    engine.close();
    engine.close();
    expectThrow(() => engine.start(), 'EBADF');
    if (engine.counters().length !== 2) throw new Error('counters of a closed engine');
  },
  'start-twice': () => {
    const engine = running(9001);
    expectThrow(() => engine.start(), 'EALREADY');
    engine.close();
  },
  'port-taken': () => {
    const engine = running(9001);
    expectThrow(() => open(9001), 'EADDRINUSE');
    engine.close();
  },
  'queue-pairs': async () => {
    const engine = running(9001, { workers: 4 });
    // Each from a port of its own: the kernel spreads them, and each arrives once. They are too
    // short for packets and go no further.
    const sockets = Array.from({ length: 64 }, () => createSocket('udp4'));
    for (const socket of sockets) socket.send('x', 9001, '127.0.0.1', () => socket.close());
    const received = () =>
      engine
        .counters()
        .filter(({ direction }) => direction === 'decapsulate')
        .map(({ drops }) => drops.short);
    for (let tries = 0; received().reduce((a, b) => a + b) < 64; tries += 1) {
      if (tries === 5_000) throw new Error(`received ${received()} of 64`);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    if (received().length !== 2 || received().includes(0)) throw new Error(`got ${received()}`);
    engine.close();
    if (engine.counters().length !== 4) throw new Error('counters of a closed engine');
  },
  'mode-changes': () => {
    for (const workers of [1, 2, 4]) {
      const engine = running(9001, { workers });
      const device = deviceIndex(engine.tunName);
      const before = describe(engine);
      const held = [fds(), threads()];
      for (const mode of ['basic', 'batch', 'offload', 'basic', 'offload']) {
        engine.changeMode(mode);
        if (deviceIndex(engine.tunName) !== device) throw new Error(`${mode}: another device`);
        if (engine.lookup(0x64600205) !== 0x0aa80003) throw new Error(`${mode}: lost its routes`);
      }
      const after = [fds(), threads()];
      if (String(held) !== String(after)) throw new Error(`leak: ${held} to ${after}`);
      if (describe(engine) !== before) throw new Error(`not as before: ${describe(engine)}`);
      expectThrow(() => engine.changeMode('fast'), undefined);
      engine.close();
      expectThrow(() => engine.changeMode('basic'), 'EBADF');
      if (deviceIndex(engine.tunName) !== undefined) throw new Error('the device stayed');
    }
    // Before it is started: it is not started by that.
    const idle = open(9001);
    idle.changeMode('basic');
    idle.start();
    idle.close();
  },
  'mode-without-device': () => {
    const engine = running(9001);
    execFileSync('ip', ['link', 'delete', engine.tunName]);
    expectThrow(() => engine.changeMode('basic'), 'ENODEV');
    expectThrow(() => engine.start(), 'EBADF');
    running(9001).close();
  },
  collected: async () => {
    (() => running(9001))();
    // A device that is still there keeps its port.
    for (let tries = 0; tries < 100; tries += 1) {
      globalThis.gc();
      await new Promise((resolve) => setImmediate(resolve));
      try {
        open(9001).close();
        return;
      } catch (error) {
        if (error.code !== 'EADDRINUSE') throw error;
      }
    }
    throw new Error('the engine was not collected');
  },
  cycles: () => {
    const cycle = () => {
      const engine = running(9001);
      closeSync(engine.takeEventFd());
      engine.close();
    };
    cycle();
    const before = [fds(), threads()];
    for (let count = 0; count < 50; count += 1) cycle();
    const after = [fds(), threads()];
    if (String(before) !== String(after)) throw new Error(`leak: ${before} to ${after}`);
  },
};

if (isMainThread) {
  await scenarios[process.argv[2]]();
} else {
  running(workerData.port);
  parentPort.postMessage('running');
  setInterval(() => undefined, 1_000);
}
