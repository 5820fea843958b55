# After docker is installed: where it goes by hosts.toml, has it ask the mirror for images of each registry.
#
#   hosts-toml.sh FOLDER OWNER [REGISTRY TABLE]...
#
# FOLDER is docker's certs.d, OWNER the name of the mirror's entries there, REGISTRY a folder in it, TABLE its text. What is laid is
# what a guard lays on a machine that no `pulumi up` has come to (container/guard.sh), so that the next one knows it for its own. A
# registry that has a folder already is somebody's, and stays. Docker reads these files at each pull; nothing is restarted.
set -eu
umask 022
certs=$1 owner=$2
shift 2
info=$(docker info --format '{{.ServerVersion}} {{json .DriverStatus}}' 2>/dev/null) || info=
version=${info%%.*}
case $version in '' | *[!0-9]*) version=0 ;; esac
case $info in *'"io.containerd.snapshotter.v1"'*) ;; *) version=0 ;; esac
if [ "$version" -lt 28 ]; then
  echo 'registry mirror: docker is not there yet, or goes by daemon.json alone; no hosts.toml is written'
  exit 0
fi
if [ -e "$certs/_default" ]; then
  echo "registry mirror: $certs/_default is there, for all registries; no hosts.toml is written"
  exit 0
fi
while [ "$#" -ge 2 ]; do
  folder=$certs/$1
  if [ -e "$folder" ] || [ -L "$folder" ]; then
    echo "registry mirror: $folder is there already and is left as it is"
  else
    mkdir -p "$folder"
    : >"$folder/.$owner.made"
    : >"$folder/.$owner.without"
    printf '%s' "$2" >"$folder/.$owner.with"
    cp "$folder/.$owner.with" "$folder/hosts.toml.registry-mirror"
    mv "$folder/hosts.toml.registry-mirror" "$folder/hosts.toml"
    echo "registry mirror: $folder/hosts.toml is written"
  fi
  shift 2
done
