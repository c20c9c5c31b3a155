#!/bin/sh
# What a registry of 100,000 patients, 2,000 practitioners and 200,000 sensors costs: import, memory, queries, cold start.
# Usage: registry.sh FAJMA [DIR]. Prints figures; asserts nothing about time. Needs curl and awk.
set -eu
fajma=$(realpath "$1")
work=$(mktemp -d "${2:-/tmp}/registry.XXXXXX")
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

awk 'BEGIN {
  srand(1)
  split("Awa Moussa Fatou Ibrahima Aminata Cheikh Mariama Ousmane", first, " ")
  split("Diop Ndiaye Fall Sow Ba Gueye Sarr Diallo", last, " ")
  split("urban semi_urban rural", zone, " ")
  split("MQTT BLE LoRaWAN HTTPS", protocol, " ")
  print "id,name,profession,zone" > "practitioners.csv"
  for (i = 0; i < 2000; i++)
    printf "d-%d,%s %s,doctor,%s\n", i, any(first, 8), any(last, 8), any(zone, 3) > "practitioners.csv"
  for (i = 0; i < 100000; i++)
    printf "{\"kind\":\"patient\",\"id\":\"p-%d\",\"name\":\"%s %s\",\"birth_date\":\"%d-0%d-1%d\",\"sex\":\"female\",\"conditions\":[\"I10\"],\"zone\":\"%s\",\"care_team\":[\"d-%d\"]}\n",
      i, any(first, 8), any(last, 8), 1930 + int(rand() * 90), 1 + int(rand() * 9), int(rand() * 10), any(zone, 3), int(rand() * 2000) > "patients.jsonl"
  print "id,kind,mac_address,protocol_type,firmware_version" > "sensors.csv"
  for (i = 0; i < 200000; i++)
    printf "s-%d,ecg,02:00:00:%02X:%02X:%02X,%s,1.2.0\n", i, int(i / 65536), int(i / 256) % 256, i % 256, any(protocol, 4) > "sensors.csv"
}
function any(list, n) { return list[1 + int(rand() * n)] }'

start() {
  "$fajma" up --data data --listen 127.0.0.1:0 --mqtt 127.0.0.1:0 --json >up.json 2>up.log &
  server=$!
  until http=$(sed -n 's/.*"http": *"\([^"]*\)".*/\1/p' up.json | head -1) && [ -n "$http" ] &&
    curl -sf "http://$http/readyz" >/dev/null; do
    kill -0 "$server" || { cat up.log >&2; exit 1; }
    sleep 0.02
  done
}

memory() { awk '/VmHWM/ { printf "peak memory of the server: %.0f MB\n", $2 / 1000 }' "/proc/$server/status"; }

# latency NAME N COMMAND…: the p50 and p99 of N requests, in milliseconds; {} is the turn.
latency() {
  name=$1 n=$2 i=0
  shift 2
  while [ "$i" -lt "$n" ]; do
    i=$((i + 1))
    sh -c "$(printf '%s' "$*" | sed "s/{}/$i/g")"
  done | sort -n | awk -v name="$name" '{ a[NR] = $1 * 1000 } END {
    printf "%s: p50 %.1f ms, p99 %.1f ms (%d requests)\n", name, a[int((NR + 1) / 2)], a[int(NR * 0.99)], NR }'
}

start
for rows in "practitioners.csv --kind practitioners" "patients.jsonl" "sensors.csv --kind sensors"; do
  echo "import $rows"
  # shellcheck disable=SC2086
  "$fajma" import $rows --data data --by bench
  memory
done
echo "the same again"
"$fajma" import sensors.csv --kind sensors --data data --by bench
token=$("$fajma" token issue --role admin --data data)
http=http://$http
ask="curl -sf -o /dev/null -w '%{time_total}\n' -H 'Authorization: Bearer $token'"
json="-H 'content-type: application/json'"
latency "GET a patient" 300 "$ask $http/v1/patients/p-{}7"
latency "search, 50 of them" 100 "$ask '$http/v1/patients?q=Fatou%20D&limit=50'"
latency "POST a patient" 300 "$ask -X POST $json -d '{\"id\":\"new-{}\",\"name\":\"Awa Sow\"}' $http/v1/patients"
latency "GET it at once (Fajma-Read-After not asked for)" 300 "$ask $http/v1/patients/new-{}"
latency "PUT a patient, by its revision" 300 "$ask -X PUT $json -H 'If-Match: \"1\"' -d '{\"name\":\"Awa Sy\"}' $http/v1/patients/new-{}"
latency "DELETE a patient, by its revision" 300 "$ask -X DELETE -H 'If-Match: \"2\"' $http/v1/patients/new-{}"
memory
kill "$server"
wait "$server" || true
du -sm data | awk '{ print "on disk: " $1 " MB" }'
began=$(date +%s%N)
start
echo "cold start to ready: $((($(date +%s%N) - began) / 1000000)) ms"
memory
