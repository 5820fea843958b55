# The way to a machine of the swarm: takes a node agent there with ssh, and waits for it no longer than it may take.
#
#     sh THIS_FILE ACTION     settings (JSON) on stdin; on stdout what the agent answers, on stderr what it complains of
#
# Written by swarm-registry-mirror, and named by its own SHA-256. From the environment:
#     MIRROR_NODE  name of the machine         MIRROR_SSH          where it is: ssh://user@address:port
#     MIRROR_HOST_KEY  the only one believed   MIRROR_BECOME       sudo, where that user is not root
#     MIRROR_KEY_FILE, MIRROR_PRIVATE_KEY      the SSH key: its file, or its text; neither: the agent, and the user's usual keys
#     MIRROR_SSH_CONFIG  the user's ssh_config MIRROR_BASTION, MIRROR_BASTION_HOST_KEY   a machine to go through
#     MIRROR_SECONDS  longest wait for an answer
set -u
newline='
'

fail() {
    printf 'registry mirror: %s: %s\n' "${MIRROR_NODE:-this computer}" "$1" >&2
    exit "${2:-1}"
}

# A file with one host key, good for every name, in $known_hosts. It is named after the end of the key.
know() {
    case $1 in
    @cert-authority\ *) line="@cert-authority * ${1#* }" ;;
    *) line="* $1" ;;
    esac
    name=${1##* }
    while [ ${#name} -gt 64 ]; do name=${name#????????}; done
    IFS=/; set -f; set -- $name; IFS=; name="$*"; set +f; unset IFS
    known_hosts=${0%/*}/host-keys/$name
    there=
    [ ! -r "$known_hosts" ] || IFS= read -r there < "$known_hosts"
    [ "$there" = "$line" ] && return
    mkdir -p "${0%/*}/host-keys" && printf '%s\n' "$line" > "$known_hosts.$$" && mv -f "$known_hosts.$$" "$known_hosts" ||
        fail "${0%/*}/host-keys cannot be written; set XDG_CACHE_HOME to a folder that can"
}

# Where a machine is, in $where. ssh takes no address of IPv6 in a URL (openssh misc.c, parse_uri): it goes by an option, $address.
locate() {
    where=$1 address=
    case $1 in
    *\[*\]*)
        address=${1#*\[}
        address="-o HostName=${address%%\]*}"
        where=${1%%\[*}ipv6${1##*\]}
        ;;
    esac
}

# Why ssh has failed, in $why, to follow a sentence. It is what ssh itself has said, and only shown: nothing is decided by it.
why() {
    why= return=$(printf '\r')
    while IFS= read -r line; do
        line=${line%"$return"}
        case $line in
        *"ost key for "*" has changed"*) host=${line#*ost key for } host=${host%% has changed*} ;;
        *" host key is known for "*) host=${line#* host key is known for } host=${host%% and you*} ;;
        "" | @* | *"UNKNOWN port"*) continue ;;
        *)
            why="$why; $line"
            continue
            ;;
        esac
        why="; $host has another host key than the one that is configured; \`swarm-registry-mirror hostkeys\` shows the one that it has now"
        break
    done << END
$said
END
    [ -z "$why" ] || why=": ${why#; }"
}

# A leading ~ as what it stands for, in $path.
expand() {
    case $1 in
    "~/"*) path=$HOME/${1#??} ;;
    *) path=$1 ;;
    esac
}

# The settings with the agent's program, which lies behind this script, as their last value.
request() {
    sed -e '$s/^{}$/{/' -e t -e '$s/}$/,/'
    sed -n "s/^:$agent:\(.*\)/\"program\":\"\1\"}/p" "$0"
}

action=$1
here=
case $action in
ACTIONS) ;;
*) fail "$action is no action of this version" 64 ;;
esac
if [ -n "$here" ]; then
    # It goes on to other machines by this same file.
    export MIRROR_FILE="$0"
    request | eval "$command"
    exit
fi
[ "${MIRROR_BECOME-}" != sudo ] || command="sudo -n $command"
command -v ssh > /dev/null || fail "there is no ssh on this computer; install it (openssh-client)"

if [ -n "${MIRROR_PRIVATE_KEY-}" ]; then
    if [ -z "${MIRROR_AGENT-}" ]; then
        command -v ssh-agent > /dev/null || fail "there is no ssh-agent on this computer; install it (openssh-client)"
        export MIRROR_AGENT=yes
        exec ssh-agent sh "$0" "$@"
    fi
    said=$(printf '%s\n' "$MIRROR_PRIVATE_KEY" | ssh-add -q - 2>&1) || fail "ssh does not read the private key: $said"
    unset MIRROR_PRIVATE_KEY
    set -- -o IdentityFile=none
elif [ -n "${MIRROR_KEY_FILE-}" ]; then
    expand "$MIRROR_KEY_FILE"
    # Where the file is not there the agent may have its key.
    if [ -r "$path" ]; then set -- -i "$path" -o IdentitiesOnly=yes; else set --; fi
else
    set --
fi
identity=
for word in "$@"; do identity="$identity '$word'"; done

config=/dev/null
if [ -n "${MIRROR_SSH_CONFIG-}" ]; then
    expand "$MIRROR_SSH_CONFIG"
    config=$path
    [ -r "$config" ] || fail "sshConfig: $config cannot be read"
fi
if [ -n "${MIRROR_BASTION-}" ]; then
    know "$MIRROR_BASTION_HOST_KEY"
    locate "$MIRROR_BASTION"
    set -- "$@" -o "ProxyCommand=ssh -T -F '$config' OPTIONS $identity -o UserKnownHostsFile=$known_hosts $address -W '[%h]:%p' $where"
fi
know "$MIRROR_HOST_KEY"
locate "$MIRROR_SSH"
set -- -T -F "$config" OPTIONS "$@" -o "UserKnownHostsFile=$known_hosts" -o GlobalKnownHostsFile=/dev/null

# What ssh and the machine complain of comes through here, for the reason of a failure; no more of it than anybody reads.
exec 3<&0 4>&1
said=$(
    {
        request <&3 2> /dev/null | {
            exec 3<&0
            ssh "$@" $address -- "$where" "$command" <&3 2>&1 >&4 4>&- &
            ssh=$!
            # Ends ssh when the time is up, or when whoever has started us has ended us: nothing may hold our output open then.
            (
                passed=0
                while [ $passed -lt "$seconds" ] && kill -0 $$; do
                    sleep 1
                    passed=$((passed + 1))
                done
                kill $ssh
            ) < /dev/null > /dev/null 2>&1 3<&- 4>&- &
            watch=$!
            wait $ssh
            code=$?
            kill $watch
            exit $code
        }
        printf '\n%s' $?
    } | tail -c 65536
)
code=${said##*"$newline"}
said=${said%"$newline"*}
[ -z "${MIRROR_AGENT-}" ] || kill "$SSH_AGENT_PID" 2> /dev/null
case $code in
143) fail "$MIRROR_SSH: no answer within $seconds s" 255 ;;
255)
    why
    fail "$MIRROR_SSH cannot be reached${MIRROR_BASTION:+ through $MIRROR_BASTION}, or has stopped answering$why" 255
    ;;
esac
[ -z "$said" ] || printf '%s\n' "${said%"$newline"}" >&2
exit "$code"
