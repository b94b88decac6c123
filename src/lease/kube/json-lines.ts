/** JSON values, one a line, out of a stream of bytes: what the API server's watch sends. */

/** An object in etcd has at most 1.5 MB; as JSON it may be twice that. */
export const MAX_LINE_BYTES = 4 * 1024 * 1024;

/**
 * Values in order. Throws an error for a line that is longer than `maxBytes` or no JSON; a last line without its
 * end is dropped, the connection was cut.
 */
export async function* jsonLines(
  chunks: AsyncIterable<Buffer>,
  maxBytes = MAX_LINE_BYTES,
): AsyncGenerator<unknown> {
  // Pieces of the line that has not ended, so that a long one is put together once.
  let pieces: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      pieces.push(chunk.subarray(start, end));
      checkLength(length + end - start, maxBytes);
      const line = Buffer.concat(pieces).toString('utf8').trim();
      pieces = [];
      length = 0;
      start = end + 1;
      if (line !== '') yield parse(line);
    }
    if (start === chunk.length) continue;
    pieces.push(chunk.subarray(start));
    length += chunk.length - start;
    checkLength(length, maxBytes);
  }
}

function checkLength(length: number, maxBytes: number): void {
  if (length > maxBytes) throw new Error(`a line has more than ${maxBytes} bytes`);
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw new Error(`a line is not JSON: ${JSON.stringify(line.slice(0, 60))}`);
  }
}
