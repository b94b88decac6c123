/** The instructions that the addon carries are what their source gives. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from '../../support/test-lab.js';

it('native/bpf/kernel_path.inc is what kernel_path.c gives', () => {
  const script = join(ROOT, 'scripts', 'bpf.mjs');
  expect(execFileSync(process.execPath, [script, '--check'], { encoding: 'utf8' })).toBe('');
});
