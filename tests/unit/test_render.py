"""The texts that we write for others: the registry's configuration and Traefik's labels."""

import yaml

from components.registry_mirror import render

RECIPE = """
version: 0.1
log:
  fields:
    service: registry
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
proxy:
  remoteurl: https://registry-1.docker.io
"""
"""The recipe's file but for its blob descriptor cache, which is wrong in a pull-through cache."""


def test_the_configuration_is_the_recipes_with_layers_that_never_expire_and_an_ear_for_stop() -> None:
    config = yaml.safe_load(render.registry_config("registry-mirror", "https://registry-1.docker.io"))
    expected = yaml.safe_load(RECIPE)
    expected["proxy"]["ttl"] = "0s"
    expected["http"]["draintimeout"] = "8s"
    assert config == expected


def test_the_configuration_begins_with_the_mark_by_which_it_is_known() -> None:
    assert render.registry_config("x", "https://registry-1.docker.io").startswith(render.MARKER)


def test_labels_route_reading_of_images_and_nothing_else() -> None:
    assert render.traefik_labels("mirror", "m.example.com", "traefik_public", "websecure", None) == {
        "traefik.enable": "true",
        "traefik.swarm.network": "traefik_public",
        "traefik.http.routers.mirror.rule": "Host(`m.example.com`) && PathPrefix(`/v2/`)"
        " && (Method(`GET`) || Method(`HEAD`)) && !Path(`/v2/_catalog`)",
        "traefik.http.routers.mirror.entrypoints": "websecure",
        "traefik.http.routers.mirror.service": "mirror",
        "traefik.http.routers.mirror.tls": "true",
        "traefik.http.services.mirror.loadbalancer.server.port": "5000",
    }


def test_a_certificate_resolver_takes_the_place_of_plain_tls() -> None:
    labels = render.traefik_labels("mirror", "m.example.com", "traefik_public", "websecure", "letsencrypt")
    assert labels["traefik.http.routers.mirror.tls.certresolver"] == "letsencrypt"
    assert "traefik.http.routers.mirror.tls" not in labels


def test_never_both_network_labels_which_traefik_would_refuse() -> None:
    assert not any(key.startswith("traefik.docker.") for key in render.traefik_labels("m", "m.test", "n", "e", None))
