#!/bin/sh
# B5's shell peer: peer_spawn.sh COUNT. A child with a captured output each, in sequence; no clock of its own.
i=0
while [ "$i" -lt "$1" ]; do
    out=$(/bin/true) || exit 1
    i=$((i + 1))
done
exit "${#out}"
