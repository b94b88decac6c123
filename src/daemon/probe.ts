/** The kernel's features for those above the daemon, who do not reach the data plane themselves. */
export { probeKernel, type KernelFeature } from '../dataplane/dataplane.js';
