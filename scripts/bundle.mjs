/**
 * The package's program: dist/src as a few files in dist/package, so that an install is small and a
 * start reads little. Dependencies stay packages of their own.
 *
 * Three files are looked up beside the code that needs them, so the folders matter: the page (lab/live),
 * the program a trace starts (lab/trace), and binding.gyp with package.json above all.
 */
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const FROM = join(ROOT, 'dist', 'src');
const TO = join(ROOT, 'dist', 'package');
const SMALL =
  /\/(abort|backoff|bounded-read|contract|counters|expiry|journal|text|tls-codes|store-errors|prefix-map)\.js$/;
const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

export async function bundle() {
  const made = await rolldown({
    input: {
      'cli/main': join(FROM, 'cli', 'main.js'),
      index: join(FROM, 'index.js'),
      lookup: join(FROM, 'lookup.js'),
      parts: join(FROM, 'parts.js'),
      'chunks/endpoint': join(FROM, 'lab', 'trace', 'endpoint.js'),
    },
    platform: 'node',
    // The benchmarks are no part of the package.
    external: (id) =>
      id.startsWith('node:') || id in dependencies || /^\.\.\/\.\.\/bench\//.test(id),
    logLevel: 'warn',
  });
  await made.write({
    dir: TO,
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: 'chunks/[name].js',
    codeSplitting: {
      groups: [
        // What `run` loads before it may begin anew.
        { name: 'start', test: /\/cli\/less-privileges\.js$/, priority: 1 },
        // Small modules that several others use, which would be a file each.
        { name: 'shared', test: SMALL },
      ],
    },
  });
  cpSync(join(FROM, 'lab', 'page'), join(TO, 'page'), {
    recursive: true,
    filter: (file) => !/\.(map|d\.ts)$/.test(file),
  });
}
