#!/bin/sh
# Takes the mirror out of this machine's hosts.toml files while it does not answer, and puts it back when it does.
#
#   guard.sh HOST PORT OWNER [FOLDER TABLE]...
#
# OWNER is the name of the mirror's service, FOLDER that of a registry in certs.d, TABLE the text of the mirror's host in its
# hosts.toml. What a file says with the mirror and without lies beside it, written by the node agent, so that nothing is edited
# here: one whole file takes the place of the other. A file that is neither is somebody's, and stays. On a machine that no agent has
# come to, this writes the three files itself for each registry whose folder is not there, and removes them when it ends.
#
# One connection is kept open and asked again, because a handshake every few seconds would be most of what this costs.
set -u
host=$1 port=$2 owner=$3
shift 3
certs=/certs
leave=$certs/.$owner.leave
every=3 patience=3 enough=2 look_again=20
child='' flag=-I known='' prepared=''

say() { echo "$(date -u +%FT%TZ) $1"; }

disconnect() {
  [ -z "$child" ] || { kill "$child" 2>/dev/null; wait "$child" 2>/dev/null; }
  child=''
  exec 5>&- 6>&-
}

# The client of Alpine's busybox checks certificates unless it gets -I, the one within busybox knows no -I and checks none.
# Whether the certificate is right is docker's to say; docker asks Docker Hub at once where it is not.
connect() {
  disconnect
  rm -f /tmp/in /tmp/out
  mkfifo /tmp/in /tmp/out
  exec 5<>/tmp/in 6<>/tmp/out
  nc -w "$patience" "$host" "$port" -e /bin/sh -c \
    'exec 3<&0; exec ssl_client $0 -s 3 -n "$1" </tmp/in >/tmp/out 2>/dev/null' "$flag" "$host" >/dev/null 2>&1 5>&- 6>&- 7>&- &
  child=$!
}

ask() {
  printf 'HEAD /v2/ HTTP/1.1\r\nHost: %s\r\nUser-Agent: swarm-registry-mirror-guard\r\n\r\n' "$host" >&5
  read -r -t "$patience" status <&6 || return 1
  while read -r -t "$patience" line <&6 && [ "${#line}" -gt 1 ]; do :; done
  case $status in 'HTTP/1.1 200'* | 'HTTP/1.1 401'*) known=yes ;; *) return 1 ;; esac
}

answers() {
  [ -n "$child" ] && ask && return 0
  connect
  ask && return 0
  [ -z "$known" ] || return 1
  [ -n "$flag" ] && flag='' || flag=-I
  connect
  ask
}

look_at() {
  folder=$1
  registry=${folder##*/}
  file=$folder/hosts.toml with=$folder/.$owner.with without=$folder/.$owner.without
  made=$folder/.$owner.made state=$folder/.$owner.state new=$folder/.$owner.new
}

# Runs a command for each registry that has the mirror in its folder.
each() {
  for entry in "$certs"/*/".$owner.with"; do
    [ ! -e "$entry" ] || { look_at "${entry%/*}" && "$1"; }
  done
}

put() {
  cp -p "$1" "$new" && mv -f "$new" "$file" && say "$registry: $2" && echo "$3 $(date +%s)" >"$state"
}

take_out() {
  ! cmp -s "$file" "$with" || put "$without" 'the mirror does not answer: taken out of hosts.toml' out
}

put_in() {
  ! cmp -s "$file" "$without" || put "$with" 'the mirror answers: put back into hosts.toml' in
}

by_an_agent() {
  [ -e "$made" ] || prepared=yes
}

cover() {
  each by_an_agent
  [ -z "$prepared" ] || return 0
  if [ -e "$leave" ] || [ -e "$certs/_default" ]; then
    say 'this machine is left as it is: no agent has prepared it, and docker has files of its own for all registries, or reads none'
    return 0
  fi
  while [ "$#" -ge 2 ]; do
    look_at "$certs/$1"
    [ -e "$with" ] || cover_registry "$2"
    shift 2
  done
}

cover_registry() {
  if [ -e "$folder" ]; then
    say "$registry: left as it is: no agent has prepared this machine, and docker has files of its own there"
    return 0
  fi
  mkdir "$folder" && : >"$made" && : >"$without" && : >"$file" && printf '%s' "$1" >"$new" && mv "$new" "$with" &&
    say "$registry: no agent has come to this machine: it is covered"
}

leave_it() {
  if [ -e "$made" ]; then
    if cmp -s "$file" "$with" || cmp -s "$file" "$without"; then rm -f "$file"; fi
    rm -f "$with" "$without" "$state" "$new" "$made"
    rmdir "$folder" 2>/dev/null
  else
    put_in
    rm -f "$state" "$new"
  fi
}

end() {
  trap '' TERM INT
  disconnect
  each leave_it
  exit 0
}

trap end TERM INT
rm -f /tmp/never
mkfifo /tmp/never
exec 7<>/tmp/never
cover "$@"
good=0 bad=0 turns=0
while :; do
  if answers; then good=$((good + 1)) bad=0; else bad=$((bad + 1)) good=0; fi
  turns=$(((turns + 1) % look_again))
  if [ "$good" -eq "$enough" ] || { [ "$turns" -eq 0 ] && [ "$good" -gt "$enough" ]; }; then each put_in; fi
  if [ "$bad" -eq "$enough" ] || { [ "$turns" -eq 0 ] && [ "$bad" -gt "$enough" ]; }; then each take_out; fi
  read -r -t "$every" nothing <&7
done
