/**
 * Where subnet.env cannot be written - a full tmpfs, a directory turned read-only - a daemon forwards
 * all the same, says what is wrong, and leaves nothing half-written; it writes when it can.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { ipBatch, LAB_DIRECTORY } from '../../src/testbed/topology.js';
import { parseRemembered, rememberedPath } from '../../src/lease/remembered/remembered-file.js';
import { EtcdLab } from '../support/etcd-lab.js';

const PAGE = 4_096;
let lab: EtcdLab;
let directory: string;
let subnetFile: string;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
  directory = join(LAB_DIRECTORY, 'small');
  subnetFile = join(directory, 'subnet.env');
});
afterAll(() => lab.tearDown());
beforeEach(async () => {
  await lab.configure();
  await mkdir(directory, { recursive: true });
  // Four pages: subnet.env and what is remembered, each old and new. Sockets take none.
  await run(['mount', '-t', 'tmpfs', '-o', `size=${4 * PAGE}`, 'small', directory]);
});
afterEach(async () => {
  await lab.reset();
  await ipBatch(lab.near.host, ['link set eth0 mtu 1500']);
  await run(['umount', directory]);
});

it('a full tmpfs: forwards, 503 and says why, writes both files when there is room', async () => {
  const fill = join(directory, 'fill');
  await writeFile(fill, Buffer.alloc(4 * PAGE));
  const far = await lab.start(lab.far);
  const near = await lab.start(lab.near, { subnetFile });
  await far.ready();
  const told = await near.logged('cannot write subnet.env; retrying', 10_000);
  expect(told).toMatchObject({ level: 50, path: subnetFile });
  expect(told.error).toMatch(/cannot write the subnet file .*ENOSPC/);
  const subnet = (await near.status()).lease?.subnet ?? '';
  await lab.reaches(lab.far, subnet.replace('/24', ''));
  await lab.reaches(lab.near, lab.far.tunAddress);
  const { code, detail } = await near.readyz();
  expect(code).toBe(503);
  expect(detail).toMatchObject({ ready: false, synced: true, subnetFileWritten: false });
  expect(await near.metric('ready')).toBe(0);
  await near.logged(
    'cannot write the lease cache: a restart without the lease store would not forward',
    10_000,
  );
  expect((await readdir(directory)).sort()).toEqual(['fill', 'subnet.env.sock']);

  await rm(fill);
  await near.ready(5_000);
  expect(await near.subnetEnv()).toContain(`FLANNEL_SUBNET=${subnet.replace('.0/24', '.1/24')}\n`);
  await lab.putLease('100.96.200.0/24', '10.168.0.40');
  await waitFor('what is remembered', 10_000, async () => {
    const text = await readFile(rememberedPath(subnetFile), 'utf8').catch(() => '');
    return text.includes('"100.96.200.0-24"') || undefined;
  });
  expect(parseRemembered(await readFile(rememberedPath(subnetFile), 'utf8')).leases).toHaveLength(
    3,
  );
  await near.logged('lease cache is written again');
  expect((await readdir(directory)).sort()).toEqual([
    'subnet.env',
    'subnet.env.leases.json',
    'subnet.env.sock',
  ]);
});

it('a directory that turns read-only: the old subnet.env stays until the new can be written', async () => {
  const far = await lab.start(lab.far);
  const near = await lab.start(lab.near, { subnetFile });
  await Promise.all([near.ready(), far.ready()]);
  const before = await near.subnetEnv();
  await run(['mount', '-o', 'remount,ro', directory]);
  // Something to write.
  await ipBatch(lab.near.host, ['link set eth0 mtu 1400']);
  const told = await near.logged('cannot write subnet.env; retrying', 10_000);
  expect(told.error).toMatch(/EROFS/);
  expect(await near.readyz()).toMatchObject({ code: 503, detail: { subnetFileWritten: false } });
  expect(await near.subnetEnv()).toBe(before);
  await lab.reaches(lab.near, lab.far.tunAddress);
  await run(['mount', '-o', 'remount,rw', directory]);
  await near.ready(5_000);
  expect(await near.subnetEnv()).toBe(before.replace('MTU=1472', 'MTU=1372'));
});

it('a directory that is read-only from the start: forwards, 503, and makes up for it when it can', async () => {
  await run(['mount', '-o', 'remount,ro', directory]);
  const far = await lab.start(lab.far);
  await far.ready();
  const flags = ['--healthz-ip=127.0.0.1', '--healthz-port=9470'];
  const near = await lab.start(lab.near, { subnetFile, flags });
  const problem = () => near.log().find((line) => line['problem'] === 'status_socket_missing');
  await near.until('the missing socket', 10_000, () => problem() !== undefined);
  expect(problem()).toMatchObject({
    level: 40,
    msg: expect.stringMatching(/cannot create the status socket .*EROFS/) as string,
  });
  await near.logged('cannot write subnet.env; retrying', 10_000);
  await lab.reaches(lab.near, lab.far.tunAddress);
  const asked = ['curl', '-s', '-w', '%{http_code}', 'http://127.0.0.1:9470/readyz'];
  const { stdout } = await run(inNamespace(lab.near.host, asked));
  expect(stdout.slice(-3)).toBe('503');
  expect(JSON.parse(stdout.slice(0, -3))).toMatchObject({
    synced: true,
    subnetFileWritten: false,
    problems: [{ id: 'status_socket_missing' }],
  });
  await run(['mount', '-o', 'remount,rw', directory]);
  await near.ready(10_000);
  expect((await near.status()).problems).toEqual([]);
  expect(await near.subnetEnv()).toContain('FLANNEL_MTU=1472\n');
});
