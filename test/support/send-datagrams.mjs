/** node send-datagrams.mjs FROM TO PORT < JSON array of base64: sends each as one UDP datagram. */
import { createSocket } from 'node:dgram';
import { text } from 'node:stream/consumers';

const [from, to, port] = process.argv.slice(2);
const datagrams = JSON.parse(await text(process.stdin));
const socket = createSocket('udp4');
await new Promise((done) => {
  socket.bind(0, from, done);
});
for (const datagram of datagrams) {
  await new Promise((done, fail) => {
    socket.send(Buffer.from(datagram, 'base64'), Number(port), to, (error) => {
      if (error) fail(error);
      else done();
    });
  });
}
socket.close();
