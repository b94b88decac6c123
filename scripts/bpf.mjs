/**
 * Compiles native/bpf/kernel_path.c and keeps the instructions in kernel_path.inc, so that neither an
 * install nor a daemon needs a compiler for them, or an ELF reader:
 *
 *   npm run bpf              writes the file
 *   npm run bpf -- --check   fails when it is not what the source gives (test/unit/native)
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const NATIVE = resolve(import.meta.dirname, '..', 'native');
const FOLDER = join(NATIVE, 'bpf');
const SOURCE = join(FOLDER, 'kernel_path.c');
const OUTPUT = join(FOLDER, 'kernel_path.inc');
const CLANG = 'clang-14';
const PROGRAMS = ['encapsulate', 'decapsulate', 'admit'];
/** In the order of KernelPathMap in native/sys/kernel_path.cc. */
const MAPS = ['settings', 'hosts', 'counters'];
/** R_BPF_64_64, of an instruction that loads the address of a map. */
const LOAD_MAP = 1;

const text = render(compile());
if (process.argv[2] === undefined) {
  writeFileSync(OUTPUT, text);
} else if (process.argv[2] !== '--check') {
  fail(`"${process.argv[2]}" is not valid: expected --check or nothing`);
} else if (readFileSync(OUTPUT, 'utf8') !== text) {
  fail(`${OUTPUT} is not what ${SOURCE} gives: npm run bpf`);
}

function compile() {
  const folder = mkdtempSync(join(tmpdir(), 'flannelette-bpf-'));
  try {
    const object = join(folder, 'kernel_path.o');
    // Debian keeps asm/ in the machine's own folder.
    const machine = run(CLANG, ['-dumpmachine']).replace('-pc-', '-').trim();
    run(CLANG, [
      ...['-O2', '-Wall', '-Wextra', '-Werror', '-target', 'bpf', '-mcpu=v2'],
      ...[`-I${NATIVE}`, `-I/usr/include/${machine}`, '-c', SOURCE, '-o', object],
    ]);
    return readFileSync(object);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** ELF 64, little-endian (elf(5)): the sections by name, and the symbols. */
function readElf(bytes) {
  const at = Number(bytes.readBigUInt64LE(40));
  const count = bytes.readUInt16LE(60);
  const headers = Array.from({ length: count }, (_, index) => {
    const from = at + index * 64;
    const offset = Number(bytes.readBigUInt64LE(from + 24));
    const size = Number(bytes.readBigUInt64LE(from + 32));
    return { name: bytes.readUInt32LE(from), body: bytes.subarray(offset, offset + size) };
  });
  const names = headers[bytes.readUInt16LE(62)].body;
  const sections = new Map(headers.map(({ name, body }) => [stringAt(names, name), body]));
  const strings = sections.get('.strtab');
  const table = sections.get('.symtab');
  const symbols = Array.from({ length: table.length / 24 }, (_, index) =>
    stringAt(strings, table.readUInt32LE(index * 24)),
  );
  return { sections, symbols };
}

function stringAt(bytes, from) {
  return bytes.toString('latin1', from, bytes.indexOf(0, from));
}

function render(object) {
  const { sections, symbols } = readElf(object);
  if ((sections.get('.text')?.length ?? 0) > 0) fail('a function was not inlined');
  const parts = PROGRAMS.map((name) => {
    const body = sections.get(`tc/${name}`);
    const found = sections.get(`.reltc/${name}`);
    const words = Array.from(
      { length: body.length / 8 },
      (_, index) =>
        `0x${body
          .readBigUInt64LE(index * 8)
          .toString(16)
          .padStart(16, '0')}`,
    );
    const loads = Array.from({ length: found.length / 16 }, (_, index) => {
      const place = Number(found.readBigUInt64LE(index * 16)) / 8;
      const info = found.readBigUInt64LE(index * 16 + 8);
      const map = MAPS.indexOf(symbols[Number(info >> 32n)]);
      if (Number(info & 0xffffffffn) !== LOAD_MAP || map < 0) fail(`${name}: unknown relocation`);
      return `{${place}, ${map}}`;
    });
    const title = name[0].toUpperCase() + name.slice(1);
    return [
      `constexpr uint64_t k${title}[] = {`,
      ...rows(words, 4),
      '};',
      `constexpr MapLoad k${title}Maps[] = {${loads.join(', ')}};`,
      '',
    ].join('\n');
  });
  return [
    '// Made by `npm run bpf` from kernel_path.c; not to be edited.',
    '// MapLoad: the instruction that loads a map, and which (settings, hosts, counters).',
    '// clang-format off',
    ...parts,
  ].join('\n');
}

function rows(words, width) {
  const lines = [];
  for (let at = 0; at < words.length; at += width)
    lines.push(`  ${words.slice(at, at + width).join(', ')},`);
  return lines;
}

function run(file, args) {
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: 'utf8' });
  if (status !== 0) fail(`${file}: ${error?.message ?? stderr}`);
  return stdout;
}

function fail(why) {
  process.stderr.write(`bpf: ${why}\n`);
  process.exit(1);
}
