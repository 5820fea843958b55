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

# Without a registry it starts all the same, and nobody listens at the loopback's port: who asks is told 503 at once, and docker
# goes to the upstream. If it waited, its health check would fail and swarm would end it, again and again.
current=$(address)
current=${current:-127.0.0.1}
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
