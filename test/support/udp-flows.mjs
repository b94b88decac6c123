/**
 * Flows of UDP datagrams, one at a time: `echo ADDRESS PORT` sends back what comes; `ask ADDRESS PORT
 * COUNT FLOW...` sends COUNT datagrams `flow FLOW` from each local port FLOW and waits for each answer.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const [role, address, port, count, ...flows] = process.argv.slice(2);

if (role === 'echo') {
  const socket = createSocket('udp4');
  socket.on('message', (text, from) => socket.send(text, from.port, from.address));
  socket.bind(Number(port), address, () => process.stdout.write('listening\n'));
} else {
  for (const flow of flows) {
    const socket = createSocket('udp4').bind(Number(flow));
    await once(socket, 'listening');
    for (let left = Number(count); left > 0; left -= 1) {
      socket.send(`flow ${flow}`, Number(port), address);
      const [answer] = await once(socket, 'message');
      if (String(answer) !== `flow ${flow}`) throw new Error(`answer ${answer} to flow ${flow}`);
    }
    socket.close();
  }
}
