#!/bin/sh
# Starts the registry on its cache: $1 is its configuration; other words are ignored. Runs in the registry's container, at every
# start of it.
#
# What a crash, a power cut or a full disk may have left in the cache is put right, each with one line in the log. Nothing that
# can be fetched again is worth serving wrong. It deliberately changes nothing outside the cache.
set -u
config=$1
cache=${CACHE:-/var/lib/registry}
blobs=$cache/docker/registry/v2/blobs
checked=$cache/.checked
DAY=86400

say() { echo "registry mirror: $*" >&2; }

# Registry 2 does not start with a list of expiries that was cut off (distribution#2374); it makes another one.
state=$cache/scheduler-state.json
if [ -e "$state" ]; then
  opened=$(tr -cd '{' < "$state" | wc -c)
  closed=$(tr -cd '}' < "$state" | wc -c)
  if [ "$opened" -eq 0 ] || [ "$opened" -ne "$closed" ]; then
    mv -f "$state" "$state.broken" && say "the list of expiries was damaged: set aside as $state.broken; nothing cached is lost"
  fi
fi

# Not a reason to stay away: what is in the cache can be served without writing.
if ! trouble=$( { head -c 65536 /dev/zero > "$cache/.room" && rm -f "$cache/.room"; } 2>&1 ); then
  rm -f "$cache/.room" 2> /dev/null
  say "the cache cannot be written (${trouble##*: }): nodes get what it has by digest, and fetch the rest from the upstream themselves"
fi

# A link to a layer is `sha256:` and 64 digits. One of another length is a write that was cut off.
mend_links() {
  find "$cache/docker/registry/v2/repositories" -type f -name link ! -size 71c 2> /dev/null | while read -r link; do
    rm -f "$link" && say "a damaged link was removed, the upstream has it: ${link#"$cache"/}"
  done
}

# A layer whose content is not what its name says. Only layers that are younger than the last check: the others were right then.
mend_layers() {
  now=$(date +%s)
  find "$blobs" -type f -name data ${1:+-newer "$1"} 2> /dev/null | while read -r data; do
    wanted=$(basename "$(dirname "$data")")
    if ! found=$(sha256sum "$data" 2> /dev/null); then
      [ ! -e "$data" ] || say "a layer cannot be read: $wanted"
    elif [ "${found%% *}" != "$wanted" ]; then
      rm -f "$data" && say "a damaged layer was removed, the upstream has it: $wanted"
    fi
  done
  # Ten minutes back: a layer that was being written during the check has an older time than its last byte.
  touch -d "@$((now - 600))" "$checked" 2> /dev/null
}

# What was being written when a registry was killed stays for good; nothing takes a day to be written.
mend_uploads() {
  find "$cache/docker/registry/v2/repositories" -type d -path '*/_uploads/*' -mtime +0 2> /dev/null | while read -r upload; do
    rm -rf "$upload"
  done
}

mend() {
  mend_links
  mend_uploads
  if [ -e "$checked" ]; then mend_layers "$checked"; else mend_layers; fi
}

for needed in find sha256sum touch; do
  command -v $needed > /dev/null || { say "the cache is not checked: this image has no $needed"; exec registry serve "$config"; }
done

# Beside the registry, because reading a large cache takes long, and again every day.
(while :; do mend; sleep $DAY; done) &

exec registry serve "$config"
