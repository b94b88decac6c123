#!/bin/bash
# emulated.sh PROGRAM ARGUMENT...: runs a program of arm64, and what it starts, by qemu's user mode
#
# In namespaces of its own: a user namespace has formats of binaries of its own since Linux 6.7, so that
# the machine's are left alone. Programs of this machine's architecture run beside, such as ip and iperf3.
# QEMU_LD_PREFIX names the root of the emulated programs' libraries.
set -eu
if [ "${EMULATED_INSIDE:-}" = 1 ]; then
  mount -t proc proc /proc
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  # ELF, 64 bits, little-endian, executable or shared object, machine 183 (elf.h).
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf '%s' ":arm64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F" >/proc/sys/fs/binfmt_misc/register
  exec "$@"
fi
place=$(mktemp -d)
trap 'rm -r "$place"' EXIT
mkfifo "$place/mapped"
export EMULATED_INSIDE=1 EMULATED_MAPPED=$place/mapped
# shellcheck disable=SC2016
unshare --user sh -c 'read -r _ <"$EMULATED_MAPPED"
  exec unshare --mount --net --pid --fork --kill-child=KILL bash "$@"' sh "$0" "$@" &
until [ "$(readlink "/proc/$!/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.1; done
# Every user: tcpdump gives up its rights.
echo '0 0 65536' >"/proc/$!/uid_map"
echo '0 0 65536' >"/proc/$!/gid_map"
echo >"$EMULATED_MAPPED"
wait "$!"
