import { describe, expect, it } from 'vitest';
import { jsonLines } from '../../../../src/lease/kube/json-lines.js';

async function read(chunks: readonly string[], maxBytes?: number): Promise<unknown[]> {
  async function* stream() {
    for (const chunk of chunks) yield await Promise.resolve(Buffer.from(chunk));
  }
  const values: unknown[] = [];
  for await (const value of jsonLines(stream(), maxBytes)) values.push(value);
  return values;
}

describe('lines of JSON', () => {
  it('come whole, however they were cut', async () => {
    const text = '{"a":1}\n\n{"b":"é€"}\n[3]\n';
    for (let size = 1; size <= text.length; size += 1) {
      const bytes = Buffer.from(text);
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
      async function* stream() {
        for (const chunk of chunks) yield await Promise.resolve(chunk);
      }
      const values: unknown[] = [];
      for await (const value of jsonLines(stream())) values.push(value);
      expect(values).toEqual([{ a: 1 }, { b: 'é€' }, [3]]);
    }
  });

  it('that were cut off are dropped', async () => {
    expect(await read(['{"a":1}\n{"b"'])).toEqual([{ a: 1 }]);
  });

  it('that are none, or too long, are an error', async () => {
    await expect(read(['{"a":1}\n', 'oops\n'])).rejects.toThrow('a line is not JSON: "oops"');
    await expect(read(['"1234', '56789"\n'], 8)).rejects.toThrow('a line has more than 8 bytes');
    expect(await read(['"123456"\n'], 8)).toEqual(['123456']);
  });
});
