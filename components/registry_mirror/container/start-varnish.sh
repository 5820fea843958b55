#!/bin/sh
# Starts Varnish in front of the registry and keeps it pointed at the registry's task, whose address changes with every task.
#
# Varnish looks a name up once, when it reads its configuration. The address is the task's and not the service's, because that
# one needs IPVS, which not every kernel has. What Varnish holds stays when its configuration is read again.
set -u
work=/tmp/varnish
log() { echo "registry mirror: $*" >&2; }

address() { getent ahostsv4 "tasks.$REGISTRY" | while read -r found _; do echo "$found"; break; done; }

configuration() {
  sed -e "s/@ADDRESS@/$1/" -e "s/@LARGEST@/$LARGEST/" /etc/varnish/mirror.vcl > "/tmp/mirror-$2.vcl"
}

current=$(address)
until [ -n "$current" ]; do
  sleep 0.5
  current=$(address)
done
number=1
configuration "$current" $number
mkdir -p $work
varnishd -F -n $work -a "http=:$PORT,HTTP" -f /tmp/mirror-1.vcl -s "malloc,${MEMORY}m" -s Transient=malloc,128m \
  -p http_gzip_support=off -p transit_buffer=1m -p nuke_limit=100000 -p timeout_idle=65 &
varnish=$!
trap 'kill -TERM $varnish 2> /dev/null' TERM INT

while kill -0 $varnish 2> /dev/null; do
  sleep 1
  found=$(address)
  [ -n "$found" ] && [ "$found" != "$current" ] || continue
  configuration "$found" $((number + 1))
  if varnishadm -n $work vcl.load "mirror$((number + 1))" "/tmp/mirror-$((number + 1)).vcl" > /dev/null &&
    varnishadm -n $work vcl.use "mirror$((number + 1))" > /dev/null; then
    number=$((number + 1))
    current=$found
    log "the registry is at $current now"
  fi
done
wait $varnish
