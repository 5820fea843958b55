#!/bin/sh
# Starts Varnish in front of the registry and keeps it pointed at the registry's task, whose address changes with every task.
#
# Varnish looks a name up once, when it reads its configuration. The address is the task's and not the service's, because that
# one needs IPVS, which not every kernel has. What Varnish holds stays when its configuration is read again.
#
# Settings are words like PORT=6081 and not environment variables, which the docker plugin sends in another order each time: swarm
# would start a new task although nothing has changed. Words with other names are ignored.
set -u
work=/tmp/varnish
registry='' port='' memory='' largest=''
for word in "$@"; do
  case $word in
    REGISTRY=*) registry=${word#*=} ;;
    PORT=*) port=${word#*=} ;;
    MEMORY=*) memory=${word#*=} ;;
    LARGEST=*) largest=${word#*=} ;;
  esac
done
: "${registry:?missing: REGISTRY=<service>}" "${port:?missing: PORT=<port>}"
: "${memory:?missing: MEMORY=<MiB>}" "${largest:?missing: LARGEST=<bytes>}"
log() { echo "registry mirror: $*" >&2; }

# Docker's resolver knows its own names at once, and asks the machine's about one that it does not know just now; if that one is
# silent, ten seconds pass.
address() {
  RES_OPTIONS="timeout:1 attempts:1" getent ahostsv4 "tasks.$registry" | while read -r found _; do echo "$found"; break; done
}

configuration() {
  sed -e "s/@ADDRESS@/$1/" -e "s/@LARGEST@/$largest/" /etc/varnish/mirror.vcl > "/tmp/mirror-$2.vcl"
}

# It starts whether there is a registry or not. Until one is found, who asks is told 503 at once (nobody listens at this
# address), and docker goes to the upstream. If it waited, its health check would fail and swarm would end it.
current=127.0.0.1
number=1
configuration "$current" $number
mkdir -p $work
varnishd -F -n $work -a "http=:$port,HTTP" -f /tmp/mirror-1.vcl -s "malloc,${memory}m" -s Transient=malloc,128m \
  -p http_gzip_support=off -p transit_buffer=1m -p nuke_limit=100000 -p timeout_idle=65 &
varnish=$!
trap 'kill -TERM $varnish 2> /dev/null' TERM INT

while kill -0 $varnish 2> /dev/null; do
  found=$(address)
  if [ -n "$found" ] && [ "$found" != "$current" ]; then
    number=$((number + 1)) # also after a failure: a name that was loaded and not used cannot be loaded again
    configuration "$found" $number
    if varnishadm -n $work vcl.load "mirror$number" "/tmp/mirror-$number.vcl" > /dev/null &&
      varnishadm -n $work vcl.use "mirror$number" > /dev/null; then
      current=$found
      log "the registry is at $current now"
    fi
  fi
  sleep 1
done
wait $varnish
