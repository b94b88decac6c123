/** The page's files, read once: what is not in this list cannot be asked for. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface PageFile {
  readonly type: string;
  readonly body: Buffer;
}

const SCRIPT = 'text/javascript; charset=utf-8';

const FILES: readonly (readonly [path: string, file: string, type: string])[] = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/page.css', 'page.css', 'text/css; charset=utf-8'],
  ['/icon.svg', 'icon.svg', 'image/svg+xml'],
  ['/main.js', 'main.js', SCRIPT],
  ['/animation.js', 'animation.js', SCRIPT],
  ['/chart.js', 'chart.js', SCRIPT],
  ['/drawing.js', 'drawing.js', SCRIPT],
  ['/format.js', 'format.js', SCRIPT],
  ['/layout.js', 'layout.js', SCRIPT],
  ['/trains.js', 'trains.js', SCRIPT],
];

/** Reads the files, which the build puts in lab/page. */
export async function readPage(): Promise<ReadonlyMap<string, PageFile>> {
  const directory = fileURLToPath(new URL('../page', import.meta.url));
  const entries = FILES.map(async ([path, file, type]): Promise<[string, PageFile]> => [
    path,
    { type, body: await readFile(join(directory, file)) },
  ]);
  return new Map(await Promise.all(entries));
}
