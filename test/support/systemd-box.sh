#!/bin/bash
# systemd-box.sh PROJECT NODE DRIVER OUT: deploy/flannelette.service under a real systemd
#
# systemd is PID 1 in namespaces of its own, on a throw-away overlay of this machine's root, with a
# network of its own and control groups below one of its own. It runs DRIVER, a shell script that sees
# OUT as /out and the project as /opt/flannelette, and ends when that ends. Needs root. Exit code 3: this
# machine cannot.
set -u
export BOX_PROJECT=$1 BOX_NODE=$2 BOX_DRIVER=$3 BOX_OUT=$4
name=flannelette-test-$$

if [ -f /sys/fs/cgroup/cgroup.procs ]; then export BOX_GROUPS=; else
  BOX_GROUPS=$(cd /sys/fs/cgroup && for d in *; do [ -L "$d" ] || [ ! -f "$d/cgroup.procs" ] || echo "$d"; done); export BOX_GROUPS
fi
each_group() { for g in ${BOX_GROUPS:-.}; do "$1" "/sys/fs/cgroup/$g"; done; }
make_group() {
  mkdir "$1/$name" || exit 3
  for f in cpuset.cpus cpuset.mems; do [ ! -f "$1/$f" ] || [ ! -f "$1/$name/$f" ] || cat "$1/$f" >"$1/$name/$f"; done
}
drop_group() { find "$1/$name" -depth -type d -exec rmdir {} \; 2>/dev/null; }

inner() {
  box=$(mktemp -d); trap 'exit 3' ERR; set -E
  mount --make-rprivate /; mount -t tmpfs box "$box"; mkdir "$box/upper" "$box/work" "$box/root"; r=$box/root
  mount -t overlay box -o "lowerdir=/,upperdir=$box/upper,workdir=$box/work" "$r"
  mount -t proc proc "$r/proc"; mount -t sysfs sys "$r/sys"
  if [ -z "$BOX_GROUPS" ]; then mount -t cgroup2 group "$r/sys/fs/cgroup"; else
    mount -t tmpfs groups "$r/sys/fs/cgroup"
    for g in $BOX_GROUPS; do
      options=$g; [ "$g" = systemd ] && options=none,name=systemd
      [ "$g" = unified ] && continue # systemd mounts it
      mkdir "$r/sys/fs/cgroup/$g"; mount -t cgroup -o "$options" group "$r/sys/fs/cgroup/$g"
    done
  fi
  for d in dev run tmp; do mount -t tmpfs box "$r/$d"; done
  for n in null zero full random urandom tty; do touch "$r/dev/$n"; mount --bind "/dev/$n" "$r/dev/$n"; done
  mkdir "$r/dev/net" "$r/dev/pts" "$r/dev/shm"; mknod "$r/dev/net/tun" c 10 200; ln -s /proc/self/fd "$r/dev/fd"
  mkdir -p "$r/opt/flannelette" "$r/out" "$r/srv" "$r/etc/sysconfig"
  mount --bind "$BOX_PROJECT" "$r/opt/flannelette"; mount --bind "$BOX_OUT" "$r/out"
  touch "$r/opt/node"; mount --bind "$BOX_NODE" "$r/opt/node"; cp "$BOX_DRIVER" "$r/srv/driver.sh"
  ip link set lo up; ip link add eth0 type veth peer name peer0; ip link set peer0 up; ip link set eth0 up
  ip addr add 10.168.0.2/24 dev eth0; ip route add default via 10.168.0.1
  units=$r/etc/systemd/system; mkdir -p "$units"; rm -rf "$units"/*.wants; : >"$r/etc/fstab"; : >"$r/etc/machine-id"
  sed 's#/usr/bin/node#/opt/node#; s#/usr/lib/node_modules/#/opt/#' "$BOX_PROJECT/deploy/flannelette.service" >"$units/flannelette.service"
  printf '[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/bash /srv/driver.sh\nStandardOutput=file:/out/driver\nStandardError=file:/out/driver\n' >"$units/driver.service"
  exec chroot "$r" env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=driver.service --log-target=console
}

if [ "${BOX_INSIDE:-}" = 1 ]; then inner; fi
[ "$(id -u)" = 0 ] && [ -x /lib/systemd/systemd ] || exit 3
trap 'each_group drop_group' EXIT
each_group make_group
# In a shell of its own, so that this one stays outside and can remove the groups.
(for g in ${BOX_GROUPS:-.}; do echo "$BASHPID" >"/sys/fs/cgroup/$g/$name/cgroup.procs" || exit 3; done
BOX_INSIDE=1 exec setpriv --pdeathsig KILL unshare --kill-child=KILL --cgroup --mount --pid --fork --uts --ipc --net bash "$0" "$@") >"$BOX_OUT/console" 2>&1
code=$?
[ -e "$BOX_OUT/driver" ] || { tail -n 3 "$BOX_OUT/console" >&2; exit 3; }
exit $(( code == 3 ? 3 : 0 ))
