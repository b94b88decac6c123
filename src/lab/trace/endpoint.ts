/**
 * `node endpoint.js receive|send udp|tcp ADDRESS PORT BYTES`: the program in a container that receives
 * or sends the traced packet. The receiver says `listening` and then `received`.
 *
 * Over TCP the receiver greets first: what the sender then sends is one segment, alone on its way.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

const [role, proto, address = '', portText, bytesText] = process.argv.slice(2);
const port = Number(portText);
const bytes = Number(bytesText);
const payload = Buffer.alloc(bytes, 'flannelette trace ');

const ENDS: Readonly<Record<string, () => Promise<void>>> = {
  'receive udp': receiveUdp,
  'send udp': sendUdp,
  'receive tcp': receiveTcp,
  'send tcp': sendTcp,
};
const end = ENDS[`${role} ${proto}`];
if (end === undefined) throw new Error(`unknown end ${role} ${proto}`);
await end();

function say(word: string): void {
  process.stdout.write(`${word}\n`);
}

async function receiveUdp(): Promise<void> {
  const socket = createSocket('udp4');
  socket.bind(port, address, () => {
    say('listening');
  });
  await once(socket, 'message');
  say('received');
  socket.close();
}

async function sendUdp(): Promise<void> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve, reject) => {
    socket.send(payload, port, address, (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
  socket.close();
}

async function receiveTcp(): Promise<void> {
  const server = createServer().listen(port, address, () => {
    say('listening');
  });
  const [socket] = (await once(server, 'connection')) as [Socket];
  server.close();
  socket.write('go');
  await once(socket.resume(), 'data');
  say('received');
  socket.end();
}

async function sendTcp(): Promise<void> {
  const socket = connect(port, address);
  await once(socket.resume(), 'data');
  socket.write(payload);
  await once(socket, 'end');
}
