/**
 * The environment file of the unit (/etc/default/flannelette): each flag of `run` as its variable, with
 * the default, commented out. Made of the flags themselves.
 */
import { environmentName, type Flags } from './flags.js';
import { shownFlags } from './help.js';

const HEAD = `# Environment of flannelette.service, one variable for each flag of "flannelette run"; see flannelette(8).
# Remove the "#" before a variable to set it, then: systemctl enable --now flannelette
# A variable without a value counts as not set.
`;

export function defaultsFile(flags: Flags): string {
  const settable = shownFlags(flags).filter(
    ({ argumentOnly, ignored }) => argumentOnly !== true && ignored === undefined,
  );
  const entries = settable.map(({ name, help, shownDefault, fallback }) => {
    const isDefault = shownDefault !== undefined && shownDefault === String(fallback);
    const note = shownDefault === undefined || isDefault ? '' : ` (default: ${shownDefault})`;
    return `\n# ${help}${note}\n#${environmentName(name)}=${isDefault ? shownDefault : ''}\n`;
  });
  return `${HEAD}${entries.join('')}`;
}
