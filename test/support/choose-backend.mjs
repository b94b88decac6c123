/**
 * A program that embeds the best backend there is: node choose-backend.mjs LEASE_FILE SUBNET_FILE WAY...
 * It writes what it chose, and each event, as a line of JSON.
 */
import { chooseBackend } from '../../dist/src/index.js';

const [leaseFile, subnetFile, ...ways] = process.argv.slice(2);
const stop = new AbortController();
process.on('SIGTERM', () => {
  stop.abort();
});
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
try {
  const network = await chooseBackend({
    store: { kind: 'file', path: leaseFile },
    subnetFile,
    iface: ['eth0'],
    // Like every daemon of the lab: its namespaces have no firewall.
    forwardRules: false,
    ...(ways.length === 0 ? {} : { ways }),
    retryMs: 2_000,
    signal: stop.signal,
  });
  say({ way: network.way, passedOver: network.passedOver });
  for await (const event of network.events(stop.signal)) {
    if (event.type === 'fallback' || event.type === 'lease') say({ ...event, way: network.way });
  }
  await network.ended;
} catch (error) {
  say({ error: error.message });
  process.exitCode = 1;
}
