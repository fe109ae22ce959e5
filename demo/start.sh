#!/bin/sh
# Runs sub.sh, and waits for it.
./sub.sh
echo "start.sh: sub.sh has ended"
