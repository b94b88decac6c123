/**
 * Ends the process in one line when Node is too old. Imported first, because what comes after may not
 * even load there.
 */

/** As package.json says under `engines`. */
export const NEEDED_NODE = '20.11';

/** What to say when `version` is too old; undefined when it is not. */
export function tooOld(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [neededMajor = 0, neededMinor = 0] = NEEDED_NODE.split('.').map(Number);
  if (major > neededMajor || (major === neededMajor && minor >= neededMinor)) return undefined;
  return `Node ${NEEDED_NODE} or newer is needed, this is ${version}`;
}

const refusal = tooOld(process.versions.node);
if (refusal !== undefined) {
  process.stderr.write(`flannelette: ${refusal}\n`);
  process.exit(1);
}
