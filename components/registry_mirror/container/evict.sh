#!/bin/sh
# Measures the cache, and holds it below its limit: the layers that were used longest ago go first, beneath the running registry.
# Runs in the registry's container, with the registry's folder of the cache as working directory; `usage.sh` keeps it running.
#
#   evict.sh NOTES [LIMIT=<bytes>] [FLOOR=<bytes> or FLOOR=<n>%] [IDLE=<seconds>] [FOLDER=<path>] [other words, ignored]
#
# Only the registry at the root has LIMIT or FLOOR, for the whole cache with everything in `registries/`: there is one evictor.
#
# It is safe because the registry looks for the file at every request, and fetches a layer that is not there (distribution
# registry/proxy/proxyblobstore.go, with no expiry and no descriptor cache). A layer that is being sent stays readable: the
# file is renamed into `.trash/` on the same file system first, and comes back if anybody has it open. What was used in the last hour is
# never evicted, nor is a manifest, a configuration or a link. A layer's last use is the time of its folder (`usage.sh`).
#
# The limit is on the bytes of what is cached, and of downloads under way. Eviction begins at the high water and ends at the low
# water. Both lie below the limit by as much as may be fetched before an eviction has done its work, measured here.
set -u
notes=$1
shift
limit='' floor='' idle=3600 folder=''
for word in "$@"; do
  case $word in
    LIMIT=*) limit=${word#*=} ;;
    FLOOR=*) floor=${word#*=} ;;
    IDLE=*) idle=${word#*=} ;;
    FOLDER=*) folder=${word#*=} ;;
  esac
done
SMALLEST=1048576 # bytes; what is smaller is a manifest, a configuration, or not worth asking the upstream for again
LAYERS=docker/registry/v2/blobs/sha256
HOUR=3600
SHARED_SECONDS=10 # another machine's NFS client loses a file that is removed while it reads it; so long it may say that it does
HEX='[0-9a-f]'
FOUR=$HEX$HEX$HEX$HEX
SIXTEEN=$FOUR$FOUR$FOUR$FOUR
DIGEST=$SIXTEEN$SIXTEEN$SIXTEEN$SIXTEEN
root=$(pwd -P)

say() { echo "registry mirror: $*" >&2; }
mib() { echo $((($1 + 524288) / 1048576)); }

# A real folder on the cache's own file system as working directory, in a subshell: false if a link leads elsewhere.
enter() {
  cd -P "$1" 2> /dev/null && [ "$(pwd -P)" = "$root/$1" ] && [ "$(stat -c %d .)" = "$(stat -c %d "$root")" ]
}

# The registries' folders, this one's own first. A name that is not one of ours is passed over.
bases() {
  echo .
  [ -z "$folder" ] || return 0
  for base in registries/*; do
    case ${base#registries/} in '*' | [!a-z0-9]* | *[!a-z0-9._-]*) continue ;; esac
    echo "$base"
  done
}

# Where a registry's layers are, below the root.
layers_of() { if [ "$1" = . ]; then echo $LAYERS; else echo "$1/$LAYERS"; fi; }

# First a line `sum <bytes> <bytes of this registry> <oldest use>`. Then, in no order, `pick <use> <bytes> <folder>` for the oldest of
# the layers that may go, $1 bytes of them if there are so many, and `empty <folder>` for folders of layers that have gone. Memory is
# taken for so many only: they are held by their age, and the newest are dropped as soon as older ones are enough.
walk() {
  now=$(date +%s)
  bases | while read -r base; do
    (
      enter "$(layers_of "$base")" || exit 0
      echo "base $(layers_of "$base")"
      find . -xdev -mindepth 2 -maxdepth 3 \( -type d -path "./$HEX$HEX/$DIGEST" -o -type f -path "./$HEX$HEX/$DIGEST/data" \) \
        -exec stat -c '%s %Y %n' {} + 2> /dev/null
    )
  done | awk -v want="$1" -v before="$((now - idle))" -v smallest=$SMALLEST -v own="$LAYERS" -v grain="$((idle / 60 + 1))" '
    function ended() {
      if (folder != "" && !has_data && folder_use < before && empties++ < 1000) empty[empties] = base substr(folder, 2)
      folder = ""
    }
    BEGIN { lowest = int((before - 94608000) / grain) }  # three years: the loop below goes over every bucket
    $1 == "base" { ended(); base = $2; next }
    $3 !~ /\/data$/ { ended(); folder = $3; folder_use = $2; has_data = 0; next }
    {
      size = $1; total += size
      if (base == own) ours += size
      use = $2
      if ($3 == folder "/data") { has_data = 1; if (folder_use > use) use = folder_use }
      if (size <= smallest) next
      if (!oldest || use < oldest) oldest = use
      if (use >= before || want <= 0) next
      bucket = int(use / grain)
      if (bucket < lowest) bucket = lowest
      if (held >= want && bucket >= newest) next
      if (!held || bucket > newest) newest = bucket
      pick[bucket, ++layers[bucket]] = use " " size " " base substr($3, 2)
      bytes[bucket] += size; held += size
      while (held - bytes[newest] >= want) {
        held -= bytes[newest]
        for (i = 1; i <= layers[newest]; i++) delete pick[newest, i]
        delete layers[newest]; delete bytes[newest]
        do newest--; while (newest > lowest && !(newest in bytes))
      }
    }
    END {
      ended()
      printf "sum %.0f %.0f %.0f\n", total, ours, oldest
      for (i in pick) { sub(/\/data$/, "", pick[i]); print "pick " pick[i] }
      for (i in empty) print "empty " empty[i]
    }'
}

# Bytes that all registries have fetched since they started, and of downloads under way.
fetched() {
  {
    cat "$notes/fetched" 2> /dev/null
    [ -n "$folder" ] || for base in $(bases); do
      [ "$base" = . ] || (enter "$base/.usage" && [ -f fetched ] && [ ! -L fetched ] && head -c 100 fetched | head -n 1)
    done
  } | awk '$1 ~ /^[0-9]+$/ && $2 ~ /^[0-9]+$/ { count += $1; under_way += $2 } END { printf "%.0f %.0f\n", count, under_way }'
}

# Free bytes and size of the file system.
room() { stat -f -c '%a %b %S' . | awk '{ printf "%.0f %.0f\n", $1 * $3, $2 * $3 }'; }

# ------------------------------------------------------------------------------------------------------------------ evicting

# Whether `.trash` is a folder of ours to rename into.
has_trash() {
  [ ! -L .trash ] || rm -f .trash
  [ -d .trash ] || mkdir .trash 2> /dev/null
  (enter .trash)
}

sweep() (
  enter .trash && find . -xdev -mindepth 1 -maxdepth 1 ! -type d -exec rm -f {} +
) 2> /dev/null

# Renames one layer into the trash as $2, unless it was used since: $1 is its folder, $3 its use as it was found. Prints the time
# that its folder has then, by the storage's own clock.
rename() (
  enter "$1" || exit 1
  [ -f data ] && [ ! -L data ] || exit 1
  for use in $(stat -c %Y . data); do [ "$use" -le "$3" ] || exit 1; done
  mv -f data "$root/.trash/$2" && stat -c %Y .
) 2> /dev/null

# Brings a layer back that somebody has open, or that was used since its folder had the time $3.
bring_back() (
  enter "$1" || exit 0
  if echo "$open" | grep -q -F -e "-> $root/.trash/$2" || [ "$(stat -c %Y .)" -gt "$3" ]; then
    [ -e data ] || mv -f "$root/.trash/$2" data
  fi
) 2> /dev/null

# Of the picks on standard input, oldest first, so many bytes: in portions, each renamed, looked at again, and removed.
evict_picks() {
  need=$1 freed=0 layers=0 youngest=0 number=0
  while [ "$freed" -lt "$need" ]; do
    portion='' in_others='' taken=0
    while [ $((freed + taken)) -lt "$need" ] && [ ${#portion} -lt 20000 ] && read -r _ use size path; do
      number=$((number + 1))
      renamed=$(rename "$path" $number "$use") || continue
      portion="$portion $number:$renamed:$use:$size:$path"
      taken=$((taken + size))
      case $path in registries/*) in_others=yes ;; esac
    done
    [ -n "$portion" ] || break
    # On this machine a file that is open stays readable when it is removed.
    [ -z "$in_others" ] || [ "$(stat -f -c %T .)" != nfs ] || sleep $SHARED_SECONDS
    open=$(ls -l /proc/1/fd 2> /dev/null)
    for entry in $portion; do
      IFS=: read -r name renamed use size path << END
$entry
END
      bring_back "$path" "$name" "$renamed"
      if [ -e ".trash/$name" ]; then
        freed=$((freed + size)) layers=$((layers + 1))
        [ "$use" -le "$youngest" ] || youngest=$use
      fi
    done
    sweep
  done
  echo "$layers $freed $youngest"
}

# Brings the cache down to $1 bytes, or evicts $2 bytes, whichever is more; asks the walk for picks of $3 bytes.
evict() {
  target=$1 wanted=$2
  begun=$(date +%s)
  list=$(walk "$3")
  measure "$list"
  need=$((total + under_way - target))
  [ "$need" -ge "$wanted" ] || need=$wanted
  layers=0 freed=0
  if [ "$need" -gt 0 ] && has_trash; then
    # shellcheck disable=SC2046 # three numbers
    set -- $(echo "$list" | grep '^pick ' | sort -n -k 2 | evict_picks "$need")
    layers=${1:-0} freed=${2:-0}
    if [ "$layers" -gt 0 ]; then
      age=$(($(date +%s) - $3))
      total=$((total - freed)) all_layers=$((all_layers + layers)) all_bytes=$((all_bytes + freed)) youngest_age=$age
      echo "$all_layers $all_bytes" > "$notes/evicted"
      say "$layers layers ($(mib "$freed") MiB) were evicted, used $((age / HOUR)) hours ago or before; the cache has $(mib "$total") MiB"
    fi
  fi
  spent=$(($(date +%s) - begun))
}

# Takes what a walk has summed up, and removes the folders of layers that went an hour ago or earlier.
measure() {
  echo "$1" | while read -r kind path; do
    [ "$kind" != empty ] || (enter "${path%/*}" && rmdir "${path##*/}") 2> /dev/null
  done
  # shellcheck disable=SC2046 # words
  set -- $(echo "$1" | head -n 1)
  total=${2:-0} walked=$(date +%s) at_walk=$count
  echo "$total ${3:-0} ${4:-0}" > "$notes/measured"
}

write_metrics() (
  [ ! -L .usage ] || rm -f .usage
  [ -d .usage ] || mkdir .usage || exit 1
  enter .usage || exit 1
  [ ! -d metrics ] || [ -L metrics ] || exit 1
  rm -f .new-metrics
  (
    set -C
    metric() { printf '# HELP %s %s\n# TYPE %s %s\n%s %s\n' "$1" "$3" "$1" "$2" "$1" "$4"; }
    {
      metric registry_mirror_cache_bytes gauge 'Bytes of what is cached, and of downloads under way.' "$estimate"
      metric registry_mirror_cache_limit_bytes gauge 'The limit (cacheLimit); 0 for none.' "${limit:-0}"
      metric registry_mirror_cache_free_bytes gauge 'Free bytes of the file system of the cache.' "$free"
      metric registry_mirror_evicted_layers_total counter 'Layers evicted since the start.' "$all_layers"
      metric registry_mirror_evicted_bytes_total counter 'Bytes evicted since the start.' "$all_bytes"
      metric registry_mirror_youngest_evicted_seconds gauge 'Seconds since the last use of the youngest layer of the last eviction.' "$youngest_age"
      metric registry_mirror_cache_over_limit gauge 'Whether cacheLimit or cacheFreeFloor is not kept, because nothing more can be evicted.' "$over"
    } > .new-metrics
  ) && mv -f .new-metrics metrics
) 2> /dev/null

# The marks, by the most bytes a second that were seen lately and the seconds that an eviction takes. Between the limit and the high
# water lies what may be fetched before an eviction has done its work: a second until the keeper says it, another until it is read
# here, and the eviction itself. Between that and the low water lies so much that an eviction takes a fifth of the time at most.
# Each is at least a hundredth of the limit and at most a tenth.
set_marks() {
  margin=$(between $((limit / 100)) $((speed * (3 + spent))) $((limit / 10)))
  batch=$(between $((limit / 100)) $((speed * (3 + 4 * spent))) $((limit / 10)))
  high=$((limit - margin)) low=$((limit - margin - batch))
}

# $2, or $1 where that is less than it, or $3 where it is more.
between() {
  if [ "$2" -lt "$1" ]; then echo "$1"; elif [ "$2" -gt "$3" ]; then echo "$3"; else echo "$2"; fi
}

# How long nothing need be looked at: an eighth of the time in which the high water is reached as fast as it was seen lately, and no
# longer than a gigabit a second needs for it. The keeper waits as long.
set_pause() {
  pause=10
  [ -z "$limit" ] || pause=$(between 1 $(((high - estimate) / (8 * speed + 125000000))) 10)
  [ -n "$limit$floor" ] || pause=60
  echo "$pause" > "$notes/pause.new" && mv -f "$notes/pause.new" "$notes/pause"
}

# The floor in bytes; of a file system that can never have so much free, half of it.
set_floor() {
  case $floor in
    *%) least=$((size_of_all / 100 * ${floor%\%})) ;;
    *) least=$floor ;;
  esac
  if [ "$least" -gt $((size_of_all / 2)) ]; then
    least=$((size_of_all / 2))
    [ -n "$floor_said" ] || say "cacheFreeFloor is more than half of the cache's file system: $(mib "$least") MiB, the half of it, are kept free"
    floor_said=yes
  fi
}

total=0 walked=0 at_walk=0 count=0 under_way=0 estimate=0 speed=0 spent=1 over=0 over_said=0
all_layers=0 all_bytes=0 youngest_age=0 not_before=0 floor_not_before=0 floor_said='' last_metrics=0 stuck='' floor_stuck=''
# Of an evictor before this one in the same container.
# shellcheck disable=SC2046 # two numbers
set -- $(cat "$notes/evicted" 2> /dev/null)
all_layers=${1:-0} all_bytes=${2:-0}
[ -n "$folder" ] || sweep
pause=1

while :; do
  now=$(date +%s)
  # shellcheck disable=SC2046 # two numbers
  set -- $(fetched)
  grown=$((${1:-0} + ${2:-0} - count - under_way))
  # A registry that has started anew counts from zero.
  [ "${1:-0}" -ge "$count" ] || at_walk=0 grown=0
  count=${1:-0} under_way=${2:-0}
  # shellcheck disable=SC2046 # two numbers
  set -- $(room)
  free=${1:-0} size_of_all=${2:-0}
  [ "$walked" -ne 0 ] || grown=0
  speed=$((speed - speed / 200))
  [ $((grown / pause)) -le $speed ] || speed=$((grown / pause))
  event=''
  if [ "$walked" -eq 0 ] || [ $((now - walked)) -ge $HOUR ]; then
    measure "$(walk 0)"
    event=yes
  fi
  estimate=$((total + count - at_walk + under_way))
  over=0
  if [ -n "$limit" ]; then
    set_marks
    if [ "$estimate" -ge "$high" ] && [ "$now" -ge $not_before ]; then
      evict "$low" 0 $(((estimate - low) * 5 / 4 + limit / 100))
      estimate=$((total + count - at_walk + under_way)) stuck=''
      if [ "$freed" -eq 0 ] && [ "$need" -gt 0 ]; then
        # Nothing may go now. Walking without a pause would not change that.
        stuck=yes not_before=$(($(date +%s) + idle / 60 + 10 * spent))
      fi
      event=yes
    fi
    [ -z "$stuck" ] || [ "$estimate" -le "$limit" ] || over=1
  fi
  if [ -n "$floor" ]; then
    set_floor
    if [ "$free" -ge $least ]; then
      floor_stuck=''
    elif [ "$now" -ge $floor_not_before ]; then
      wanted=$((least - free + least / 20))
      # Half a minute apart: a file system may give free what was removed some time later.
      evict $estimate $wanted $((wanted + wanted / 20))
      floor_not_before=$(($(date +%s) + idle / 120)) floor_stuck=''
      [ "$freed" -ge "$need" ] || floor_stuck=yes
      event=yes
    fi
    [ -z "$floor_stuck" ] || over=1
  fi
  if [ $over -eq 1 ] && [ $((now - over_said)) -ge $HOUR ]; then
    say "the cache has $(mib "$estimate") MiB, and $(mib "$free") MiB are free: more than it may have, and all of it was used in the last hour or is small"
    over_said=$now
  fi
  if [ -n "$event" ] || [ $((now - last_metrics)) -ge 60 ]; then
    write_metrics
    last_metrics=$now
  fi
  set_pause
  sleep "$pause"
done
