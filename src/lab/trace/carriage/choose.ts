/** Which kind carries the packet, as the daemons say themselves. */
import type { DaemonStatus } from '../../../daemon/status.js';
import { systemError } from '../../../errors.js';
import { routeStatusOf } from '../look-up.js';
import type { TracePlan } from '../plan.js';
import type { Carriage, Carriages } from './carriage.js';
import { DIRECT } from './direct.js';
import { FOU } from './fou.js';
import { KERNEL_PATH } from './kernel-path.js';
import { USER_SPACE } from './user-space.js';
import { VXLAN } from './vxlan.js';

/** `near` and `far`: of the sending and the receiving host. */
export function chooseCarriages(
  { to }: TracePlan,
  near: DaemonStatus,
  far: DaemonStatus,
): Carriages {
  if (routeStatusOf(near, to.containerAddress).way === 'direct') {
    return { sending: DIRECT, receiving: DIRECT };
  }
  return { sending: tunnelOf(near), receiving: tunnelOf(far) };
}

function tunnelOf({ backend, dataPlane }: DaemonStatus): Carriage {
  if (backend === 'vxlan') return VXLAN;
  if (backend !== 'udp') throw systemError(`backend ${String(backend)} has no tunnel to trace`);
  const features = dataPlane?.features ?? [];
  const isActive = (wanted: string): boolean =>
    features.some(({ name, state }) => name === wanted && state === 'active');
  if (isActive('fou')) return FOU;
  return isActive('kernel-path') ? KERNEL_PATH : USER_SPACE;
}
