#!/bin/sh
# Whether a gateway that drains three days of backlog holds up sensors that are live: 1,000 live ones alone, then beside it.
# Usage: backlog.sh FAJMA [DIR [SECONDS]]. Prints figures; asserts nothing about time. Needs curl.
set -eu
fajma=$(realpath "$1")
work=$(mktemp -d "${2:-/tmp}/backlog.XXXXXX")
seconds=${3:-20}
server=
trap '[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

"$fajma" up --data data --listen 127.0.0.1:0 --mqtt 127.0.0.1:0 --json >up.json 2>up.log &
server=$!
until http=$(sed -n 's/.*"http": *"\([^"]*\)".*/\1/p' up.json | head -1) && [ -n "$http" ] &&
  curl -sf "http://$http/readyz" >/dev/null; do
  kill -0 "$server" || { cat up.log >&2; exit 1; }
  sleep 0.02
done
mqtt=$(sed -n 's/.*"mqtt": *"\([^"]*\)".*/\1/p' up.json | head -1)
FAJMA_TOKEN=$("$fajma" token issue --role admin --data data)
export FAJMA_TOKEN

live() {
  echo "1,000 sensors live, one reading a second each, $1:"
  "$fajma" simulate --to "mqtt://$mqtt" --patients 1000 --rate 1000 --connections 8 --duration "${seconds}s" \
    --scenario stable --prefix "live-$2"
}

live "alone" a
# Ten sensors behind one gateway, a reading every five seconds each, for three days.
"$fajma" simulate --to "mqtt://$mqtt" --patients 10 --rate 2 --speed 1000000 --duration 72h --connections 1 \
  --batch 100 --scenario stable --prefix gateway >backlog.txt 2>&1 &
backlog=$!
live "beside a gateway that drains three days" b
if kill -0 "$backlog" 2>/dev/null; then echo "the gateway was not through yet"; else echo "the gateway was through before"; fi
wait "$backlog" || true
echo "the gateway:"
cat backlog.txt
