#!/usr/bin/env node
/** The executable: the process's own streams, arguments and exit code around `main`. */
import './check-node.js';
import { processIo } from './io.js';
import { main } from './program.js';

// `flannelette status | head` closes the pipe early: not an error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

process.exitCode = await main(process.argv.slice(2), processIo());

// The work is done. A call to a store that does not answer, which nobody waits for any more, must
// not keep the process: output still in a pipe gets this long.
setTimeout(() => {
  process.exit();
}, 300).unref();
