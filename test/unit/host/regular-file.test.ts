/** Files that are none: a FIFO, a directory, a device, a socket. Nothing waits for their other end. */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readBounded } from '../../../src/host/bounded-read.js';
import { readSubnetEnv } from '../../../src/host/subnet-env.js';
import { LeaseFileStore } from '../../../src/lease/file/file-store.js';
import { readRemembered } from '../../../src/lease/remembered/remembered-file.js';
import type { LeaseEvent } from '../../../src/lease/store.js';
import { silentLogger } from '../../../src/log.js';

const TEXT = '{"version":1,"config":{"Network":"100.96.0.0/16"},"leases":{}}';

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
  path = join(directory, 'file');
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Puts something at `path` that is no regular file; what it is called. */
const KINDS: Readonly<Record<string, () => Promise<void> | void>> = {
  'a FIFO': () => void execFileSync('mkfifo', [path]),
  'a directory': () => mkdir(path),
  'a device': () => symlink('/dev/zero', path),
  'a socket': async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    // What is left of a program that was killed: closing would remove it.
    await rename(path, `${path}.left`);
    await new Promise((resolve) => server.close(resolve));
    await rename(`${path}.left`, path);
  },
};

describe.each(Object.keys(KINDS))('%s', (kind) => {
  beforeEach(() => KINDS[kind]?.());

  it('is named and not read', async () => {
    await expect(readBounded(path, { maxBytes: 8 })).rejects.toMatchObject({
      message: `it is ${kind}, not a regular file`,
      code: kind === 'a directory' ? 'EISDIR' : 'EINVAL',
    });
  });

  it('is no lease file: one line, at once', async () => {
    const started = performance.now();
    const opening = LeaseFileStore.open(path, { log: silentLogger() });
    const error = await opening.catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({ kind: 'system', field: '--lease-file', value: path });
    expect((error as Error).message).toContain(`(it is ${kind}, not a regular file)`);
    expect((error as Error).message).not.toContain('\n');
    // What may be an edit under way is looked at for a second; this is none.
    expect(performance.now() - started).toBeLessThan(900);
  });

  it('is no subnet.env and holds no remembered leases', async () => {
    expect(await readSubnetEnv(path)).toBeUndefined();
    await expect(readRemembered(path)).rejects.toThrow(`it is ${kind}, not a regular file`);
  });
});

it.each(Object.keys(KINDS))(
  'a lease file that becomes %s while it is watched: said, and over when it is a file again',
  async (kind) => {
    await writeFile(path, TEXT);
    const store = await LeaseFileStore.open(path, { log: silentLogger() });
    const stop = new AbortController();
    const events = store.watchLeases(stop.signal)[Symbol.asyncIterator]();
    const next = async (): Promise<LeaseEvent> => {
      const { value } = (await events.next()) as { value: LeaseEvent };
      return value;
    };
    expect((await next()).type).toBe('snapshot');
    await unlink(path);
    await KINDS[kind]?.();
    const event = await next();
    expect(event.type).toBe('degraded');
    if (event.type === 'degraded') {
      expect(event.error.message).toContain(`it is ${kind}, not a regular file`);
    }
    await rm(path, { recursive: true });
    await writeFile(path, TEXT);
    expect((await next()).type).toBe('recovered');
    stop.abort();
    await store.close();
  },
);
