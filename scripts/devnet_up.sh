#!/bin/sh
# Seed 000 §2's script: a node, a hub, a provider and a client demo on this machine. What `aitbc devnet` does.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
aitbc="$here/.venv/bin/aitbc"
[ -x "$aitbc" ] || aitbc=aitbc
exec "$aitbc" devnet "$@"
