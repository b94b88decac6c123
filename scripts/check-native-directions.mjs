/**
 * The direction rules of the C++ (docs/architecture.md): binding -> engine -> sys -> core and bpf; system
 * headers only in sys and engine; napi.h only in binding.
 *
 *   node scripts/check-native-directions.mjs [DIRECTORY]    default: native
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = process.argv[2] ?? resolve(import.meta.dirname, '..', 'native');
const MAY_USE = {
  core: ['core'],
  bpf: ['bpf'],
  sys: ['core', 'bpf', 'sys'],
  engine: ['core', 'sys', 'engine'],
  binding: ['core', 'sys', 'engine', 'binding'],
};
/** Headers of the C++ standard library have no directory and no ending. */
const STANDARD = /^[a-z_]+$/;

const problems = [];
for (const layer of readdirSync(root)) {
  if (!(layer in MAY_USE)) problems.push(`${layer}: not a layer of native/`);
  else for (const file of readdirSync(join(root, layer))) check(layer, file);
}
for (const problem of problems) console.log(problem);
process.exitCode = problems.length === 0 ? 0 : 1;

function check(layer, file) {
  const text = readFileSync(join(root, layer, file), 'utf8');
  for (const [, quote, header] of text.matchAll(/^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm)) {
    const where = `${layer}/${file} includes ${header}`;
    if (quote === '"') {
      const used = header.split('/')[0];
      if (!MAY_USE[layer].includes(used)) problems.push(`${where}: ${layer} may not use ${used}`);
    } else if (header === 'napi.h' || header.startsWith('node')) {
      if (layer !== 'binding') problems.push(`${where}: only binding may`);
    } else if (layer === 'core' && !STANDARD.test(header)) {
      problems.push(`${where}: core makes no system calls`);
    }
  }
}
