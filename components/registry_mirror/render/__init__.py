"""Pure texts and numbers that follow from the args: the configuration of registry, Varnish and
Traefik, and names. Pure."""
