#!/bin/sh
# Brings Debian packages onto this machine: deps.sh NAME PACKAGE[=COMMAND]...
#
# Installs only what is missing, says what it does, and is silent work when nothing is. PACKAGE=COMMAND counts
# as present when the command exists, whoever installed it (Node comes from many places). Services that come
# along are neither started nor enabled: the tests bring up their own, on loopback, and end them.
set -u

name=$1
shift

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps $name: not a Debian system; these Debian packages are needed under your system's names:"
    echo "    $*" | sed 's/=[^ ]*//g'
    exit 0
fi

missing=
for want in "$@"; do
    package=${want%%=*}
    case $want in
        *=*) command -v "${want#*=}" >/dev/null 2>&1 && continue ;;
    esac
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done

if [ -z "$missing" ]; then
    echo "deps $name: all $# packages are here"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "deps $name: missing:$missing"
    echo "deps $name: run this as root, then try again:"
    echo "    apt-get update && apt-get install --no-install-recommends$missing"
    exit 1
fi

echo "deps $name: installing$missing"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
mark="# made by moontide's make deps; removed when it ends"
ours=
tidy() {
    rm -f "$log" "$log.units"
    [ -z "$ours" ] || rm -f "$policy"
}
trap tidy EXIT
trap 'exit 130' INT TERM HUP

# Debian starts what it installs, a registry on all interfaces included, unless this file says no. One that is
# there already stays; one that an interrupted run of ours left is ours to remove.
if [ ! -e "$policy" ] || grep -qxF "$mark" "$policy"; then
    ours=yes
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy" && chmod 755 "$policy" || exit 1
fi
units() { find /etc/systemd/system -type l -path '*.wants/*' 2>/dev/null | sort; }
units >"$log.units"

export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" >"$log" 2>&1 || { tail -n 20 "$log"; echo "deps $name: apt-get $1 failed"; exit 1; }; }
apt update
# shellcheck disable=SC2086
apt --no-install-recommends install $missing

# What was not enabled before stays so: nobody asked for a registry that comes back with each boot.
new=$(units | comm -13 "$log.units" - | sed 's|.*/||' | sort -u)
if [ -n "$new" ] && command -v systemctl >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    systemctl disable --quiet $new >/dev/null 2>&1
    echo "deps $name: installed but not started and not enabled:" $new
fi
echo "deps $name: done"
