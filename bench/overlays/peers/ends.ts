/** What the peers have in common: one program per host behind a TUN device, routes into it. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemError } from '../../../src/errors.js';
import type { Program } from '../../../src/testbed/programs.js';
import { waitFor } from '../../../src/testbed/programs.js';
import { LAB_DIRECTORY, type HostPlan } from '../../../src/testbed/topology.js';
import type { RunningOverlay, Underlay } from '../subject.js';

export interface End {
  readonly plan: HostPlan;
  readonly other: HostPlan;
  /** For its configuration. */
  readonly directory: string;
}

/** The far end, which listens, comes first. */
export async function endsOf(name: string, { near, far }: Underlay): Promise<[End, End]> {
  const end = async (plan: HostPlan, other: HostPlan): Promise<End> => {
    const directory = join(LAB_DIRECTORY, plan.host, name);
    // What an earlier round left there is refused by some programs.
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true });
    return { plan, other, directory };
  };
  return [await end(far, near), await end(near, far)];
}

/** Commands of ip(8) that take an end's device into use. */
export function useDevice(device: string, { plan, other }: End, mtu: number): string[] {
  return [
    `address add ${plan.tunAddress}/32 dev ${device}`,
    `link set ${device} mtu ${mtu} up`,
    `route add ${other.subnet} dev ${device}`,
  ];
}

/** Runs `start`, which puts the programs it starts into a list; they are ended when it fails. */
export async function runPrograms(
  start: (programs: Program[]) => Promise<void>,
  clean: () => Promise<void> = () => Promise.resolve(),
): Promise<RunningOverlay> {
  const programs: Program[] = [];
  const tearDown = async (): Promise<void> => {
    // The connecting end stops before the one it connected to.
    for (const program of [...programs].reverse()) await program.stop();
    await clean();
  };
  try {
    await start(programs);
    return { programs, tearDown };
  } catch (error) {
    await tearDown().catch(() => undefined);
    throw error;
  }
}

/** Waits until `probe` is true; fails at once, with its output, when one of the programs ends. */
export async function untilReady(
  programs: readonly Program[],
  limitMs: number,
  probe: () => Promise<boolean>,
): Promise<void> {
  await waitFor(programs.at(-1)?.argv.join(' ') ?? '', limitMs, async () => {
    for (const { running, argv, stderr } of programs) {
      if (!running) throw systemError(`${argv.join(' ')} ended: ${stderr.trim().slice(-600)}`);
    }
    return (await probe()) ? true : undefined;
  });
}
