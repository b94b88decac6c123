#!/usr/bin/env node
/** The executable: the process's own streams, arguments and exit code around `main`. */
import './check-node.js';
import { keepSmall } from './keep-small.js';
import { ProcessSignals } from './signals.js';

// Before more is loaded, and compiled.
const isRun = process.argv[2] === 'run';
if (isRun) keepSmall();

// First of all: until there are listeners, a signal would end the daemon or open Node's debugger.
const serves = /^(run|extension serve)\b/.test(process.argv.slice(2, 4).join(' '));
const signals = serves ? await ProcessSignals.claim() : undefined;

// Before the rest is loaded, because the process may begin anew.
let privilegesKept: string | undefined;
if (isRun) {
  const { giveUpPrivileges } = await import('./less-privileges.js');
  privilegesKept = await giveUpPrivileges(process.argv.slice(3));
}

// `flannelette status | head` closes the pipe early: not an error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

const { processIo } = await import('./io.js');
const { main } = await import('./program.js');
process.exitCode = await main(process.argv.slice(2), processIo(signals, privilegesKept));

// The work is done. A call to a store that does not answer, whose result is no longer wanted, must
// not keep the process: output still in a pipe gets this long.
setTimeout(() => {
  process.exit();
}, 300).unref();
