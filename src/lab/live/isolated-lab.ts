/** The live lab in the isolated process: raised, served to the outside by IPC, and lowered. */
import { dataPlaneMode } from '../../daemon/options.js';
import { messageOf } from '../../errors.js';
import { tellOutside } from '../../testbed/isolated.js';
import { inLab, type LabCourse, type StandingLab } from '../scenario/lab.js';
import { LiveLab } from './live-lab.js';
import type { CommandRequest, InsideEvent, LabState } from './messages.js';

/** Runs until asked to stop, which is a good end; rejects when the lab fails. */
export async function runLive(course: LabCourse): Promise<void> {
  const state: LabState = buildingState(dataPlaneMode(course.mode));
  const building = {
    ...course,
    progress: (line: string) => {
      course.progress(line);
      void tell({ type: 'state', state: { ...state, message: line } });
    },
  };
  try {
    await inLab(building, (lab) => serve(lab, course));
  } catch (error) {
    if (error === course.signal.reason) return;
    const message = `The lab failed: ${messageOf(error)}`;
    await tell({ type: 'state', state: { ...state, phase: 'failed', message } });
    throw error;
  }
}

export function buildingState(mode: LabState['mode']): LabState {
  return {
    phase: 'building',
    mode,
    load: null,
    change: null,
    thirdHost: false,
    results: [],
    message: 'The lab is being built.',
  };
}

async function serve(lab: StandingLab, course: LabCourse): Promise<void> {
  const live = new LiveLab(lab, course, (event) => void tell(event));
  const obey = ({ id, command }: CommandRequest): void => {
    void tell({ type: 'answer', id, refused: live.accept(command) });
  };
  process.on('message', obey);
  try {
    course.progress('live; Ctrl-C ends it');
    await live.run();
  } finally {
    process.off('message', obey);
  }
}

/** Resolves when it has been handed over, or the outside is gone. */
function tell(event: InsideEvent): Promise<void> {
  return tellOutside(event).catch(() => undefined);
}
