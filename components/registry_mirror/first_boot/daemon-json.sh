# Before docker is started for the first time: has docker use the mirror, where nobody has configured it yet.
#
#   daemon-json.sh FILE TEXT [AUTHORITY CERTIFICATES]
#
# A FILE that is there, whole or empty, a link even, is somebody's, and stays: `pulumi up` adds the mirror to it with more care
# than is possible here. It appears whole or not at all.
set -eu
umask 022
lay() {
  if [ -e "$1" ] || [ -L "$1" ]; then
    echo "registry mirror: $1 is there already and is left as it is"
    return 0
  fi
  mkdir -p "${1%/*}"
  printf '%s' "$2" >"$1.registry-mirror"
  # Not mv: what has come there meanwhile is somebody's.
  if ln "$1.registry-mirror" "$1"; then echo "registry mirror: $1 is written"; fi
  rm -f "$1.registry-mirror"
}
lay "$1" "$2"
[ "$#" -lt 4 ] || lay "$3" "$4"
