#!/usr/bin/env bash
# Installs, uses, upgrades and removes the RPM package, by Debian's rpm. For test-package.sh, inside its namespaces.
set -euo pipefail
package=$1
cd /root
export LC_ALL=C.UTF-8
source test/functions.sh
# Debian's database of packages knows nothing of RPM's.
rpm() { command rpm --force-debian "$@"; }

setsid python3 -B test/upstream.py >/dev/null 2>&1 &

step "install"
rpm --install --nodeps "$package" >install.log 2>&1 || fail "rpm --install: $(cat install.log)"
rpm --verify --nodeps tapis || fail "files differ from those of the package"
[[ -z $(answer free.example) ]] || fail "it runs before it is started"
systemctl enable --now tapis || fail "systemctl enable --now"
until_answer free.example 192.0.2.1
pid=$(systemctl show --value --property MainPID tapis)
[[ $(stat -c %U "/proc/$pid") == tapis ]] || fail "it does not run as user tapis"
tapis status >status.txt 2>&1 || fail "status: $(cat status.txt)"
man -w tapis-order-lift >/dev/null || fail "no manual page"

step "upgrade, which keeps the configuration and loses no query"
echo blocked.example >>/etc/tapis/lists/local.txt
until_answer blocked.example 0.0.0.0
upgrade_under_load rpm --upgrade --force --nodeps "$package"
until_answer blocked.example 0.0.0.0
new=$(followed "$pid")
systemctl reload tapis || fail "reload"
[[ $(systemctl show --value --property MainPID tapis) == "$new" ]] || fail "the reload restarted it"

step "remove"
rpm --erase tapis >remove.log 2>&1 || fail "rpm --erase: $(cat remove.log)"
[[ -z $(answer free.example) ]] || fail "it still answers"
[[ ! -e /usr/bin/tapis && ! -e /usr/lib/systemd/system/tapis.service && ! -e /run/tapis ]] || fail "something of it is still there"
systemctl daemon-reload
[[ -z $(systemctl list-unit-files --no-legend tapis.service) ]] || fail "systemd still knows the unit"
[[ -f /etc/tapis/lists/local.txt.rpmsave && ! -e /etc/tapis/tapis.toml ]] || fail "not the changed configuration stays, or more than that"
[[ -f /var/lib/tapis/journal.jsonl ]] || fail "the data are gone"
echo "the package passes"
