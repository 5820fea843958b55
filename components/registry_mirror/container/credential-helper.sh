#!/bin/sh
# Gives the registry its credentials for the upstream (docker-credential-helpers protocol): the Swarm secret, or none.
#
# There also without credentials: with a helper the registry does not ask its upstream at start, and so starts without it
# (distribution registry/proxy/proxyregistry.go).
[ "$1" = get ] || exit 1
if [ -e /run/secrets/upstream ]; then
  cat /run/secrets/upstream
else
  printf '{"ServerURL": "%s", "Username": "", "Secret": ""}' "$(cat)"
fi
