#!/bin/sh
# Whether a gateway that drains three days of backlog holds up sensors that are live: 1,000 live ones, in turns alone (the
# gateway stands still) and beside it, PAIRS times, so that what else the machine does meets both.
# Usage: backlog.sh FAJMA [DIR [SECONDS [PAIRS]]]. Prints figures; asserts nothing about time. Needs curl.
set -eu
fajma=$(realpath "$1")
work=$(mktemp -d "${2:-/tmp}/backlog.XXXXXX")
seconds=${3:-20}
pairs=${4:-5}
server=
backlog=
trap '{ [ -z "$backlog" ] || { kill -CONT "$backlog"; kill "$backlog"; } ; [ -z "$server" ] || kill "$server"; wait; } 2>/dev/null || true
  rm -rf "$work"' EXIT
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

# Prints p50 and p99 of what was acknowledged, in milliseconds.
live() {
  "$fajma" simulate --to "mqtt://$mqtt" --patients 1000 --rate 1000 --connections 8 --duration "$1s" --scenario stable \
    --prefix live >live.txt 2>&1
  awk '/acknowledged after, p50/ { p50 = $4 } /acknowledged after, p99/ { p99 = $4 } END { print p50, p99 }' live.txt
}

live 5 >/dev/null
# Ten sensors behind one gateway, a reading every five seconds each, for three days. A gateway is a machine of its own: here
# it gets what the others leave. It stands still for longer than it waits for an answer, so it counts some as unanswered.
nice -n 19 "$fajma" simulate --to "mqtt://$mqtt" --patients 10 --rate 2 --speed 1000000 --duration 72h --connections 1 \
  --batch 100 --scenario stable --prefix gateway >backlog.txt 2>&1 &
backlog=$!
echo "1,000 sensors live, one reading a second each, $seconds s: acknowledged after, ms"
echo "alone p50 p99 / beside a gateway that drains three days p50 p99"
for _ in $(seq "$pairs"); do
  kill -STOP "$backlog"
  sleep 1
  alone=$(live "$seconds")
  kill -CONT "$backlog" || { echo "the gateway was through"; break; }
  sleep 1
  beside=$(live "$seconds")
  echo "$alone / $beside" | tee -a pairs.txt
done
sort -n -k2 pairs.txt | awk '{ a[NR] = $2 } END { print "alone, median of the p99s:", a[int((NR + 1) / 2)] }'
sort -n -k5 pairs.txt | awk '{ b[NR] = $5 } END { print "beside, median of the p99s:", b[int((NR + 1) / 2)] }'
# Nothing is live any more: the rest goes as fast as it is taken.
wait "$backlog" || true
backlog=
echo "the gateway:"
cat backlog.txt
