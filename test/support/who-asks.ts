/** Servers that say who they are and from where they are asked: what translation did to a connection. */
import { join } from 'node:path';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { ROOT } from './test-lab.js';

/** Starts one in a namespace and waits until it listens; it ends with `stop`. */
export async function startServer(
  namespace: string | undefined,
  port: number,
  name: string,
): Promise<Program> {
  const script = join(ROOT, 'test', 'support', 'who-asks.py');
  const program = new Program(inNamespace(namespace, ['python3', script, String(port), name]));
  await waitFor(`the server ${name}`, 20_000, () => {
    if (!program.running) throw new Error(program.stderr);
    return program.stdout === '' ? undefined : true;
  });
  return program;
}

/** What a connection from a namespace (the switch's own when undefined) is answered: `NAME ADDRESS`. */
export async function ask(
  namespace: string | undefined,
  address: string,
  port: number,
): Promise<string> {
  const client =
    'import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),3); print(s.makefile().read().strip())';
  const argv = ['python3', '-c', client, address, String(port)];
  const { code, stdout, stderr } = await run(inNamespace(namespace, argv), { accept: [0, 1] });
  return code === 0 ? stdout.trim() : (stderr.trim().split('\n').at(-1) ?? '');
}
