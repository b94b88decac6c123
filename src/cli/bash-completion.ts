/**
 * The completion of bash, made of the records that --help is made of: commands, then their flags, then
 * the values of flags that have a few, and files. It needs nothing of the package bash-completion.
 */
import type { Command, CommandGroup, Program } from './command.js';
import { flagText, type Flag } from './flags.js';
import { shownFlags } from './help.js';

const FILES = ['path', 'pem', 'file'];

export function bashCompletion({ commands, groups }: Program): string {
  const top = [...commands, ...groups].map(({ name }) => name);
  const all = [...commands, ...groups.flatMap((group) => group.commands)];
  return `# Completion of bash for flannelette, generated from the flags of the program.
_flannelette() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command=\${COMP_WORDS[1]} flag= sign=
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    ${words([...top, 'help', '--help', '--version'])}
    return
  fi
  # bash splits --mode=basic at the sign.
  if [[ $cur == = ]]; then flag=$prev sign=$cur cur=
  elif [[ $prev == = ]]; then flag=\${COMP_WORDS[COMP_CWORD-2]} sign=$prev
  elif [[ $prev == -* ]]; then flag=$prev; fi
  [[ $flag == -[!-]?* ]] && flag=-$flag
  case $command in
    help) ${words(top)}; return ;;
${groups.map(groupCase).join('\n')}
  esac
  case "$command $flag" in
${all.flatMap((command) => shownFlags(command.flags).map((flag) => valueCase(command, flag))).join('\n')}
  esac
  case $command in
${all.map(flagsCase).join('\n')}
  esac
}
complete -F _flannelette flannelette
`;
}

function groupCase({ name, commands }: CommandGroup): string {
  const names = commands.map((command) => command.name.slice(name.length + 1));
  return `    ${name})
      if [[ $COMP_CWORD -eq 2 ]]; then ${words(names)}; return; fi
      command+=" \${COMP_WORDS[2]}" ;;`;
}

/** What stands after a flag. */
function valueCase({ name }: Command, flag: Flag<unknown>): string {
  const forms = flag.short === undefined ? [flag.name] : [flag.name, flag.short];
  const patterns = forms.map((form) => `'${name} ${flagText(form)}'`).join('|');
  return `    ${patterns}) ${valueCommands(flag)} ;;`;
}

function valueCommands({ placeholder, choices, alone }: Flag<unknown>): string {
  // Its value is never a word of its own: --ip-masq=false.
  if (placeholder === undefined)
    return `[[ -z $sign ]] || { ${words(['true', 'false'])}; return; }`;
  if (choices !== undefined) return `${words(choices)}; return`;
  if (FILES.includes(placeholder)) {
    return 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return';
  }
  return alone === undefined ? 'return' : ':';
}

function words(list: readonly string[]): string {
  return `COMPREPLY=($(compgen -W '${list.join(' ')}' -- "$cur"))`;
}

function flagsCase({ name, flags }: Command): string {
  const forms = [...shownFlags(flags).map((flag) => flagText(flag.name)), '--help'];
  return `    '${name}') ${words(forms)} ;;`;
}
