/**
 * Every ```ts fence of the documents compiles against the sources; those that say `run` also run, which
 * needs no privilege. A daemon that forwards needs a TUN device:
 * test/support/embedded-daemon.mjs is one, run by test/netns/lifecycle.test.ts.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../../..');

interface Fence {
  readonly name: string;
  readonly runs: boolean;
  readonly text: string;
}

function fencesOf(document: string): Fence[] {
  const text = readFileSync(join(ROOT, document), 'utf8');
  return Array.from(text.matchAll(/^```ts( run)?\n(.*?)^```$/gms), ([, run, body], at) => ({
    name: `${document.replaceAll(/\W/g, '-')}-${at + 1}`,
    runs: run !== undefined,
    text: body ?? '',
  }));
}

const documents = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).map(
    (name) => `docs/${name}`,
  ),
].filter((name) => name.endsWith('.md'));
const fences = documents.flatMap(fencesOf);

let folder: string;
beforeAll(() => {
  // Within the checkout, so that packages and their types are found.
  mkdirSync(join(ROOT, 'build'), { recursive: true });
  folder = mkdtempSync(join(ROOT, 'build', 'fences-'));
  for (const { name, text } of fences) {
    writeFileSync(join(folder, `${name}.ts`), `${text}export {};\n`);
  }
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('the examples of the documents', () => {
  it('say nothing else behind ts', () => {
    const texts = documents.map((name) => readFileSync(join(ROOT, name), 'utf8')).join('\n');
    const infos = Array.from(texts.matchAll(/^```ts(.*)$/gm), ([, info]) => info);
    expect(infos.filter((info) => info !== '' && info !== ' run')).toEqual([]);
  });

  it('are some, and some of them run', () => {
    expect(fences.length).toBeGreaterThan(4);
    expect(fences.filter(({ runs }) => runs).length).toBeGreaterThan(1);
  });

  it('compile', () => {
    const config = {
      extends: join(ROOT, 'tsconfig.json'),
      compilerOptions: {
        noEmit: false,
        outDir: join(folder, 'out'),
        rootDir: ROOT,
        noUnusedLocals: false,
        paths: {
          flannelette: [join(ROOT, 'src', 'index.ts')],
          'flannelette/lookup': [join(ROOT, 'src', 'lookup.ts')],
          'flannelette/parts': [join(ROOT, 'src', 'parts.ts')],
        },
      },
      include: ['./*.ts'],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const tsc = join(ROOT, 'node_modules', '.bin', 'tsc');
    const { stdout, status } = spawnSync(tsc, ['-p', folder, '--noEmit'], { encoding: 'utf8' });
    expect([stdout, status]).toEqual(['', 0]);
  });

  it.each(fences.filter(({ runs }) => runs))('$name runs', ({ name }) => {
    const program = join(folder, `${name}.ts`);
    // By the package's own name, so with the program that was built; vite takes the types out.
    const runner = `
      import { transformWithOxc } from 'vite';
      import { readFileSync, writeFileSync } from 'node:fs';
      const { code } = await transformWithOxc(readFileSync(${JSON.stringify(program)}, 'utf8'), 'x.ts');
      writeFileSync(${JSON.stringify(`${program}.mjs`)}, code);
      await import(${JSON.stringify(`${program}.mjs`)});
    `;
    const result = spawnSync(process.execPath, ['--input-type=module', '--eval', runner], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    expect([result.stderr, result.status]).toEqual(['', 0]);
  });
});
