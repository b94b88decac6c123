/** Whether this kernel carries packets by itself (mode kernel), tried for real. */
import { probeKernel } from '../../src/dataplane/dataplane.js';

export const canKernel = probeKernel().some(
  ({ name, state }) => name === 'kernel-path' && state === 'yes',
);
