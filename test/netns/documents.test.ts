/**
 * Every command of the user's documents with the documents' own addresses: scripts/documents.mjs, as
 * `npm run documents` runs it. A row that disagrees is a failure with what was printed.
 */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { run } from '../../src/testbed/programs.js';
import { requireIsolation, ROOT } from '../support/test-lab.js';

interface Scene {
  readonly name: string;
  readonly rows: readonly {
    readonly where: string;
    readonly command: string;
    readonly lines: readonly string[];
    readonly differs?: string;
    readonly fault?: string;
  }[];
}

it("the documents' commands print what the documents print", { timeout: 240_000 }, async () => {
  await requireIsolation();
  const argv = [process.execPath, join(ROOT, 'scripts', 'documents.mjs'), '--json'];
  const { stdout } = await run(argv, { accept: [0, 1], timeoutMs: 230_000 });
  const scenes = JSON.parse(stdout) as Scene[];
  expect(scenes.map(({ name }) => name)).toEqual([
    'udp',
    'firewall',
    'change',
    'vxlan',
    'host-gw',
    'direct-routing-before',
    'direct-routing-after',
  ]);
  const rows = scenes.flatMap((scene) => scene.rows.map((row) => ({ scene: scene.name, ...row })));
  expect(rows.filter(({ fault }) => fault !== undefined)).toEqual([]);
  expect(rows.length).toBeGreaterThan(40);
  expect(rows.filter(({ differs }) => differs !== undefined)).toHaveLength(2);
});
