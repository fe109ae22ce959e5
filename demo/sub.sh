#!/bin/sh
# Works until it gets TERM, and then takes a moment to tidy up.
trap 'echo "sub.sh: got TERM, tidying up"; sleep 2; echo "sub.sh: tidied up"; exit 0' TERM
echo "sub.sh: ready"
while :; do
    sleep 60 &
    wait
done
