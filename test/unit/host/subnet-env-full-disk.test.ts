/**
 * A disk that is really full: a tmpfs of one page in a mount namespace of its own, which the kernel
 * removes with the process. Runs the built code, since the namespace needs a process of its own.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const DIST = fileURLToPath(new URL('../../../dist/src/', import.meta.url));
const UNSHARE = ['--user', '--map-root-user', '--mount'];
const canMount =
  spawnSync('unshare', [...UNSHARE, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;

const SCRIPT = `
const { writeSubnetEnv } = await import(process.argv[1] + 'host/subnet-env.js');
const { LeaseFileStore } = await import(process.argv[1] + 'lease/file/file-store.js');
const { parseNetworkConfig } = await import(process.argv[1] + 'config/network.js');
const { silentLogger } = await import(process.argv[1] + 'log.js');
const { readFileSync, readdirSync, writeFileSync } = await import('node:fs');
const directory = process.argv[2];
// The lease file takes the only page there is.
const leases = directory + '/leases.json';
const text = '{"version":1,"config":{"Network":"100.96.0.0/16"},"leases":{}}';
writeFileSync(leases, text);
const subnet = { network: 0x64600100, prefix: 24 };
const env = { network: { network: 0x64600000, prefix: 16 }, subnet, mtu: 1472, ipMasq: true };
const outcome = async (work) => work.then(() => 'done', (e) => e.code + ' ' + e.message);
const { signal } = new AbortController();
const store = await LeaseFileStore.open(leases, { log: silentLogger() });
const config = parseNetworkConfig(await store.readNetworkConfig(signal));
const request = { config, attributes: { publicIp: 0x0aa80002 }, previousSubnet: undefined };
console.log(JSON.stringify({
  subnetEnv: await outcome(writeSubnetEnv(directory + '/subnet.env', env)),
  lease: await outcome(store.acquireLease(request, signal)),
  intact: readFileSync(leases, 'utf8') === text,
  files: readdirSync(directory),
}));
`;

it.skipIf(!canMount)('a full disk is named, and nothing is left or damaged', async () => {
  if (!existsSync(DIST)) throw new Error(`${DIST} is missing: run npm run build:ts first`);
  const directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
  try {
    const mounted =
      'mount -t tmpfs -o size=4k,nr_inodes=16 tmpfs "$1" && exec "$2" --input-type=module -e "$3" "$4" "$1"';
    const output = execFileSync(
      'unshare',
      [...UNSHARE, 'sh', '-c', mounted, 'sh', directory, process.execPath, SCRIPT, DIST],
      { encoding: 'utf8', timeout: 30_000 },
    );
    expect(JSON.parse(output)).toEqual({
      subnetEnv: expect.stringMatching(
        /^ENOSPC cannot write the subnet file .*subnet\.env \(ENOSPC/,
      ) as string,
      lease: expect.stringMatching(
        /^ENOSPC cannot write the lease file .*leases\.json \(ENOSPC/,
      ) as string,
      intact: true,
      files: ['leases.json'],
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
