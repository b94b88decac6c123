/**
 * What nobody should do to the addon, in a process of its own: node addon-abuse.mjs NAME [COUNT].
 *
 *   terminate:CALL  ends COUNT workers, several at a time, in the midst of calls in a row
 *   exit:CALL       the same by process.exit in the worker itself
 *   others          junk as arguments, objects whose getters throw, loop or end the worker
 *
 * The process ends with code 0 and says nothing when every answer was an exception or a value, and no
 * descriptor, thread or engine is left.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { native } from '../../dist/src/dataplane/native.js';

const AT_A_TIME = 4;
const addon = native();
const OPTIONS = {
  tunName: 'flannel%d',
  tunAddress: 0x64600100,
  network: 0x64600000,
  networkPrefix: 16,
  subnet: 0x64600100,
  subnetPrefix: 24,
  mtu: 1472,
  bindAddress: 0x7f000001,
  port: 9001,
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
};
const open = (more = {}) => new addon.Engine({ ...OPTIONS, ...more });
const ROUTE = Uint32Array.of(0x64600200, 24, 0x0aa80003);

/** Throws unless `work` does; whatever it throws. */
function expectThrow(what, work) {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error(`${what}: expected an exception`);
}
const silently = (work) => () => {
  try {
    work();
  } catch {
    // What is called in a row here is refused each time.
  }
};

/** What workers do in a row, each with an engine of its own that nobody closes. */
const calls = {
  counters: (engine) => () => engine.counters(),
  features: (engine) => () => engine.features(),
  queueSizes: (engine) => () => engine.queueSizes(),
  changeRoutes: (engine) => () => engine.changeRoutes(ROUTE),
  wrongRoutes: (engine) => silently(() => engine.changeRoutes(new Uint32Array(2))),
  lookup: (engine) => () => engine.lookup(0x64600203),
  restoreDevice: (engine) => () => engine.restoreDevice(),
  changeMode: (engine) => () => {
    engine.changeMode('basic');
    engine.changeMode('offload');
  },
  everything: (engine, more) => () => {
    engine.counters();
    engine.changeRoutes(ROUTE);
    engine.lookup(1);
    engine.close();
    engine = open(more);
    engine.start();
  },
  openAndClose: (engine, more) => {
    engine.close();
    return () => open(more).close();
  },
  refused: () => silently(() => open({ mode: 'none' })),
  getters: (engine, more) => {
    engine.close();
    const options = { ...OPTIONS, ...more };
    const read = Object.fromEntries(
      Object.keys(options).map((key) => [key, { get: () => options[key] }]),
    );
    return () => new addon.Engine(Object.defineProperties({}, read)).close();
  },
  interfaces: () => () => addon.interfaces(),
  cpus: () => () => addon.cpus(),
  notify: () => silently(() => addon.notify('/nowhere', 'READY=1')),
  probe: () => () => addon.probe(),
};

/** One worker that makes a call in a row until it is ended, by us or by itself. */
async function endOneWorker(call, port, itself) {
  const worker = new Worker(new URL(import.meta.url), { workerData: { call, port, itself } });
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  if (!itself) {
    // Somewhere in the first thousands of calls.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
    await worker.terminate();
  }
  const code = await ended;
  if (code !== (itself ? 3 : 1)) throw new Error(`the worker ended with ${code}`);
}

/**
 * Descriptors and threads: the fewest of some looks, since a thread that was joined is there for a moment
 * more (the kernel wakes who joins it before it takes the task away).
 */
async function left() {
  const fewest = [Infinity, Infinity];
  for (let look = 0; look < 10; look += 1) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    for (const [index, folder] of ['fd', 'task'].entries()) {
      const found = readdirSync(`/proc/self/${folder}`).length;
      fewest[index] = Math.min(fewest[index], found);
    }
  }
  return fewest;
}

async function endWorkers(call, count, itself) {
  await endOneWorker(call, OPTIONS.port, itself);
  const before = await left();
  let started = 0;
  const inTurns = async (lane) => {
    while (started++ < count) await endOneWorker(call, OPTIONS.port + 1 + lane, itself);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, (_, lane) => inTurns(lane)));
  const after = await left();
  if (String(before) !== String(after))
    throw new Error(`descriptors, threads: ${before}, ${after}`);
}

const JUNK = [
  ...[undefined, null, true, 0, -1, 1.5, NaN, Infinity, 2 ** 53, 10n, '', 'x', Symbol('x')],
  ...[{}, [], () => undefined, new Date(NaN), new Map(), new Proxy({}, {}), new Proxy([], {})],
  ...[new Uint8Array(3), new Uint32Array(2), new Float64Array(3), new ArrayBuffer(8)],
  ...[
    Object.create(null),
    new Array(2 ** 32 - 1),
    { length: 2 ** 40 },
    'a\0b',
    'x'.repeat(2 ** 20),
  ],
];
/** What an exception may be. */
const THROWN = [
  new Error('thrown'),
  undefined,
  null,
  42,
  'text',
  Symbol('x'),
  {},
  new Proxy({}, {}),
];

/** A Proxy that throws whatever it is asked. */
const hostile = (target, thrown) =>
  new Proxy(target, {
    get: () => {
      throw thrown;
    },
  });
const throwing = (thrown) => ({
  enumerable: true,
  get: () => {
    throw thrown;
  },
});

const scenarios = {
  'junk-to-the-constructor': () => {
    for (const junk of JUNK) {
      expectThrow('options', () => new addon.Engine(junk));
      for (const key of Object.keys(OPTIONS)) {
        // What is right by chance opens an engine.
        silently(() => open({ [key]: junk }).close())();
        expectThrow(key, () => new addon.Engine({ [key]: junk }));
      }
      for (const key of ['cpus', 'disabled']) silently(() => open({ [key]: [junk] }).close())();
    }
    expectThrow('no new', () => addon.Engine(OPTIONS));
    expectThrow('nothing', () => new addon.Engine());
  },
  'throwing-getters': () => {
    for (const thrown of THROWN) {
      for (const key of Object.keys(OPTIONS)) {
        const options = Object.defineProperty({ ...OPTIONS }, key, throwing(thrown));
        const error = expectThrow(key, () => new addon.Engine(options));
        if (error !== thrown) throw new Error(`${key}: threw ${String(error)}`);
      }
      expectThrow('a Proxy', () => new addon.Engine(hostile({}, thrown)));
      for (const key of ['cpus', 'disabled']) {
        const elements = Object.defineProperty([], 0, throwing(thrown));
        const error = expectThrow(key, () => open({ [key]: elements }));
        if (error !== thrown) throw new Error(`${key}[0]: threw ${String(error)}`);
        expectThrow(key, () => open({ [key]: hostile([], thrown) }));
        expectThrow(key, () => open({ [key]: hostile({}, thrown) }));
      }
    }
    const revoked = Proxy.revocable({}, {});
    revoked.revoke();
    expectThrow('a revoked Proxy', () => new addon.Engine(revoked.proxy));
    expectThrow('a revoked Proxy', () => open({ cpus: revoked.proxy }));
  },
  'junk-to-the-methods': () => {
    // Some of the junk is taken for the path of a socket: /run is the isolated process's own.
    process.chdir('/run');
    const engine = open();
    const methods = Object.getOwnPropertyNames(addon.Engine.prototype).filter(
      (name) => !['constructor', 'close'].includes(name),
    );
    const takesNothing = ['probe', 'interfaces', 'cpus', 'giveFilePagesBack'];
    const endsProcess = ['guardSignals', 'exitWithin', 'dropPrivileges', 'restartWithLess'];
    const functions = Object.keys(addon).filter(
      (name) =>
        typeof addon[name] === 'function' &&
        !['Engine', ...takesNothing, ...endsProcess].includes(name),
    );
    for (const junk of JUNK) {
      for (const name of methods) {
        silently(() => engine[name](junk, junk))();
        // Of another class, or of none.
        for (const other of [junk, Object.create(engine), new Proxy(engine, {}), {}])
          expectThrow(`${name} of junk`, () => addon.Engine.prototype[name].call(other));
      }
      for (const name of takesNothing) addon[name](junk);
      for (const name of functions) silently(() => addon[name](junk, junk, junk, junk, junk))();
      expectThrow('a prefix', () => addon.routes(0x64600000, 33));
      for (const work of [addon.putRoute, addon.deleteRoute]) {
        expectThrow('a route', () => work(junk, junk, junk, junk));
        silently(() => work(0x64600200, 24, junk, 2 ** 31 - 1))();
        expectThrow('a prefix', () => work(0x64600200, 33, 0x0aa80003, 1));
      }
      expectThrow('notify', () => addon.notify(junk, junk));
    }
    const detached = new Uint32Array(3);
    globalThis.structuredClone(detached.buffer, { transfer: [detached.buffer] });
    engine.changeRoutes(detached);
    engine.changeRoutes(new Uint32Array(new SharedArrayBuffer(12)));
    expectThrow('too many', () => engine.changeRoutes(new Uint32Array(3 * (2 ** 24 + 1))));
    engine.close();
    for (const name of methods) silently(() => engine[name](ROUTE))();
  },
  'setters-on-prototypes': () => {
    const engine = open();
    const names = [
      'name',
      'errno',
      'code',
      'drops',
      'batchSizes',
      'address',
      'tunName',
      'tunPackets',
    ];
    const trap = {
      configurable: true,
      set: () => {
        throw new Error('set');
      },
    };
    for (const name of names) Object.defineProperty(Object.prototype, name, trap);
    try {
      engine.counters();
      engine.features();
      engine.queueSizes();
      addon.interfaces();
      addon.probe();
      expectThrow('taken', () => open());
      open({ port: OPTIONS.port + 1 }).close();
      Object.defineProperty(Array.prototype, 0, trap);
      for (const work of [
        () => engine.counters(),
        () => engine.features(),
        addon.probe,
        addon.cpus,
      ])
        silently(work)();
    } finally {
      for (const name of names) delete Object.prototype[name];
      delete Array.prototype[0];
    }
    engine.close();
  },
  'out-of-stack': () => {
    const engine = open();
    const work = [
      ...[() => engine.counters(), () => engine.features(), () => engine.changeRoutes(ROUTE)],
      ...[() => open(), () => addon.interfaces(), () => addon.notify('/nowhere', 'x')],
    ];
    for (const call of work) {
      const deeper = () => {
        silently(call)();
        deeper();
      };
      expectThrow('no end', deeper);
    }
    engine.close();
  },
  // The environment goes on after an interruption that no code can catch.
  'interrupted-by-node-vm': () => {
    const context = { addon, OPTIONS, ROUTE, engine: open(), port: OPTIONS.port + 1 };
    const codes = [
      'for (;;) engine.counters()',
      'for (;;) engine.features()',
      'for (;;) engine.changeRoutes(ROUTE)',
      'for (;;) try { engine.changeRoutes(1) } catch {}',
      'for (;;) try { new addon.Engine({}) } catch {}',
      'for (;;) new addon.Engine({ ...OPTIONS, port }).close()',
      'new addon.Engine({ ...OPTIONS, get mtu() { for (;;); } })',
      'new addon.Engine({ ...OPTIONS, cpus: Object.defineProperty([], 0, { get() { for (;;); } }) })',
    ];
    for (const code of codes) {
      for (let timeout = 1; timeout <= 20; timeout += 1) {
        const error = expectThrow(code, () => runInNewContext(code, context, { timeout }));
        if (error.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      }
    }
    context.engine.close();
    open().close();
  },
  'no-memory-for-packets': () => {
    const size = /^VmSize:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1];
    const limit = (Number(size) + 400 * 1024) * 1024;
    execFileSync('prlimit', [`--pid=${process.pid}`, `--as=${limit}`]);
    const error = expectThrow('1 GiB', () => open({ workers: 32, ringBytes: 64 * 1024 * 1024 }));
    if (error.code !== 'ENOMEM') throw error;
    open().close();
  },
  'out-of-memory': async () => {
    for (const call of ['counters', 'features', 'interfaces']) {
      const worker = new Worker(new URL(import.meta.url), {
        workerData: { call, port: OPTIONS.port, hoard: true },
        resourceLimits: { maxOldGenerationSizeMb: 12, maxYoungGenerationSizeMb: 2 },
      });
      const error = await new Promise((resolve) => worker.once('error', resolve));
      if (error.code !== 'ERR_WORKER_OUT_OF_MEMORY') throw error;
    }
  },
  // In the midst of the constructor, by a getter it asks.
  'exit-in-a-getter': () => endWorkers('exitInGetter', 20, true),
  'terminate-in-a-getter': () => endWorkers('loopInGetter', 20, false),
};

function work({ call, port, itself, hoard }) {
  const endless = (getter) => () => Object.defineProperty({ ...OPTIONS }, 'mtu', { get: getter });
  const special = {
    exitInGetter: endless(() => process.exit(3)),
    loopInGetter: endless(() => {
      for (;;);
    }),
  };
  const options = special[call]?.();
  let round;
  if (options !== undefined) {
    round = () => new addon.Engine(options);
  } else {
    const engine = open({ port });
    engine.start();
    round = calls[call](engine, { port });
  }
  parentPort.postMessage('running');
  const last = 1 + Math.random() * 20;
  const hoarded = [];
  for (let count = 0; ; count += 1) {
    const value = round();
    if (hoard) hoarded.push(value);
    if (itself && count >= last) process.exit(3);
  }
}

if (isMainThread) {
  const [name, count] = process.argv.slice(2);
  const [how, call] = name.split(':');
  if (call === undefined) await scenarios[name]();
  else await endWorkers(call, Number(count), how === 'exit');
} else {
  work(workerData);
}
