/**
 * A program that embeds a daemon: node embedded-daemon.mjs LEASE_FILE SUBNET_FILE.
 * On SIGUSR2 it blocks its event loop for 5 s, and says so before and after.
 */
import { createLogger, Daemon } from '../../dist/src/index.js';

const [leaseFile, subnetFile] = process.argv.slice(2);
const stop = new AbortController();
process.on('SIGTERM', () => {
  stop.abort();
});
process.on('SIGUSR2', () => {
  process.stdout.write('blocked\n');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5_000);
  process.stdout.write('free\n');
});
// No firewall rules, like every daemon of the lab: its namespaces have no firewall.
const lab = { iface: ['eth0'], forwardRules: false };
const options = { store: { kind: 'file', path: leaseFile }, subnetFile, ...lab };
await new Daemon(options, createLogger()).run(stop.signal);
