#!/bin/sh
# Notes what the registry is asked for: when a layer was last used, what was pulled, and what each hour brought. It also keeps the
# evictor running. Runs beside the registry, in its container, with the registry's folder of the cache as working directory.
#
#   usage.sh supervise|keep NOTES EVICT [ROUND=<seconds between two rounds at most>] [FOLDER=<path>] [words for the evictor]
#
# The registry stays process 1 and writes its access log into a FIFO, NOTES/log. The reader below passes every line on, and writes
# what it has seen of them into NOTES, which is memory: it never waits for the storage. All that touches the storage is done by the
# keeper, in rounds. Whatever of these ends is started again, because a log that nobody reads would stop the registry.
#
# In the cache, all in `.usage/` of this registry, each file bounded and replaced by rename:
#   hours              <epoch> name=value …, one line per full hour, 400 days
#   hour               the same of the hour that is running
#   pulls-YYYY-MM-DD   <count> <repository>:<tag> or <repository>@<digest>; 1,000 lines, 32 days
#   fetched            for the evictor: bytes fetched since the registry's start, and bytes of downloads under way
# A layer's last use is the time of its folder, so that every machine that shares the storage sees it.
set -u
stage=$1 notes=$2 evict=$3
shift 3
slowest=10 folder='' idle=3600
for word in "$@"; do
  case $word in
    ROUND=*) slowest=${word#*=} ;;
    FOLDER=*) folder=${word#*=} ;;
    IDLE=*) idle=${word#*=} ;;
  esac
done
LAYERS=docker/registry/v2/blobs/sha256
HOURS=9600 # lines of `hours`: 400 days
PULLS=1000
DAYS=32
root=$(pwd -P)

# Whether a process is there. One that has ended stays a zombie where the registry has become its parent, and answers `kill -0`.
is_running() {
  { read -r _ _ state _ < "/proc/$1/stat"; } 2> /dev/null && [ "$state" != Z ]
}

# Of an access log line, only what stands before the first quote and the request itself is the registry's own (gorilla/handlers
# escapes a quote in what a client sends). A tick is the keeper's, by a word that no client can know. `seen`: a digest is noted once
# a minute (a sixtieth of the time in which nothing is evicted). Both tables are bounded.
READER='
function take(   line) {
  for (line in pulled) print "pulled", pulled[line], line > file
  close(file)
  split("", pulled); names = 0
}
BEGIN { file = notes "/seen.0" }
$1 == tick { take(); now = $2; file = notes "/seen." $3; noted = 0; next }
{ print; fflush() }
/^[^ "]+ - - \[[^]"]*\] "(GET|HEAD) \/v2\/[a-z0-9][a-z0-9._\/-]*\/(blobs|manifests)\/[A-Za-z0-9_.:-]+(\?[^" ]*)? HTTP\/[0-9.]+" 20[06] / {
  split($0, part, "\""); split(part[2], request, " ")
  path = substr(request[2], 5); sub(/\?.*/, "", path)
  count = split(path, element, "/"); last = element[count]; kind = element[count - 1]
  if (length(path) > 400) next
  if (kind == "blobs") {
    if (length(last) != 71 || last !~ /^sha256:[0-9a-f]+$/ || noted >= 5000) next
    if (last in seen && now - seen[last] < every) next
    if (known++ > 20000) { split("", seen); known = 1 }
    seen[last] = now; noted++
    print "used", substr(last, 8) > file
  } else if (request[1] == "GET") {
    name = substr(path, 1, length(path) - length(last) - 11) (last ~ /:/ ? "@" : ":") last
    if (!(name in pulled) && names++ >= 2000) next
    pulled[name]++
  }
}'

# ----------------------------------------------------------------------------------------------------------------- supervising

supervise() {
  # Of a supervisor before this one. Two readers would tear lines apart.
  for process in $(cat "$notes/processes" 2> /dev/null); do
    [ "$process" -eq $$ ] || kill "$process" 2> /dev/null
  done
  tick=$(head -c 16 /dev/urandom | tr -dc 'a-z0-9')$$
  exec 3<> "$notes/log"
  reader='' keeper='' evictor='' readers=0
  while :; do
    if [ -z "$reader" ] || ! is_running "$reader"; then
      readers=$((readers + 1))
      if [ $((readers % 10)) -ne 0 ]; then
        awk -v notes="$notes" -v tick="$tick" -v every=$((idle / 60)) "$READER" <&3 &
      else
        cat <&3 & # an awk that always ends: at least the log goes on
      fi
      reader=$!
    fi
    if [ -z "$keeper" ] || ! is_running "$keeper"; then
      /bin/sh "$0" keep "$notes" "$evict" SUPERVISOR=$$ TICK="$tick" "$@" &
      keeper=$!
    fi
    if [ -z "$evictor" ] || ! is_running "$evictor"; then
      /bin/sh "$evict" "$notes" "$@" 3>&- &
      evictor=$!
    fi
    echo "$reader $keeper $evictor" > "$notes/processes"
    sleep 1
  done
}

# ------------------------------------------------------------------------------------------------------------------ the storage

# A real folder of this registry's cache as working directory, in a subshell.
enter() { cd -P "$1" 2> /dev/null && [ "$(pwd -P)" = "$root/$1" ]; }

# A file of `.usage`, or nothing where it is none.
old() (
  enter .usage && [ -f "$1" ] && [ ! -L "$1" ] && head -c 4000000 "$1"
)

# Replaces a file of `.usage` by standard input. Where the storage takes nothing, the old one stays.
replace() (
  [ ! -L .usage ] || rm -f .usage
  [ -d .usage ] || mkdir .usage || exit 1
  enter .usage || exit 1
  [ ! -d "$1" ] || [ -L "$1" ] || exit 1
  rm -f ".new-$1"
  (set -C && cat > ".new-$1") && mv -f ".new-$1" "$1"
) 2> /dev/null

# Sets the time of the layers' folders. Standard input has their digests.
touch_layers() (
  enter $LAYERS || exit 0
  set --
  while read -r digest; do
    case $digest in *[!0-9a-f]*) continue ;; esac
    [ ${#digest} -eq 64 ] || continue
    two=${digest%"${digest#??}"}
    if [ -d "$two/$digest" ] && [ ! -L "$two" ] && [ ! -L "$two/$digest" ]; then
      set -- "$@" "$two/$digest"
    fi
    if [ $# -ge 100 ]; then
      touch -c "$@"
      set --
    fi
  done
  [ $# -eq 0 ] || touch -c "$@"
) 2> /dev/null

# What the registry has open: `used <digest>` for a layer that is being sent, however long that takes, and `<number>` of the file
# descriptor for a download.
open_files() {
  ls -l /proc/1/fd 2> /dev/null | while read -r line; do
    case $line in
      *" -> $root/$LAYERS/"*/data)
        line=${line%/data}
        echo "used ${line##*/}"
        ;;
      *" -> $root/docker/registry/v2/repositories/"*/_uploads/*/data)
        line=${line%% -> *}
        echo "${line##* }"
        ;;
    esac
  done
}

# The registry's counters: requests, hits, misses, bytes served, bytes fetched. Nothing where it does not answer.
counters() {
  printf 'GET /metrics HTTP/1.0\r\n\r\n' | nc -w 5 127.0.0.1 5001 2> /dev/null | awk '
    match($1, /^registry_proxy_[a-z_]+\{type="(blob|manifest)"\}$/) {
      name = substr($1, 16); sub(/\{.*/, "", name); sub(/_total$/, "", name); sum[name] += $2; any = 1
    }
    END { if (any) printf "%.0f %.0f %.0f %.0f %.0f\n", sum["requests"], sum["hits"], sum["misses"], sum["pushed_bytes"], sum["pulled_bytes"] }'
}

# ---------------------------------------------------------------------------------------------------------------- the keeper

# One round: what the reader has noted, and what the registry has open.
round() {
  open=$(open_files)
  {
    [ ! -f "$notes/seen.$1" ] || cat "$notes/seen.$1"
    echo "$open"
  } | while read -r kind digest _; do [ "$kind" != used ] || echo "$digest"; done | touch_layers
  [ ! -f "$notes/seen.$1" ] || while read -r kind count name; do
    [ "$kind" != pulled ] || echo "$count $name"
  done < "$notes/seen.$1" >> "$notes/pulls"
  rm -f "$notes/seen.$1"
  downloads=''
  for number in $(echo "$open" | grep -v used); do downloads="$downloads /proc/1/fd/$number"; done
  # shellcheck disable=SC2086 # as many words as files
  under_way=$([ -z "$downloads" ] || stat -L -c %s $downloads 2> /dev/null | awk '{ sum += $1 } END { printf "%.0f", sum }')
}

# Bytes fetched, for the evictor: in memory, and for that of another container in the cache.
say_fetched() {
  found=$(counters)
  [ -z "$found" ] || current=$found
  # shellcheck disable=SC2086 # five numbers
  set -- $current
  line="${5:-0} ${under_way:-0}"
  [ "$line" != "$said" ] || return 0
  said=$line
  echo "$line" > "$notes/fetched.new" && mv -f "$notes/fetched.new" "$notes/fetched"
  [ -z "$folder" ] || echo "$line" | replace fetched
}

# `hour` as it is now: what was there, and what the counters have grown by since the last time.
add_to_hour() {
  now=$(date +%s)
  begin=$((now - now % 3600))
  evicted=$(cat "$notes/evicted" 2> /dev/null)
  measured=$(cat "$notes/measured" 2> /dev/null)
  growth=$(echo "$last ; $current ; ${evicted:-0 0}" | awk -F ' ; ' '{
    split($1, before, " "); split($2 " " $3, after, " ")
    for (i = 1; i <= 7; i++) { grown = after[i] - before[i]; printf "%.0f ", grown < 0 ? after[i] : grown }
  }')
  last="$current ${evicted:-0 0}"
  line=$(old hour | head -n 1 | awk -v growth="$growth" -v measured="${measured:-0 0 0}" -v begin="$begin" '
    BEGIN { count = split("requests hits misses served_bytes fetched_bytes evicted_layers evicted_bytes", name, " "); split(growth, grown, " ") }
    { for (i = 2; i <= NF; i++) { split($i, pair, "="); had[pair[1]] = pair[2] ~ /^[0-9]+$/ ? pair[2] : 0 } hour = $1 }
    END {
      if (hour !~ /^[0-9]+$/ || hour > begin) { hour = begin; split("", had) }
      printf "%.0f", hour
      for (i = 1; i <= count; i++) printf " %s=%.0f", name[i], had[name[i]] + grown[i]
      split(measured, m, " "); printf " cached_bytes=%.0f oldest_use=%.0f\n", m[2], m[3]
    }')
  if [ "${line%% *}" -lt "$begin" ]; then
    { old hours; echo "$line"; } | awk '/^[0-9]+( [a-z_]+=[0-9]+)+$/' | tail -n $HOURS | replace hours || return 0
    line="$begin requests=0 hits=0 misses=0 served_bytes=0 fetched_bytes=0 evicted_layers=0 evicted_bytes=0 ${line#* evicted_bytes=* }"
    forget_old_pulls
  fi
  echo "$line" | replace hour
}

# Adds what was pulled to the day's counts. Of more than a thousand names those that are pulled most are kept.
add_pulls() {
  [ -s "$notes/pulls" ] || return 0
  day=pulls-$(date -u +%Y-%m-%d)
  { old "$day"; cat "$notes/pulls"; } | awk '
    NF == 2 && $1 ~ /^[0-9]+$/ && length($1) < 13 && length($2) < 500 && $2 ~ /^[a-z0-9][a-z0-9._\/-]*[:@][A-Za-z0-9_.:-]+$/ { sum[$2] += $1 }
    END { for (name in sum) printf "%.0f %s\n", sum[name], name }' | sort -rn | head -n $PULLS | replace "$day"
  rm -f "$notes/pulls"
}

forget_old_pulls() (
  enter .usage || exit 0
  oldest=pulls-$(date -u -d "@$(($(date +%s) - DAYS * 86400))" +%Y-%m-%d)
  for name in pulls-????-??-??; do
    # A name is compared as text: the order of dates is that of their names.
    [ "$(printf '%s\n%s\n' "$name" "$oldest" | sort | head -n 1)" = "$oldest" ] || rm -f "./$name"
  done
)

keep() {
  supervisor='' tick=''
  for word in "$@"; do
    case $word in
      SUPERVISOR=*) supervisor=${word#*=} ;;
      TICK=*) tick=${word#*=} ;;
    esac
  done
  number=$(date +%s) # no number of a keeper before this one
  said='' current='0 0 0 0 0' under_way=0 elapsed=0
  last='0 0 0 0 0 0 0' # the counters as they were when they went into an hour; zero when the container starts
  [ ! -s "$notes/counted" ] || last=$(cat "$notes/counted")
  while :; do
    if ! is_running "$supervisor"; then
      shift 2 # its own words
      exec /bin/sh "$0" supervise "$notes" "$evict" "$@" 3>&-
    fi
    echo "$tick $(date +%s) $number" >&3
    seconds=$slowest
    # Near the limit the evictor wants to know more often.
    [ ! -s "$notes/pause" ] || read -r seconds < "$notes/pause"
    [ "$seconds" -le "$slowest" ] || seconds=$slowest
    sleep "$seconds"
    round $((number - 1))
    number=$((number + 1))
    elapsed=$((elapsed + seconds))
    say_fetched
    if [ $elapsed -ge $((idle / 60)) ]; then
      add_to_hour
      echo "$last" > "$notes/counted"
      add_pulls
      elapsed=0
    fi
  done
}

case $stage in
  supervise) supervise "$@" ;;
  keep) keep "$@" ;;
esac
