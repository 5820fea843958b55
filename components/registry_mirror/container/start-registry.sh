#!/bin/sh
# Starts the registry on its cache. Runs in the registry's container, at every start of it.
#
#   start-registry.sh CONFIGURATION [METRICS=<port>] [TAG_DAYS=<days>]
#                     [PROXY=<url> or PROXY_FILE=<path>] [NO_PROXY=<list>] [CA=<folder>] [FOLDER=<path>]
#                     [words for usage.sh and evict.sh] [other words, ignored]
#
# Whatever a crash, a power cut or a full disk left in the cache is repaired, each with one line in the log. Nothing that
# can be fetched again is worth serving wrong. It deliberately changes nothing outside the cache: it runs in a container only,
# follows no link, stays on the cache's file system, and a file's name is never a line nor a word of a command, because whoever
# may write to the storage chooses the names.
set -u
config=$1
metrics='' tag_days=0 proxy='' proxy_file='' no_proxy='' authorities='' folder=''
for word in "$@"; do
  case $word in
    METRICS=*) metrics=${word#*=} ;;
    TAG_DAYS=*) tag_days=${word#*=} ;;
    PROXY=*) proxy=${word#*=} ;;
    PROXY_FILE=*) proxy_file=${word#*=} ;;
    NO_PROXY=*) no_proxy=${word#*=} ;;
    CA=*) authorities=${word#*=} ;;
    FOLDER=*) folder=${word#*=} ;;
  esac
done
CACHE=/var/lib/registry
DAY=86400
USAGE=/usr/local/bin/mirror-usage EVICT=/usr/local/bin/mirror-evict
NOTES=/dev/shm/registry-mirror # memory: the container's own file system is read-only, and the cache may be full

say() { echo "registry mirror: $*" >&2; }

# A container's first process, or (with docker's "init" in front) a container by docker's own mark.
if [ $$ -ne 1 ] && [ ! -e /.dockerenv ]; then
  say "this script removes files below $CACHE and runs in the registry's container only; nothing was done"
  exit 1
fi

if [ -n "$proxy_file" ] && ! proxy=$(cat "$proxy_file"); then
  say "the proxy on the way to the upstream is not known: $proxy_file is missing"
  exit 1
fi

# Starts the registry in place of this script. How it reaches its upstream is in the environment of that one process, where Go
# looks, and so neither in the service nor with what else runs here. Of authorities Go reads one file and every folder, so one
# folder more removes none of the image's own (crypto/x509 root_unix.go).
start_registry() {
  noted=''
  take_notes "$@" && noted=yes
  if [ -n "$proxy" ]; then
    export HTTP_PROXY="$proxy" HTTPS_PROXY="$proxy" NO_PROXY="$no_proxy"
  fi
  if [ -n "$authorities" ]; then
    export SSL_CERT_DIR="${SSL_CERT_DIR:-/etc/ssl/certs:/etc/pki/tls/certs}:$authorities"
  fi
  # Open for reading, too: a registry whose log has no reader for a moment must not end by that.
  if [ -n "$noted" ]; then exec $confined registry serve "$config" 1<> $NOTES/log; fi
  exec $confined registry serve "$config"
}

# Starts what reads the registry's access log, its standard output, and keeps the cache below its limit.
take_notes() {
  [ -r $USAGE ] && [ -r $EVICT ] || return 1
  for needed in awk find grep ls mkfifo mv nc sort stat tail touch; do
    command -v $needed > /dev/null || { say "nothing is noted of what is pulled, and no limit is kept: this image has no $needed"; return 1; }
  done
  if ! (umask 077 && rm -rf $NOTES && mkdir $NOTES && mkfifo $NOTES/log) 2> /dev/null; then
    say "nothing is noted of what is pulled, and no limit is kept: $NOTES cannot be made"
    return 1
  fi
  /bin/sh $USAGE supervise $NOTES $EVICT "$@" &
}

# Every path from here on is relative: the cache cannot be exchanged for a link under our feet.
if ! cd -P "$CACHE"; then
  say "the cache is missing: nothing is mounted at $CACHE"
  exit 1
fi
# Several registries share the storage, each with a folder of its own. It must be one: a link would lead elsewhere.
if [ -n "$folder" ]; then
  mkdir -p "$folder" 2> /dev/null
  if ! cd -P "$folder" 2> /dev/null || [ "$(pwd -P)" != "$CACHE/$folder" ]; then
    say "the cache cannot be used: $CACHE/$folder is no folder, and could not be made one"
    exit 1
  fi
fi

# Registry 2 does not start with a list of expiries that was cut off (distribution#2374); it makes another one.
state=scheduler-state.json
if [ -L $state ] || { [ -e $state ] && [ ! -f $state ]; }; then
  say "$state is not a file: left alone"
elif [ -e $state ]; then
  opened=$(tr -cd '{' < $state | wc -c)
  closed=$(tr -cd '}' < $state | wc -c)
  if [ "$opened" -eq 0 ] || [ "$opened" -ne "$closed" ]; then
    rm -rf $state.broken # or `mv` would follow a link, or move into a folder
    mv -f $state $state.broken && say "the list of expiries was damaged: set aside as $CACHE/$state.broken; nothing cached is lost"
  fi
fi

# Not a reason to stop: what is in the cache can be served without writing. A new file each time, never through a link.
rm -f .room 2> /dev/null
if ! trouble=$( (set -C; head -c 65536 /dev/zero > .room) 2>&1 && rm -f .room 2>&1); then
  [ -L .room ] || rm -f .room 2> /dev/null
  say "the cache cannot be written (${trouble##*: }): nodes get what it has by digest, and fetch the rest from the upstream themselves"
fi

# No program of the image gains anything by being setuid; docker's own switch for it is not in the docker plugin.
confined=''
setpriv --no-new-privs true 2> /dev/null && confined='setpriv --no-new-privs'

for needed in find sha256sum touch tr; do
  command -v $needed > /dev/null || { say "the cache is not checked: this image has no $needed"; start_registry "$@"; }
done

# What `find` runs gets names as arguments. In the log a name has no character that could end a line or move a cursor.
NAMES='say() { echo "registry mirror: $*" >&2; }
plain() { printf %s "$1" | tr -c "A-Za-z0-9._/:@+-" "?"; }
'
DAMAGED_LINK=$NAMES'for link; do
  rm -f "$link" && say "a damaged link was removed, the upstream has it: docker/registry/v2/repositories/$(plain "${link#./}")"
done'
FORGOTTEN_TAG=$NAMES'for link; do
  tag=${link%/current/link}
  rm -f "$link" && say "a tag was forgotten that the upstream has not confirmed for long: $(plain "${tag#./}")"
done'
# Only what the registry itself could have written: a folder named by 64 digits.
DAMAGED_LAYER=$NAMES'for data; do
  folder=${data%/data}
  wanted=${folder##*/}
  case $wanted in *[!0-9a-f]*) continue ;; esac
  [ ${#wanted} -eq 64 ] || continue
  if ! found=$(sha256sum < "$data"); then
    [ ! -e "$data" ] || say "a layer cannot be read: $wanted"
  elif [ "${found%% *}" != "$wanted" ]; then
    rm -f "$data" && say "a damaged layer was removed, the upstream has it: $wanted"
  fi
done 2>&1 | grep "^registry mirror: " >&2'
# Not `rm -r`, which would enter another file system; not `-delete`, which not every busybox has. `"{"}` because the outer `find`
# would put its names in place of `{}`.
UNFINISHED='for upload; do
  find "$upload" -xdev ! -type d -exec rm -f "{"} +
  find "$upload" -xdev -depth -type d -exec rmdir "{"} +
done'

# A subtree of the cache as working directory, in a subshell: false if it is missing or a link leads elsewhere.
enter() { cd -P "docker/registry/v2/$1" 2> /dev/null && [ "$(pwd -P)" = "$root/docker/registry/v2/$1" ]; }
root=$(pwd -P)

# A link to a layer is `sha256:` and 64 digits. One of another length is a write that was cut off.
repair_links() (
  enter repositories && find . -xdev -mindepth 2 -type f -name link ! -size 71c -exec sh -c "$DAMAGED_LINK" sh {} + 2>&1 |
    grep "^registry mirror: " >&2
)

# A layer whose content is not what its name says. Only layers that are younger than the last check: the others were right then.
repair_layers() (
  enter blobs/sha256 || exit 0
  if [ -f "$root/.checked" ]; then
    find . -xdev -mindepth 3 -maxdepth 3 -type f -name data -newer "$root/.checked" -exec sh -c "$DAMAGED_LAYER" sh {} +
  else
    find . -xdev -mindepth 3 -maxdepth 3 -type f -name data -exec sh -c "$DAMAGED_LAYER" sh {} +
  fi
)

# An upload that a kill interrupted would stay for good; no upload takes a day.
remove_unfinished() (
  enter repositories &&
    find . -xdev -mindepth 3 -type d -path './*/_uploads/*' -prune -mtime +0 -exec sh -c "$UNFINISHED" sh {} + 2> /dev/null
)

TAGS='./*/_manifests/tags/*/current/link'

# The repository that the upstream has confirmed last, or nothing.
confirmed_repository() {
  newest=$(enter repositories && find . -xdev -mindepth 6 -type f -path "$TAGS" -exec ls -td {} + 2> /dev/null | head -n 1)
  newest=${newest#./}
  newest=${newest%%/_manifests/*}
  case $newest in *[!a-z0-9._/-]*) ;; *) echo "$newest" ;; esac
}

# Path of a layer that nobody has, in the repository $1. 404 is the upstream's own word for it, which it has only for those that it lets
# in (as in node_agent/probe.py). The registry asks it by HEAD, which Docker Hub does not count.
nobodys_layer() {
  nobodys=$(head -c 32 /dev/urandom | sha256sum)
  echo "http://127.0.0.1:5000/v2/$1/blobs/sha256:${nobodys%% *}"
}
NOT_FOUND='^ *HTTP/1\.[01] 404'

# Whether the upstream answers for the repository $1, and lets the mirror in.
upstream_answers() {
  [ -n "$1" ] || return 1
  wget -S -q -O /dev/null "$(nobodys_layer "$1")" 2>&1 | grep -q "$NOT_FOUND"
}

# The registry asks its upstream about a tag each time, and writes the tag's link anew if it is there. If not, it serves what it
# has, for ever: it takes an upstream that says no for one that is unhealthy (distribution registry/proxy/proxytagservice.go). So a link that
# is old is a tag that was deleted, or that nobody has asked for. It is forgotten while the upstream answers, which then says itself
# what it is. Only the link is removed: manifests and layers are right for ever, by their digests.
forget_tags() (
  seconds=0
  until wget -q -O /dev/null http://127.0.0.1:5000/v2/ 2> /dev/null; do
    [ $seconds -lt 60 ] || exit 0
    seconds=$((seconds + 1))
    sleep 1
  done
  upstream_answers "$(confirmed_repository)" || exit 0
  enter repositories && find . -xdev -mindepth 6 -type f -path "$TAGS" -mtime "+$((tag_days - 1))" \
    -exec sh -c "$FORGOTTEN_TAG" sh {} + 2>&1 | grep "^registry mirror: " >&2
)

repair() {
  [ ! -L .checked ] || rm -f .checked
  now=$(date +%s)
  repair_links
  remove_unfinished
  repair_layers
  # Ten minutes back: a layer that was being written during the check has an older time than its last byte.
  touch -d "@$((now - 600))" .checked 2> /dev/null
}

# Beside the registry, because reading a large cache takes long, and again every day.
(while :; do
  repair
  [ "$tag_days" -eq 0 ] || forget_tags
  sleep $DAY
done) &

# For the metrics: whether the upstream answers, asked once a minute. Not known before it has confirmed a tag.
WATCHED=/dev/shm/upstream
watch_upstream() {
  minutes=0 repository=''
  while sleep 60; do
    [ -n "$repository" ] && [ $((minutes % 60)) -ne 0 ] || repository=$(confirmed_repository)
    minutes=$((minutes + 1))
    [ -n "$repository" ] || continue
    answers=0
    # Neither `timeout` nor a subshell that is killed: they leave a process that the registry, its new parent, never waits for.
    wget -S -q -O /dev/null "$(nobodys_layer "$repository")" > $WATCHED.said 2>&1 &
    asked=$! seconds=0
    while [ $seconds -lt 20 ] && kill -0 $asked; do sleep 1 && seconds=$((seconds + 1)); done
    kill $asked
    wait $asked
    ! grep -q "$NOT_FOUND" $WATCHED.said || answers=1
    printf '# TYPE registry_mirror_upstream_answers gauge\nregistry_mirror_upstream_answers %s\n' $answers > $WATCHED.new &&
      mv -f $WATCHED.new $WATCHED
  done 2> /dev/null
}

# The registry serves its metrics beside Go's profiler and variables (net/http/pprof, expvar), which are nobody's business. So
# that server listens on the loopback, and this answers with its metrics, whatever is asked, one client at a time: the registry's, the
# disk's, the upstream's, and those of the cache's own notes, which whoever writes to the storage may have written. A client that
# dawdles is bounded in lines, bytes and seconds. busybox's own `nc` and `read -t -n`; the official image is Alpine.
METRICS_ANSWER='lines=0
while [ $lines -lt 64 ] && read -t 2 -r -n 4096 line; do
  lines=$((lines + 1))
  case $line in "" | ?) break ;; esac
done
if body=$(wget -q -O - http://127.0.0.1:5001/metrics); then
  printf "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\r\n%s\n" "$body"
  # A counter of the registry is there from its first event on. Prometheus sees no growth where it has not seen a zero before.
  for name in requests hits misses pulled_bytes pushed_bytes; do
    for type in blob manifest; do
      series="registry_proxy_${name}_total{type=\"$type\"}"
      case $body in *"$series"*) ;; *) echo "$series 0" ;; esac
    done
  done
  set -- $(stat -f -c "%S %b %a" . 2> /dev/null)
  case $#$1$2$3 in
    3*[!0-9]* | [!3]*) ;;
    *) printf "# TYPE registry_mirror_disk_%s_bytes gauge\nregistry_mirror_disk_%s_bytes %s\n" size size $(($1 * $2)) free free $(($1 * $3)) ;;
  esac
  [ ! -f /dev/shm/upstream ] || cat /dev/shm/upstream
  if [ ! -L .usage ] && [ ! -L .usage/metrics ] && [ -f .usage/metrics ]; then
    head -c 65536 .usage/metrics | grep -E "^(# TYPE registry_mirror_[a-z_]+ (gauge|counter)|registry_mirror_[a-z_]+ [0-9.]+)\$"
  fi
else
  printf "HTTP/1.0 503 Service Unavailable\r\n\r\n"
fi'
if [ -n "$metrics" ]; then
  if command -v nc > /dev/null && command -v wget > /dev/null; then
    watch_upstream &
    (while :; do nc -l -p "$metrics" -e /bin/sh -c "$METRICS_ANSWER" < /dev/null || sleep 1; done) 2> /dev/null &
  else
    say "the metrics are not served: this image has no nc or no wget"
  fi
fi

start_registry "$@"
