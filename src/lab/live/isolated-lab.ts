/** The live lab in the isolated process: set up, served to the parent by IPC, and torn down. */
import { messageOf } from '../../errors.js';
import { tellParent } from '../../testbed/isolated.js';
import { inLab, modeOf, type LabScenario, type StandingLab } from '../scenario/lab.js';
import { hostPlan } from '../../testbed/topology.js';
import { LiveLab } from './live-lab.js';
import type { CommandRequest, IsolatedEvent, LabState } from './messages.js';
import { buildingState, resultName } from './state.js';

/** Runs until asked to stop, which is a good end; rejects when the lab fails. */
export async function runLive(scenario: LabScenario): Promise<void> {
  const mode = modeOf(scenario, hostPlan(1));
  const state: LabState = buildingState(resultName(scenario.backend, mode), scenario.backend);
  const building = {
    ...scenario,
    progress: (line: string) => {
      scenario.progress(line);
      void tell({ type: 'state', state: { ...state, message: line } });
    },
  };
  try {
    await inLab(building, (lab) => serve(lab, scenario));
  } catch (error) {
    if (error === scenario.signal.reason) return;
    const message = `The lab failed: ${messageOf(error)}`;
    await tell({ type: 'state', state: { ...state, phase: 'failed', message } });
    throw error;
  }
}

async function serve(lab: StandingLab, scenario: LabScenario): Promise<void> {
  const live = new LiveLab(lab, scenario, (event) => void tell(event));
  const obey = ({ id, command }: CommandRequest): void => {
    void tell({ type: 'answer', id, refused: live.accept(command) });
  };
  process.on('message', obey);
  try {
    scenario.progress('live; Ctrl-C ends it');
    await live.run();
  } finally {
    process.off('message', obey);
  }
}

/** Resolves when it has been handed over, or the parent is gone. */
function tell(event: IsolatedEvent): Promise<void> {
  return tellParent(event).catch(() => undefined);
}
