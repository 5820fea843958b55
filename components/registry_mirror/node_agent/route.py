"""What this node sees of one image: what the mirror answers for it, to this program and to dockerd
itself, and which copies docker has. Changes nothing. What it means is in `cli/route.py`.
"""

import http.client
import json
from typing import Any, Dict, List, Optional

from .. import plain_text
from . import daemon_json, dockerd_view, engine, files, probe
from .verb_request import RouteRequest


def look(request: RouteRequest) -> str:
    """JSON of: `status` (of a HEAD of the manifest through the mirror; 0: no answer), `digest`,
    `age` (seconds that Varnish has had it), `registry` (path of the registry that was asked),
    `upstream` (401 or 403, where that was said to the mirror itself), `fault` (why there is no
    answer), `refused` (why dockerd does not get it from the mirror), `proxy` (of dockerd, on the
    way to the mirror), `copies` (of docker: `digest since`), `store` (docker's kind of it).

    Raises engine.EngineProblem where docker does not answer.
    """
    url, unit = request.mirror_url, request.unit
    info = engine.info(unit)
    text = daemon_json.decode(files.read(request.path))
    proxy = dockerd_view.proxy_of(url, info, unit, text)
    found: Dict[str, Any] = {
        "status": 0,
        "digest": "",
        "age": 0,
        "registry": "",
        "upstream": "",
        "fault": "",
        "refused": "",
        "proxy": "" if proxy is None else probe.without_password(proxy),
        "copies": [copy for name in request.names for copy in copies(name)],
        "store": "containerd" if has_containerd_store(info) else "classic",
    }
    if probe.is_beyond_us(proxy):
        found["fault"] = "only docker itself can ask the mirror, through its proxy [RM270]"
        return json.dumps(found)
    found["fault"] = probe.ask(url, None, proxy).fault or ""
    if not found["fault"]:
        found.update(_answer(request, proxy))
    if found["status"] == 200:
        mark = "@" if ":" in request.reference else ":"
        image = request.repository + mark + request.reference
        found["refused"] = dockerd_view.refusal(url, image, info, unit, text) or ""
    return json.dumps(found)


def _answer(request: RouteRequest, proxy: Optional[str]) -> Dict[str, Any]:
    """The mirror's answer for the manifest."""
    connection = probe.connection_to(request.mirror_url, proxy)
    path = "/v2/%s/manifests/%s" % (request.repository, request.reference)
    headers = {"Accept": probe.MANIFESTS, "User-Agent": "swarm-registry-mirror"}
    try:
        connection.request("HEAD", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return {"fault": probe.judge_failure(request.mirror_url, proxy, error).fault}
    finally:
        connection.close()
    age = answer.getheader("Age") or "0"
    return {
        "status": answer.status,
        "digest": answer.getheader("Docker-Content-Digest") or "",
        "age": int(age) if age.isdecimal() and len(age) < 10 else 0,
        "registry": answer.getheader(probe.REGISTRY) or "",
        "upstream": answer.getheader(probe.UPSTREAM_STATUS) or "",
    }


def copies(name: str) -> List[str]:
    """What docker has by this name: digests, each with the time since when it has this name
    (`sha256:… 2026-11-27T08:00:00Z`); empty where it has none."""
    try:
        found = json.loads(engine.run("docker", "image", "inspect", name))
        image = found[0]
        since = str((image.get("Metadata") or {}).get("LastTagTime") or "")
        digests = [str(each).rpartition("@")[2] for each in image.get("RepoDigests") or []]
    except (engine.EngineProblem, ValueError, LookupError, AttributeError):
        return []
    # The year 1 is docker's "never": it was pulled by its digest.
    since = "" if since.startswith("0001") else since.partition(".")[0]
    return sorted({plain_text.one_line("%s %s" % (digest, since), 120) for digest in digests})


def has_containerd_store(info: Dict[str, Any]) -> bool:
    """Whether docker keeps images in containerd (`docker info`, DriverStatus)."""
    return any(
        list(pair[:2]) == ["driver-type", "io.containerd.snapshotter.v1"]
        for pair in info.get("DriverStatus") or []
    )
