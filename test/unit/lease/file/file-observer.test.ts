import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FileObserver } from '../../../../src/lease/file/file-observer.js';
import { silentLogger } from '../../../../src/log.js';

let root: string;
let path: string;
let observer: FileObserver;
let hints: number;

/** More than one look behind inotify, none of which may be what tells. */
const SETTLED_MS = 4_000;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'observer-'));
  mkdirSync(join(root, 'store'));
  path = join(root, 'store', 'leases.json');
  hints = 0;
  observer = new FileObserver(path, silentLogger(), () => {
    hints += 1;
  });
  observer.start();
  await rest(SETTLED_MS);
  hints = 0;
});
afterEach(() => {
  observer.stop();
  rmSync(root, { recursive: true, force: true });
});

async function rest(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

async function told(): Promise<void> {
  await vi.waitFor(
    () => {
      expect(hints).toBeGreaterThan(0);
    },
    { timeout: 5_000 },
  );
  await rest(100);
  hints = 0;
}

describe('on a local file system', () => {
  it('tells of a write in place and of a rename over the file, and of nothing else', async () => {
    writeFileSync(path, '1');
    await told();
    writeFileSync(join(root, 'new'), '2');
    renameSync(join(root, 'new'), path);
    await told();
    writeFileSync(join(root, 'store', 'other'), '3');
    await rest(SETTLED_MS);
    expect(hints).toBe(0);
  });

  it.each([
    ['moved away', () => renameSync(join(root, 'store'), join(root, 'old'))],
    ['removed', () => rmSync(join(root, 'store'), { recursive: true })],
  ])('goes on in the directory that is made after one that was %s', async (_how, end) => {
    writeFileSync(path, '1');
    await told();
    end();
    mkdirSync(join(root, 'store'));
    writeFileSync(path, '2');
    await told();
    await rest(SETTLED_MS);
    hints = 0;
    writeFileSync(path, '3');
    await told();
  });
});
