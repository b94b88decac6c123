/** What `flannelette bench modes` compares, out of the benchmark's subjects and the teaching tunnel. */
import type { Subject } from '../overlays/subject.js';
import { SUBJECTS } from '../overlays/subjects.js';
import { js } from '../overlays/peers/js.js';
import { MODE_NAMES, type ModeName } from './result.js';

/** Modes without a user-space end. */
export const KERNEL_MODES: readonly ModeName[] = ['vxlan', 'vxlan-again', 'host-gw'];

export function subjectsOf(modes: readonly ModeName[]): Subject[] {
  return MODE_NAMES.filter((mode) => modes.includes(mode)).map(subjectOf);
}

function subjectOf(mode: ModeName): Subject {
  const subject = [js, ...SUBJECTS].find(({ name }) => name === mode);
  if (subject === undefined) throw new RangeError(`the benchmark has no ${mode}`);
  return subject;
}
