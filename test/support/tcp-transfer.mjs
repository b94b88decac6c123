/**
 * A byte-exact transfer: `serve ADDRESS PORT` prints the SHA-256 of what one connection brings;
 * `send ADDRESS PORT BYTES` sends bytes nobody can guess and prints theirs.
 */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const [role, address, port, bytes] = process.argv.slice(2);
const hash = createHash('sha256');

/** Fast, and without any pattern that a misplaced segment could repeat. */
function* stream(total) {
  const cipher = createCipheriv('aes-128-ctr', randomBytes(16), randomBytes(16));
  const zeros = Buffer.alloc(256 * 1024);
  for (let left = total; left > 0; left -= zeros.length) {
    const chunk = cipher.update(zeros.subarray(0, Math.min(left, zeros.length)));
    hash.update(chunk);
    yield chunk;
  }
}

if (role === 'serve') {
  const server = createServer((socket) => {
    server.close();
    socket.on('data', (chunk) => hash.update(chunk));
    socket.on('end', () => {
      socket.end();
      process.stdout.write(`${hash.digest('hex')}\n`);
    });
  });
  server.listen(Number(port), address, () => process.stdout.write('listening\n'));
} else {
  const socket = connect(Number(port), address);
  await pipeline(Readable.from(stream(Number(bytes))), socket);
  process.stdout.write(`${hash.digest('hex')}\n`);
}
