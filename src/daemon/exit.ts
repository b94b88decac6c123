/** How a daemon's process is ended that may hang, for those above the daemon. */
export { exitWithin, guardSignals } from '../dataplane/dataplane.js';
