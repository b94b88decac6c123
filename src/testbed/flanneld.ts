/** A real flanneld as a host of the lab: the one that the variable FLANNELD names, or set-up has built. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { lastWords, subnetFileOf } from './daemon-process.js';
import { inNamespace, Program, waitFor } from './programs.js';
import { cachedTool } from './tools.js';
import { LAB_DIRECTORY, type HostPlan } from './topology.js';

/** Undefined where there is none: it takes Go to build it. */
export const FLANNELD = process.env['FLANNELD'] ?? cachedTool('flanneld')?.path;

/** As an earlier run would have left it: the daemon takes the documents' subnet again. */
export async function rememberSubnet(plan: HostPlan): Promise<void> {
  await mkdir(join(LAB_DIRECTORY, plan.host), { recursive: true });
  await writeFile(subnetFileOf(plan), `FLANNEL_SUBNET=${plan.bridgeAddress}/24\n`);
}

/** Starts it and waits until it forwards; the MTU is of its tunnel, in bytes. The flags name the store. */
export async function startFlanneld(
  command: string,
  plan: HostPlan,
  storeFlags: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly program: Program; readonly mtu: number }> {
  await rememberSubnet(plan);
  const file = subnetFileOf(plan);
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const flags = ['-iface=eth0', `-subnet-file=${file}`, '-iptables-forward-rules=false'];
  const program = new Program(
    inNamespace(plan.host, ['env', ...variables, command, ...storeFlags, ...flags]),
  );
  const mtu = await waitFor('flanneld', 30_000, async () => {
    if (!program.running) throw new Error(`flanneld ended: ${lastWords(program.stderr)}`);
    return /^FLANNEL_MTU=(\d+)$/m.exec(await readFile(file, 'utf8'))?.[1];
  });
  return { program, mtu: Number(mtu) };
}
