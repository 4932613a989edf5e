#!/bin/bash
# B4's shell peer: peer_four.sh COUNT COMMAND [ARG]. COUNT times four commands, one after the other; prints the
# milliseconds of each four as a JSON list.
count=$1
shift
list=
for ((i = 0; i < count; i++)); do
    began=${EPOCHREALTIME/[.,]/}
    "$@" && "$@" && "$@" && "$@" || exit 1
    took=$((${EPOCHREALTIME/[.,]/} - began))
    list+=${list:+,}$((took / 1000)).$(printf %03d $((took % 1000)))
done
echo "[$list]"
