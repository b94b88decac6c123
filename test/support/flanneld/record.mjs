/**
 * What real flanneld makes of the values in values.json, written back into it:
 *
 *   unshare --mount --net --pid --fork --mount-proc node test/support/flanneld/record.mjs FLANNELD
 *
 * Needs root, etcd and etcdctl; run it again for another version of flanneld. test/unit/flanneld.test.ts
 * holds our flags and the table of docs/operations.md against the result.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';

const FILE = fileURLToPath(new URL('values.json', import.meta.url));
const ENDPOINT = 'http://10.168.0.2:2379';
const PREFIXES = ['/coreos.com/network/', '/a/b/', 'a/b/', '/', '', '//a//b/'];
const LIMIT_MS = 2_500;

const flanneld = process.argv[2];
const directory = mkdtempSync(join(tmpdir(), 'record-flanneld-'));
const run = (...argv) => execFileSync(argv[0], argv.slice(1), { encoding: 'utf8' });
const etcdctl = (...argv) =>
  execFileSync('etcdctl', ['--endpoints', ENDPOINT, '--command-timeout=30s', ...argv], {
    encoding: 'utf8',
    env: { ...process.env, ETCDCTL_API: '3' },
  });

buildHost();
const etcd = await startEtcd();
try {
  const recorded = JSON.parse(readFileSync(FILE, 'utf8'));
  recorded.keys = {};
  recorded.listens = {};
  for (const value of Object.values(recorded.outcomes).flat()) {
    const argv = value.slice(1);
    const { outcome, key, listens } = await tryFlags(argv);
    value[0] = outcome;
    if (key !== undefined) recorded.keys[argv.at(-1)] = key;
    if (listens !== undefined) recorded.listens[argv.at(-1)] = listens;
    console.log(outcome, ...argv);
  }
  writeFileSync(FILE, `${JSON.stringify(recorded, null, 2)}\n`);
} finally {
  etcd.kill();
  rmSync(directory, { recursive: true });
}

function buildHost() {
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'peer0');
  for (const name of ['peer0', 'eth0']) run('ip', 'link', 'set', name, 'up');
  run('ip', 'addr', 'add', '10.168.0.2/24', 'dev', 'eth0');
  run('ip', 'route', 'add', 'default', 'via', '10.168.0.1', 'dev', 'eth0');
}

async function startEtcd() {
  const flags = [`--listen-client-urls=${ENDPOINT},http://127.0.0.1:2379`];
  flags.push(`--advertise-client-urls=${ENDPOINT}`, '--listen-peer-urls=http://127.0.0.1:2380');
  flags.push(`--data-dir=${directory}/etcd`, '--log-level=error', '--logger=zap');
  const child = spawn('etcd', flags, { stdio: 'ignore' });
  for (let attempt = 0; attempt < 50; attempt += 1) {
    try {
      etcdctl('endpoint', 'health');
      break;
    } catch {
      await delay(100);
    }
  }
  const config = '{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}';
  for (const prefix of PREFIXES) etcdctl('put', `${prefix}config`, config);
  return child;
}

/** Keys below a `subnets`: what a flanneld that has started leaves. */
function leases() {
  return etcdctl('get', '--prefix', '--keys-only', '')
    .split('\n')
    .filter((key) => key.includes('subnets/'));
}

/** `runs` with a lease, `waits` without one, or `ends`. */
async function tryFlags(argv) {
  const given = (flag) => argv.some((word) => word.startsWith(`-${flag}`));
  const words = [...argv];
  if (!given('etcd-endpoints')) words.unshift(`-etcd-endpoints=${ENDPOINT}`);
  if (!given('subnet-file')) words.unshift(`-subnet-file=${directory}/subnet.env`);
  const child = spawn(flanneld, words, { stdio: 'ignore' });
  let ended = false;
  child.on('exit', () => (ended = true));
  const until = Date.now() + LIMIT_MS;
  while (!ended && leases().length === 0 && Date.now() < until) await delay(50);
  if (!ended) await delay(300);
  const keys = leases();
  for (const key of keys) etcdctl('del', key);
  if (ended) return { outcome: 'ends' };
  const listens = run('ss', '-Hltnp')
    .split('\n')
    .filter((line) => line.includes(`pid=${child.pid},`))
    .map((line) => line.split(/\s+/)[3]);
  child.kill();
  await new Promise((resolve) => child.on('exit', resolve));
  const key = given('etcd-prefix') ? keys[0]?.replace(/subnets\/.*/, 'subnets/') : undefined;
  return { outcome: keys.length > 0 ? 'runs' : 'waits', key, listens: listens[0] };
}
