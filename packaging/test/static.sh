#!/usr/bin/env bash
# Starts, uses and stops the static program in its own file system. For test-static.sh, inside its namespaces.
set -euo pipefail
root=$1 here=$2
user=65532:65532
server= first=

source "$here/functions.sh"
explain() { cat "$root.log"; }
inside() { chroot --userspec="$user" "$root" /usr/bin/tapis "$@"; }
# As a container engine does, in a namespace of processes in which it is the first.
start() {
  unshare --pid --fork --kill-child=KILL chroot --userspec="$user" "$root" /usr/bin/tapis serve >"$root.log" 2>&1 &
  server=$!
  until_answer free.example 192.0.2.1
  first=$(cat "/proc/$server/task/$server/children" | tr -d ' ')
  [[ $(awk '/^NSpid/ { print $NF }' "/proc/$first/status") == 1 ]] || fail "it is not the first process"
  [[ $(awk '/^Uid/ { print $2 $3 }' "/proc/$first/status") == 6553265532 ]] || fail "it is another user"
}
stop() {
  kill -TERM "$first"
  for _ in {1..100}; do
    [[ -e /proc/$first ]] || break
    sleep 0.1
  done
  [[ ! -e /proc/$first ]] || fail "it does not end at SIGTERM"
  wait "$server" || fail "it ended with exit code $? after SIGTERM"
}

ip link set lo up
# So engines permit port 53.
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
mount --make-rprivate /
mount --bind "$root" "$root"
# The upstream server is another host: one on an address of this host would be the server itself.
unshare --net sleep infinity &
host=$!
until [[ $(readlink "/proc/$host/ns/net") != $(readlink /proc/self/ns/net) ]]; do sleep 0.05; done
ip link add veth0 type veth peer name veth1 netns "$host"
ip address add 192.0.2.9/24 dev veth0
ip link set veth0 up
nsenter --net --target "$host" bash -c "ip address add 192.0.2.1/24 dev veth1; ip link set veth1 up; exec python3 -B '$here/upstream.py' 192.0.2.1" &
echo 'nameserver 192.0.2.1' >"$root/etc/resolv.conf"

step "only the files of the image: no devices, no processes"
[[ ! -e $root/dev && ! -e $root/proc ]] || fail "the image has too much"
inside check >"$root.log" 2>&1 || fail "check"
start
inside health >"$root.log.health" || fail "health: $(cat "$root.log.health")"
echo blocked.example >>"$root/etc/tapis/lists/local.txt"
until_answer blocked.example 0.0.0.0
[[ -f $root/var/lib/tapis/journal.jsonl ]] || fail "it writes no journal"
stop
! inside health >/dev/null 2>&1 || fail "a server that has ended is healthy"

step "as in a container: read-only, with /proc and the state of the one before"
mkdir "$root/proc"
mount -t proc proc "$root/proc"
mount --bind "$root/var/lib/tapis" "$root/var/lib/tapis"
mount -t tmpfs -o uid=65532,gid=65532 tmpfs "$root/run/tapis"
mount -o remount,bind,ro "$root"
start
until_answer blocked.example 0.0.0.0

step "a large list, which a child process compiles, leaves no process behind"
mount -o remount,bind,rw "$root"
seq -f 'n%.0f.example' 300000 >"$root/etc/tapis/lists/large.txt"
printf '\n[[list]]\nname = "large"\npath = "lists/large.txt"\n' >>"$root/etc/tapis/tapis.toml"
mount -o remount,bind,ro "$root"
kill -HUP "$first"
until_answer n300000.example 0.0.0.0
[[ -z $(cat "/proc/$first/task/"*/children | tr -d ' ') ]] || fail "child processes: $(cat "/proc/$first/task/"*/children)"
inside health --alarms 0 >"$root.log.health" || fail "health: $(cat "$root.log.health")"
stop
echo "the static program passes"
