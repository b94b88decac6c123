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
  await waitFor(`the server ${name}`, 60_000, () => {
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
  // bash alone: under user-mode Linux another interpreter takes seconds to start.
  const client = 'exec 3<>"/dev/tcp/$1/$2" && cat <&3';
  const argv = ['timeout', '20', 'bash', '-c', client, 'bash', address, String(port)];
  const options = { accept: [0, 1, 124], timeoutMs: 40_000 };
  const { code, stdout, stderr } = await run(inNamespace(namespace, argv), options);
  return code === 0 ? stdout.trim() : (stderr.trim().split('\n').at(-1) ?? '');
}
