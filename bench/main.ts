/**
 * The program of the benchmarks: what their npm scripts start, and what each starts again, isolated.
 *
 *   node dist/bench/main.js NAME FLAGS              package.json
 *   node dist/bench/main.js NAME --isolated ORDER   bench/frame/frame.ts
 */
import type { Runnable } from './frame/frame.js';

/** Each loads what it alone needs. */
const BENCHMARKS: Readonly<Record<string, () => Promise<Pick<Runnable<object>, 'main'>>>> = {
  overlays: async () => (await import('./overlays/overlays.js')).overlays,
  copies: async () => (await import('./copies/copies.js')).copies,
  lease: async () => (await import('./lease/lease.js')).lease,
  flood: async () => (await import('./flood/flood.js')).flood,
  micro: async () => (await import('./micro/micro.js')).micro,
  soak: async () => (await import('./soak/soak.js')).soak,
};

const [name = '', ...argv] = process.argv.slice(2);
const load = BENCHMARKS[name];
if (load === undefined) throw new RangeError(`${JSON.stringify(name)} is no benchmark`);
process.exitCode = await (await load()).main(argv);
