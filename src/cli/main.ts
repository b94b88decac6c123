#!/usr/bin/env node
/** The executable: the process's own streams, arguments and exit code around `main`. */
import './check-node.js';
import { keepSmall } from './keep-small.js';
import { ProcessSignals } from './signals.js';

// Before more is loaded, and compiled.
if (process.argv[2] === 'run') keepSmall();

// First of all: until there are listeners, a signal would end the daemon or open Node's debugger.
const signals = process.argv[2] === 'run' ? await ProcessSignals.claim() : undefined;

// `flannelette status | head` closes the pipe early: not an error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

const { processIo } = await import('./io.js');
const { main } = await import('./program.js');
process.exitCode = await main(process.argv.slice(2), processIo(signals));

// The work is done. A call to a store that does not answer, whose result is no longer wanted, must
// not keep the process: output still in a pipe gets this long.
setTimeout(() => {
  process.exit();
}, 300).unref();
