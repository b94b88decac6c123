/** The version of Node, checked before anything else is loaded or done, and told in one line. */

/** What the program and its set-up need, as package.json says; tests and lint need what their tools need. */
export const NEEDED = { run: '20.11', test: '20.19' };

/** Ends the process when this Node is older than `needed`. */
export function requireNode(needed, version = process.versions.node) {
  if (!isOlder(version, needed)) return;
  process.stderr.write(`setup: Node ${needed} or newer is needed, this is ${version}\n`);
  process.exit(1);
}

/** `20.9.1` is older than `20.11`. */
export function isOlder(version, needed) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [neededMajor = 0, neededMinor = 0] = needed.split('.').map(Number);
  return major < neededMajor || (major === neededMajor && minor < neededMinor);
}
