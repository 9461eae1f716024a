#!/usr/bin/env bash
# Installs, uses, upgrades, removes and purges the package. For test-package.sh, inside its namespaces.
set -euo pipefail
package=$1
cd /root
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

source test/functions.sh
# Everything that may have a trace of the package.
trace() {
  find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /tmp -o -path /var/log/journal -o -path /var/cache \
    -o -path /run/log -o -path '/var/lib/dpkg/*-old' \) -prune -o -iname '*tapis*' -print | sort
}

setsid python3 -B test/upstream.py >/dev/null 2>&1 &
before=$(trace)

step "install"
dpkg -i "$package" >install.log 2>&1 || fail "dpkg -i: $(cat install.log)"
until_answer free.example 192.0.2.1
systemctl is-enabled --quiet tapis || fail "it does not start at boot"
[[ $(stat -c %U /var/lib/tapis) == tapis ]] || fail "the state directory is not that of the user"
pid=$(systemctl show --value --property MainPID tapis)
[[ $(stat -c %U "/proc/$pid") == tapis ]] || fail "it does not run as user tapis"
[[ $(awk '/^CapEff/ { print $2 }' "/proc/$pid/status") == 0000000000000400 ]] || fail "it has other capabilities than CAP_NET_BIND_SERVICE"
systemd-analyze verify /lib/systemd/system/tapis.service || fail "systemd-analyze verify"
man -w tapis-order-lift >/dev/null || fail "no manual page"
man -w 5 tapis.toml >/dev/null || fail "no manual page of the configuration"
bash -c 'source /usr/share/bash-completion/completions/tapis && complete -p tapis' >/dev/null || fail "no completions"
if command -v logrotate >/dev/null; then
  logrotate --debug /etc/logrotate.d/tapis >/dev/null 2>&1 || fail "logrotate does not accept its configuration"
fi

step "status, as root and as a member of the group"
tapis status >status.txt 2>&1 || fail "status: $(cat status.txt)"
setpriv --reuid 65534 --regid 65534 --groups "$(getent group tapis | cut -d: -f3)" tapis status >/dev/null 2>&1 || fail "a member of the group may not ask"

step "reload"
echo blocked.example >>/etc/tapis/lists/local.txt
printf '\n[[list]]\nname = "more"\npath = "lists/more.txt"\n' >>/etc/tapis/tapis.toml
echo more.example >/etc/tapis/lists/more.txt
systemctl reload tapis || fail "reload"
until_answer blocked.example 0.0.0.0
until_answer more.example 0.0.0.0
[[ $(systemctl show --value --property MainPID tapis) == "$pid" ]] || fail "the reload restarted it"

step "upgrade to a later version, which keeps the configuration and the state"
dpkg-deb -R "$package" later
later=$(sed -n 's/^Version: //p' later/DEBIAN/control)+later
sed -i "s/^Version: .*/Version: $later/" later/DEBIAN/control
dpkg-deb -Zgzip -z1 -b later later.deb >/dev/null
rm -r later
generation=$(tapis status --json 2>/dev/null | python3 -c 'import json,sys; print(json.load(sys.stdin)["generation"])')
upgrade_under_load dpkg -i later.deb
[[ $(dpkg-query -W -f '${Version}' tapis) == "$later" ]] || fail "the later version is not installed"
until_answer more.example 0.0.0.0
until_answer free.example 192.0.2.1
new=$(followed "$pid")
[[ $(systemctl show --value --property StatusText tapis) == "Serving generation"* ]] || fail "the new process does not reach systemd"
after=$(tapis status --json 2>/dev/null | python3 -c 'import json,sys; print(json.load(sys.stdin)["generation"])')
((after > generation)) || fail "generation $after after $generation: the state was lost"

step "systemd follows the process that took over: reload, a kill, a stop"
systemctl reload tapis || fail "reload"
kill -KILL "$new"
for _ in {1..100}; do
  [[ $(systemctl show --value --property NRestarts tapis) == 1 ]] && break
  sleep 0.1
done
until_answer more.example 0.0.0.0
[[ $(systemctl show --value --property NRestarts tapis) == 1 ]] || fail "systemd did not notice the kill"
tries=0
until tapis upgrade >again.log 2>&1; do
  ((++tries < 5)) || fail "tapis upgrade: $(cat again.log)"
  sleep 1
done
systemctl stop tapis || fail "stop"
[[ -z $(answer free.example) ]] || fail "it still answers after the stop"
[[ $(systemctl show --value --property Result tapis) == success ]] || fail "the stop failed"
systemctl start tapis || fail "start"
until_answer free.example 192.0.2.1

step "remove"
dpkg -r tapis >remove.log 2>&1 || fail "dpkg -r: $(cat remove.log)"
[[ -z $(answer free.example) ]] || fail "it still answers"
[[ -f /etc/tapis/tapis.toml && -f /var/lib/tapis/journal.jsonl ]] || fail "configuration or data are gone"
[[ ! -e /usr/bin/tapis && ! -e /run/tapis ]] || fail "the program or its socket is still there"

step "purge"
rm /etc/tapis/lists/more.txt
dpkg -P tapis >purge.log 2>&1 || fail "dpkg -P: $(cat purge.log)"
grep -q "/var/lib/tapis" purge.log || fail "nobody says that the data stay"
systemctl daemon-reload
left=$(comm -13 <(echo "$before") <(trace))
[[ $left == /var/lib/tapis ]] || fail "left after the purge: $left"
[[ -f /var/lib/tapis/journal.jsonl ]] || fail "the data are gone"

step "without data nothing stays, not even the user"
rm -r /var/lib/tapis
dpkg -i "$package" >>install.log 2>&1 || fail "installed again: $(cat install.log)"
until_answer free.example 192.0.2.1
systemctl stop tapis
rm -r /var/lib/tapis
dpkg -P tapis >purge.log 2>&1 || fail "dpkg -P: $(cat purge.log)"
[[ -z $(comm -13 <(echo "$before") <(trace)) ]] || fail "left: $(trace)"
! getent passwd tapis || fail "the user stays"
echo "the package passes"
