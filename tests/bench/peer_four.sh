#!/bin/sh
# B4's shell peer: peer_four.sh COUNT COMMAND [ARG]. COUNT times four commands, one after the other; prints the
# milliseconds of each four as a JSON list. GNU date is the clock: its own start is taken off.
count=$1
shift
now() { date +%s%N; }

a=$(now)
b=$(now)
clock=$((b - a))
list=
i=0
while [ "$i" -lt "$count" ]; do
    began=$(now)
    "$@" && "$@" && "$@" && "$@" || exit 1
    took=$(($(now) - began - clock))
    [ "$took" -ge 0 ] || took=0
    list="$list${list:+,}$((took / 1000000)).$(printf %06d $((took % 1000000)))"
    i=$((i + 1))
done
echo "[$list]"
