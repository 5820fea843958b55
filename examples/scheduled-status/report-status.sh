#!/bin/sh
# Runs `swarm-registry-mirror status` and reports what is wrong, once, and that it is over, once.
#
#   report-status.sh webhook|issue [words for status, like --stack prod --cwd /srv/mirror]
#
# webhook  posts {"text": …} to the URL in $WEBHOOK_URL, or in the file $WEBHOOK_URL_FILE (Slack, Mattermost, Rocket.Chat;
#          for Discord set WEBHOOK_FIELD=content). The URL is in no command line. Needs curl.
# issue    opens an issue at GitHub, comments on it when the report changes, and closes it. Needs gh, which needs $GH_TOKEN;
#          $GH_REPO names the repository.
#
# Ends with the exit code of `status`: 0 as it should be, 1 wrong, 2 a machine cannot be reached, 4 it could not be found out.
# With 70 it could not be reported. What was reported last is kept in $STATE_DIRECTORY (systemd sets it), by default .status.
set -u
LABEL=registry-mirror-status
kept=${STATE_DIRECTORY:-.status}

fail() {
  echo "report-status.sh: $1" >&2
  exit "${2:-70}"
}

# A text as JSON has it, in quotes; control characters are left out, but for the ends of lines.
as_json() {
  tr -d '\000-\011\013-\037\177' | sed 's/[\\"]/\\&/g' | awk '
    BEGIN { printf "\"" }
    { printf "%s%s", (NR > 1 ? "\\n" : ""), $0 }
    END { printf "\"" }'
}

by_webhook() {
  url=${WEBHOOK_URL:-}
  [ -n "$url" ] || [ -z "${WEBHOOK_URL_FILE:-}" ] || url=$(cat "$WEBHOOK_URL_FILE") || return 1
  case $url in
    *'"'* | *'
'*) fail 'WEBHOOK_URL is no URL' 64 ;;
    http://* | https://*) ;;
    *) fail 'set WEBHOOK_URL, or WEBHOOK_URL_FILE, to where it is to be posted' 64 ;;
  esac
  { printf '%s\n\n```\n' "$1"; cat "$work/report"; printf '```\n'; } | as_json >"$work/text"
  { printf '{"%s": ' "${WEBHOOK_FIELD:-text}"; cat "$work/text"; printf '}'; } >"$work/body"
  # --fail: an answer of 400 and above is a failure. The URL comes on stdin.
  printf 'url = "%s"\n' "$url" | curl --config - --silent --show-error --fail --max-time 30 --retry 2 \
    --header 'Content-Type: application/json' --data-binary "@$work/body" --output /dev/null
}

by_issue() {
  number=$(gh issue list --label "$LABEL" --state open --limit 1 --json number --jq '.[].number') || return 1
  if [ "$code" -eq 0 ]; then
    [ -z "$number" ] || gh issue close "$number" --comment "$1"
    return
  fi
  { printf '%s\n\n```\n' "$1"; cat "$work/report"; printf '```\n'; } >"$work/body"
  if [ -n "$number" ]; then
    gh issue comment "$number" --body-file "$work/body"
  else
    gh label create "$LABEL" --force >/dev/null && gh issue create --title "$1" --label "$LABEL" --body-file "$work/body"
  fi
}

case ${1:-} in webhook | issue) ;; *) fail 'say webhook or issue first' 64 ;; esac
how=$1
shift
umask 077
work=$(mktemp -d) || fail 'there is no room for temporary files'
trap 'rm -rf "$work"' EXIT
mkdir -p "$kept" || fail "$kept cannot be made"

swarm-registry-mirror status "$@" >"$work/report" 2>"$work/errors"
code=$?
cat "$work/report" "$work/errors"
# What cannot be found out has no table, and its reason is on stderr.
[ "$code" -lt 3 ] || cat "$work/errors" >>"$work/report"

case $code in
  0) title='Registry mirror: every node is as it should be again' ;;
  1) title='Registry mirror: something is wrong' ;;
  2) title='Registry mirror: a machine cannot be reached' ;;
  *) title="Registry mirror: its status could not be found out (exit code $code)" ;;
esac
[ "$code" -eq 0 ] && now=0 || now="$code $(cksum <"$work/report")"
before=$(cat "$kept/reported" 2>/dev/null) || before=0
[ "$now" = "$before" ] && exit "$code"
"by_$how" "$title" || fail "it could not be reported ($how); the report is above"
printf '%s\n' "$now" >"$kept/reported"
exit "$code"
