/**
 * One build with each Node it promises to run on, and with one that is too old. The binaries are in the
 * cache (scripts/test-tools.mjs); what could not be had there is skipped.
 */
import { execFile, spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { NEEDED_NODE } from '../../src/cli/check-node.js';
import { packageVersion } from '../../src/daemon/version.js';
import { toolAt } from '../../src/testbed/tools.js';

const ROOT = resolve(import.meta.dirname, '..', '..');
const CLI = join(ROOT, 'dist', 'src', 'cli', 'main.js');
const execute = promisify(execFile);

describe.each([`${NEEDED_NODE}.0`, '22', '24'])('Node %s', (version) => {
  const node = toolAt(`node-${version}`) ?? '';
  const flannelette = async (...argv: string[]) =>
    execute(node, [CLI, ...argv], { timeout: 110_000, maxBuffer: 16 * 1024 * 1024 });

  it.skipIf(node === '')('is the one that is meant, and runs the program', async () => {
    const { stdout } = await execute(node, ['--version']);
    expect(stdout).toMatch(new RegExp(`^v${version}\\b`));
    expect(await flannelette('--version')).toEqual({ stdout: `${packageVersion()}\n`, stderr: '' });
  });

  it.skipIf(node === '')('loads the addon', async () => {
    // Without root it cannot try all of them, and says so.
    const { stdout } = await flannelette('probe', '--json').catch(
      (error: unknown) => error as { readonly stdout: string },
    );
    const { features } = JSON.parse(stdout) as { features: { name: string; state: string }[] };
    expect(features.find(({ name }) => name === 'udp-gso')).toBeDefined();
  });

  it.skipIf(node === '')(
    'runs the lab, daemons and all, without a warning of its own',
    async () => {
      const { stdout, stderr } = await flannelette('lab', '--seconds=1', '--json');
      expect(JSON.parse(stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({ ok: true });
      expect(stderr).not.toMatch(/^\(node:\d+\)|Warning:/m);
    },
  );
});

describe('a Node that is too old', () => {
  const old = toolAt('node-20.10.0') ?? '';
  const oldest = toolAt(`node-${NEEDED_NODE}.0`) ?? '';
  const refusal = (node: string, ...argv: string[]) => {
    const { status, stdout, stderr } = spawnSync(node, argv, { cwd: ROOT, encoding: 'utf8' });
    return [status, stdout, stderr];
  };

  it.skipIf(old === '').each([
    ['scripts/setup.mjs', ['run']],
    ['scripts/setup.mjs', ['test']],
    ['scripts/setup.mjs', ['pack']],
    ['scripts/lint.mjs', []],
    ['scripts/format.mjs', []],
  ])('is told in one line by %s %j', (script, argv) => {
    expect(refusal(old, join(ROOT, script), ...argv)).toEqual([
      1,
      '',
      expect.stringMatching(/^setup: Node 20\.\d+ or newer is needed, this is 20\.10\.0\n$/),
    ]);
  });

  it.skipIf(old === '')('is told in one line by the program', () => {
    expect(refusal(old, CLI, '--version')).toEqual([
      1,
      '',
      `flannelette: Node ${NEEDED_NODE} or newer is needed, this is 20.10.0\n`,
    ]);
  });

  it.skipIf(oldest === '')('for the tools of the tests is told by the set-up of the tests', () => {
    expect(refusal(oldest, join(ROOT, 'scripts', 'setup.mjs'), 'test')).toEqual([
      1,
      '',
      `setup: Node 20.19 or newer is needed, this is ${NEEDED_NODE}.0\n`,
    ]);
  });
});
