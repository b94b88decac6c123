/** The state of a lab that is not up yet, and what its results are called. */
import { dataPlaneMode, type DaemonMode } from '../../daemon/options.js';
import type { LabBackend } from '../backends/backend.js';
import type { LabState, ResultName } from './messages.js';
import { PAGE_MODES } from './requests.js';

/** What results of a backend in a mode are of. */
export function resultName({ type }: Pick<LabBackend, 'type'>, mode: DaemonMode): ResultName {
  return type === 'udp' ? dataPlaneMode(mode) : type;
}

export function buildingState(
  mode: ResultName,
  { hasModes, device }: Pick<LabBackend, 'hasModes' | 'device'>,
): LabState {
  return {
    phase: 'building',
    mode,
    modes: hasModes ? PAGE_MODES : [],
    device: device ?? null,
    load: null,
    change: null,
    thirdHost: false,
    results: [],
    message: 'The lab is being built.',
  };
}
