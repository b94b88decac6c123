#!/bin/bash
# Runs a command under another kernel, with this machine's files:
#
#   run.sh KERNEL COMMAND [ARGUMENT ...]
#
# KERNEL is a user-mode Linux binary (https://docs.kernel.org/virt/uml/user_mode_linux_howto_v2.html)
# such as /usr/bin/linux.uml of Debian's package user-mode-linux, or the same file of an unpacked
# package. It boots as an ordinary process: no root, no KVM, and in about 2 s.
#
# The command runs as root of that kernel, in this folder, with this environment. It sees this
# machine's files, none of which it can change; /tmp, /run and /dev/shm are empty and its own. Its
# standard input is empty; output, error output and exit status are handed on. 125 when the kernel
# ended before the command did.
#
#   OLD_KERNEL_MEMORY   of the machine; 2048M unless set
#
# Where the processor has AMX a C++ compiler is needed: see wide_xstate.cc.
#
# One CPU, no network but the loopback. KERNEL's own modules are loaded on demand when kmod is
# installed, from ../lib/uml/modules as in Debian's package or /usr/lib/uml/modules.
set -u
here=$(dirname "$(readlink -f "$0")")
if [ $# -lt 2 ]; then
  echo "usage: run.sh KERNEL COMMAND [ARGUMENT ...]" >&2
  exit 125
fi
kernel=$(readlink -f "$1")
if [ ! -x "$kernel" ]; then
  echo "run.sh: KERNEL: \"$1\" is not valid: expected an executable user-mode Linux" >&2
  exit 125
fi
shift

shared=$(mktemp -d) || exit 125
uml=
finish() {
  # Its processes are a group of their own; the memory file goes with the last of them.
  [ -n "$uml" ] && kill -KILL -- "-$uml" 2>/dev/null
  rm -rf "$shared"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

modules=$(dirname "$kernel")/../lib/uml/modules
[ -d "$modules" ] || modules=/usr/lib/uml/modules
{
  export -p | grep -v -e ' TMPDIR=' -e ' HOME=' -e ' OLDPWD='
  printf 'modules=%q directory=%q\n' "$(readlink -m "$modules")" "$PWD"
  printf 'command=('
  printf '%q ' "$@"
  printf ')\n'
} >"$shared/plan"
# A machine without devices gathers no randomness of its own: getrandom would block for ever.
head -c 8192 /dev/urandom >"$shared/random"

# Serial lines carry the two outputs, so that nothing of the kernel's own gets between them. They
# need a pipe on this side, whatever ours are.
preload=
if grep -qw amx_tile /proc/cpuinfo; then
  preload="$shared/wide_xstate.so"
  "${CXX:-c++}" -std=c++20 -O1 -shared -fPIC -o "$preload" "$here/wide_xstate.cc" || exit 125
fi
mkfifo "$shared/out" "$shared/err"
cat "$shared/out" &
readers=$!
cat "$shared/err" >&2 &
readers="$readers $!"
LD_PRELOAD=$preload setsid "$kernel" mem="${OLD_KERNEL_MEMORY:-2048M}" rootfstype=hostfs rootflags=/ ro \
  init="$here/init" shared="$shared" uml_dir="$shared/" umid=uml loglevel=0 \
  con=null ssl=null ssl0=null,fd:3 ssl1=null,fd:4 \
  3>"$shared/out" 4>"$shared/err" </dev/null >"$shared/console" 2>&1 &
uml=$!
wait "$uml"
# Children of the kernel's that outlived it would hold the pipes open.
kill -KILL -- "-$uml" 2>/dev/null
uml=
# shellcheck disable=SC2086
wait $readers
if [ ! -s "$shared/status" ]; then
  echo "run.sh: the kernel ended before the command did:" >&2
  tail -n 40 "$shared/console" >&2
  exit 125
fi
exit "$(cat "$shared/status")"
