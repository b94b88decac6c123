/**
 * What the command line needs of the data plane's addon besides a daemon: layers above the daemon do
 * not reach the data plane themselves.
 */
export {
  dropPrivileges,
  exitWithin,
  giveFilePagesBack,
  guardSignals,
  probeKernel,
  restartWithLess,
  TUN_ADVICE,
  type FewerPrivileges,
  type KernelFeature,
  type Restart,
} from '../dataplane/dataplane.js';
