/** A machine without Go passes all the same: what Go builds is left out by name, not skipped. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const SCRIPT = resolve(import.meta.dirname, '../../scripts/test.mjs');
const empty = mkdtempSync(join(tmpdir(), 'flannelette-cache-'));
afterAll(() => {
  rmSync(empty, { recursive: true });
});

it('leaves the stage cni out by name where there is neither Go nor what it built', () => {
  const env = { ...process.env, PATH: empty, XDG_CACHE_HOME: empty, CI: 'true' };
  const argv = [SCRIPT, '--stage', 'cni'];
  const { status, stdout } = spawnSync(process.execPath, argv, { encoding: 'utf8', env });
  expect(stdout).toContain("== cni is skipped: there is no Go to build flannel's plugin\n");
  expect(stdout).toMatch(/\n0 passed, 0 failed, 0 skipped\n$/);
  expect(status).toBe(0);
});
