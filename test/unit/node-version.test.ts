import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { NEEDED_NODE, tooOld } from '../../src/cli/check-node.js';

const ROOT = resolve(import.meta.dirname, '..', '..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

interface Script {
  readonly NEEDED: { readonly run: string; readonly test: string };
  readonly isOlder: (version: string, needed: string) => boolean;
}
const script = (await import(join(ROOT, 'scripts', 'node-version.mjs'))) as Script;

describe('the version of Node that is needed', () => {
  it('is the same wherever it is said', () => {
    const { engines } = JSON.parse(read('package.json')) as { engines: { node: string } };
    expect(engines.node).toBe(`>=${NEEDED_NODE}`);
    expect(script.NEEDED.run).toBe(NEEDED_NODE);
    expect(read('README.md')).toContain(`Node ${NEEDED_NODE} or newer`);
    expect(read('docs/operations.md')).toContain(`Node ${NEEDED_NODE} or newer`);
    expect(read('CONTRIBUTING.md')).toContain(`Node ${script.NEEDED.test} or newer`);
  });

  it.each([
    ['8.17.0', true],
    ['18.20.8', true],
    ['20.0.0', true],
    ['20.9.1', true],
    ['20.10.0', true],
    ['20.11.0', false],
    ['20.20.2', false],
    ['21.0.0', false],
    ['22.0.0', false],
    ['100.1.0', false],
  ])('%s is too old: %s', (version, old) => {
    expect(tooOld(version)).toBe(
      old ? `Node ${NEEDED_NODE} or newer is needed, this is ${version}` : undefined,
    );
    expect(script.isOlder(version, NEEDED_NODE)).toBe(old);
  });

  it('is checked before anything else', () => {
    const [first] = /^import .*$/m.exec(read('src/cli/main.ts')) ?? [];
    expect(first).toBe("import './check-node.js';");
  });
});
