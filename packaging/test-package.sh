#!/usr/bin/env bash
# Installs a package under systemd, uses it, and removes it. Nothing of this reaches the machine: systemd runs as the
# first process of its own namespaces, on a copy of the file system that is discarded afterwards.
#
#   packaging/test-package.sh PACKAGE.deb|PACKAGE.rpm
#
# Needs root, Linux 5.11, systemd, dig, ip, man and python3; and dpkg or rpm.
set -euo pipefail
package=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
kind=${package##*.}
[[ -x $here/test/$kind.sh ]] || { echo "$package is neither .deb nor .rpm" >&2; exit 2; }
installer=$([[ $kind == rpm ]] && echo rpm || echo dpkg)

for program in unshare nsenter dig ip man python3 systemctl "$installer"; do
  command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 1; }
done
groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[[ $EUID -eq 0 && -n $groups && -x /lib/systemd/systemd ]] || {
  echo "root, cgroup2 and systemd are needed" >&2
  exit 1
}

root=$(mktemp -d)
group=$groups/tapis-test-$$
mkdir "$group"
init=
end() {
  if [[ -n $init ]]; then
    kill -KILL "$init" 2>/dev/null || true
    wait "$init" 2>/dev/null || true
  fi
  # Groups of services go before the group that has them.
  for _ in {1..50}; do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [[ -d $group ]] || break
    sleep 0.1
  done
  rm -rf "$root"
}
trap end EXIT

(
  echo "$BASHPID" >"$group/cgroup.procs"
  exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child=KILL \
    "$here/test/namespace.sh" "$root" "$package" "$here"
) >"$root.log" 2>&1 &
init=$!

# The first process of the namespaces.
first=
for _ in {1..100}; do
  first=$(cat "/proc/$init/task/$init/children" 2>/dev/null | tr -d ' ')
  if [[ -n $first ]] && timeout 10 nsenter --all --target "$first" systemctl is-system-running --wait >/dev/null 2>&1; then
    break
  fi
  kill -0 "$init" 2>/dev/null || break
  sleep 0.1
done
if ! timeout 3000 nsenter --all --target "$first" bash "/root/test/$kind.sh" "/root/package.$kind"; then
  echo "the log of the first process:" >&2
  tail -20 "$root.log" >&2
  rm -f "$root.log"
  exit 1
fi
rm -f "$root.log"
