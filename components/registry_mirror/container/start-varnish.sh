#!/bin/sh
# Starts Varnish in front of the registries and keeps it pointed at each one's task, whose address changes with every task.
#
# Varnish looks a name up once, when it reads its configuration. The address is the task's and not the service's, because that
# one needs IPVS, which not every kernel has. What Varnish holds stays when its configuration is read again.
#
# Settings are words like PORT=6081 and not environment variables, which the docker plugin sends in another order each time: swarm
# would start a new task although nothing has changed. Words with other names are ignored.
set -u
work=/tmp/varnish
MIB=1048576
SMALL=64 # MiB for manifests and the like, apart: every object costs memory that no store counts, so their number is bounded
registries='' port='' memory='' disk='' passes='' referrers='' metrics=''
for word in "$@"; do
  case $word in
    REGISTRY=*) registries="$registries ${word#*=}" ;;
    PORT=*) port=${word#*=} ;;
    MEMORY=*) memory=${word#*=} ;;
    DISK=*) disk=${word#*=} ;;
    PASSES=*) passes=${word#*=} ;;
    REFERRERS=*) referrers=${word#*=} ;;
    METRICS=*) metrics=${word#*=} ;;
  esac
done
: "${registries:?missing: REGISTRY=<service>, once for each}" "${port:?missing: PORT=<port>}"
: "${memory:?missing: MEMORY=<MiB>}" "${disk:?missing: DISK=<MiB>}" "${passes:?missing: PASSES=<number>}"
: "${referrers:?missing: REFERRERS=empty or upstream}"
NETWORKS=/proc/net/fib_trie
log() { echo "registry mirror: $*" >&2; }

# An IPv4 address as a number.
number() {
  # shellcheck disable=SC2046 # the four parts are words on purpose
  set -- $(echo "$1" | tr . ' ')
  echo $((($1 << 24) | ($2 << 16) | ($3 << 8) | $4))
}

# Whether $1 lies in a network that one of this container's interfaces is in: `|-- 10.0.1.0`, then `/24 link UNICAST`.
is_neighbour() {
  wanted=$(number "$1") network=''
  while read -r first second third _; do
    case "$first $second $third" in
      '|-- '*) network=$second ;;
      /*' link UNICAST')
        shift_by=$((32 - ${first#/}))
        [ $((wanted >> shift_by)) -ne $(($(number "$network") >> shift_by)) ] || return 0
        ;;
    esac
  done < "$NETWORKS"
  return 1
}

# The address of the registry $1, or nothing. While it has no task, docker's resolver asks the machine's about this name, whose
# answer may be a stranger: a wildcard is enough. So the name is absolute (no search list), and only an address on a network of
# this container is taken. If the machine's resolver is silent, ten seconds would pass, hence the options.
address() {
  for found in $(RES_OPTIONS="timeout:1 attempts:1" getent ahostsv4 "tasks.$1." | cut -d ' ' -f 1 | sort -u); do
    case $found in *[!0-9.]*) continue ;; esac
    if is_neighbour "$found"; then
      echo "$found"
      return
    fi
    echo "not ours: $found"
  done
}

# The configuration number $1, with the addresses of $current.
configuration() {
  edits='' number=0
  for found in $current; do
    edits="$edits;s/@ADDRESS_$number@/$found/"
    number=$((number + 1))
  done
  sed -e "${edits#;}" -e "s/@SMALL@/$(leasable $SMALL)/" -e "s/@MEMORY@/$(leasable "$memory")/" \
    -e "s/@DISK@/$(leasable "$disk")/" -e "s/@TAKEN@/$disk/" -e "s/@ASKED@/$asked/" -e "s/@LARGEST@/$((memory * MIB / 2))/" -e "s/@PASSES@/$passes/" \
    -e "s/@REFERRERS@/$referrers/" \
    /etc/varnish/mirror.vcl > "/tmp/mirror-$1.vcl"
}

# The addresses of all registries, into `next`: of each the one that it has now where no other is found.
look_up() {
  next=''
  # shellcheck disable=SC2086 # as many words as registries
  set -- $current
  for registry in $registries; do
    found=$(address "$registry" | tail -n 1)
    case $found in
      '') found=$1 ;;
      'not ours: '*)
        [ "$registry $found" = "$refused" ] ||
          log "an address outside of this container's networks was answered for $registry, and is not used: ${found#*: }"
        refused="$registry $found"
        found=$1
        ;;
    esac
    next="$next $found"
    shift
  done
}

# Of a store's MiB, how many bytes bodies may take that cannot make room: a sixteenth is left for what pieces cost.
leasable() { echo $(($1 * MIB / 16 * 15)); }

# btrfs writes each change to another place, so the room that a file has is worth nothing once others have filled the disk. In a file
# that is exempt from that (chattr +C) it is, but each page then takes as long as btrfs looks for room: 2 MB/s (Linux 6.18).
is_btrfs() { grep -q '^[^ ]* /tmp btrfs ' /proc/mounts; }

# Large bodies are on this machine's disk, of which never more than half of what is free is taken.
asked=$disk
free=$(df -Pk /tmp | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)
if [ "$disk" -gt $((free / 2048)) ]; then
  disk=$((free / 2048))
  log "only $((free / 1024)) MiB of the disk are free: $disk MiB are taken for large layers"
fi
[ "$disk" -ge 64 ] || disk=0
if [ "$disk" -gt 0 ]; then
  # `normal`: read ahead. Varnish's own choice, page by page, gives a layer that is larger than the container's memory at 14 MB/s.
  bodies="file,/tmp/bodies,${disk}m,,normal"
  # Taken now: on another file system than ext4 (XFS) Varnish takes a page when it writes to it, and if others have filled the disk
  # by then, it ends, and every body that is being sent with it.
  if ! fallocate -l $((disk * MIB)) /tmp/bodies 2> /dev/null || is_btrfs; then
    log "the room for large layers cannot be reserved here: Varnish ends, and starts again, when others fill the disk"
  fi
else
  bodies=malloc,1m
fi

# Varnish's counters since its child's start for Prometheus, into a file that `mirror.vcl` answers with: NAME of varnishstat, kind and
# name of ours.
COUNTERS='MAIN.uptime gauge uptime_seconds
MAIN.client_req counter requests_total
MAIN.cache_hit counter hits_total
MAIN.cache_miss counter misses_total
MAIN.s_resp_bodybytes counter sent_bytes_total
MAIN.fetch_failed counter failed_fetches_total
MAIN.backend_req counter registry_requests_total
MAIN.n_object gauge objects
MAIN.threads gauge threads
MAIN.threads_limited counter threads_limited_total
SMA.small.g_bytes gauge store_bytes{store="small"}
SMA.memory.g_bytes gauge store_bytes{store="memory"}
SMF.disk.g_bytes gauge store_bytes{store="disk"}
SMA.small.g_space gauge store_free_bytes{store="small"}
SMA.memory.g_space gauge store_free_bytes{store="memory"}
SMF.disk.g_space gauge store_free_bytes{store="disk"}'
write_metrics() {
  values=$(varnishstat -1 -n $work 2> /dev/null) || return 0
  last=''
  echo "$COUNTERS" | while read -r theirs kind ours; do
    value=$(echo "$values" | sed -n "s/^$theirs  *\([0-9]*\) .*/\1/p")
    [ -n "$value" ] || continue
    name=registry_mirror_varnish_${ours%%\{*}
    [ "$name" = "$last" ] || echo "# TYPE $name $kind"
    last=$name
    echo "registry_mirror_varnish_$ours $value"
  done > /tmp/metrics.new && mv /tmp/metrics.new /tmp/metrics
}

# It starts whether there are registries or not. Until one is found, clients get 503 at once (nobody listens at this
# address), and docker asks the upstream. If it waited, its health check would fail and swarm would end it.
current=''
for registry in $registries; do current="$current 127.0.0.1"; done
loaded=1
refused=''
configuration $loaded
mkdir -p $work
# No program of the image gains anything by being setuid; docker's own switch for it is not in the docker plugin.
confined=''
setpriv --no-new-privs true 2> /dev/null && confined='setpriv --no-new-privs'
$confined varnishd -F -n $work -a "http=:$port,HTTP" -f /tmp/mirror-1.vcl -s "small=malloc,${SMALL}m" -s "memory=malloc,${memory}m" \
  -s "disk=$bodies" -s Transient=malloc -p vcc_feature=+allow_inline_c -p http_gzip_support=off -p transit_buffer=128k -p nuke_limit=100000 -p timeout_idle=65 &
varnish=$!
trap 'kill -TERM $varnish 2> /dev/null' TERM INT

METRICS_EVERY=10 # turns of about a second
turn=0
while kill -0 $varnish 2> /dev/null; do
  # Varnish's child that cannot start, because the disk is full at that moment, is not tried again by its manager; of one that runs this is
  # refused.
  ! varnishadm -n $work start > /dev/null 2>&1 || log "Varnish's child had ended without starting again, and runs now"
  # Once Varnish has it open it needs no name, and disappears with the process. Swarm keeps the last five dead tasks, and their volumes.
  if [ -e /tmp/bodies ] && varnishadm -n $work ping > /dev/null 2>&1; then rm -f /tmp/bodies; fi
  if [ -n "$metrics" ] && [ $((turn % METRICS_EVERY)) -eq 0 ]; then write_metrics; fi
  turn=$((turn + 1))
  look_up
  if [ "$next" != "$current" ]; then
    before=$current
    current=$next
    loaded=$((loaded + 1)) # also after a failure: a name that was loaded and not used cannot be loaded again
    configuration $loaded
    if varnishadm -n $work vcl.load "mirror$loaded" "/tmp/mirror-$loaded.vcl" > /dev/null &&
      varnishadm -n $work vcl.use "mirror$loaded" > /dev/null; then
      log "the registries are at$current now"
    else
      current=$before
    fi
  fi
  sleep 1
done
wait $varnish
