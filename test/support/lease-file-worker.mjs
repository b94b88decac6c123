/**
 * One daemon's use of the lease file, as a process of its own: it runs the built code (dist), says
 * `ready`, waits for `go`, so that many start at the same moment, acquires, renews, and reports.
 *
 * Arguments: LEASE_FILE PUBLIC_IP RENEWALS (Infinity until killed).
 */
import { LeaseFileStore } from '../../dist/src/lease/file/file-store.js';
import { formatCidr, parseIpv4 } from '../../dist/src/config/ipv4.js';
import { parseNetworkConfig } from '../../dist/src/config/network.js';
import { silentLogger } from '../../dist/src/log.js';

const [path, publicIp, renewals] = process.argv.slice(2);
const { signal } = new AbortController();

const store = await LeaseFileStore.open(path, { log: silentLogger() });
const config = parseNetworkConfig(await store.readNetworkConfig(signal));

process.once('message', async () => {
  const attributes = { publicIp: parseIpv4('PUBLIC_IP', publicIp) };
  const wish = { config, attributes, previousSubnet: undefined };
  let lease = await store.acquireLease(wish, signal);
  for (let n = 0; n < Number(renewals); n++) {
    lease = await store.renewLease(lease, signal);
  }
  await store.close();
  process.send({ subnet: formatCidr(lease.subnet) }, () => process.disconnect());
});
process.send('ready');
