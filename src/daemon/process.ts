/**
 * What the command line needs of the data plane's addon besides a daemon: layers above the daemon do
 * not reach the data plane themselves.
 */
export {
  exitWithin,
  guardSignals,
  probeKernel,
  type KernelFeature,
} from '../dataplane/dataplane.js';
