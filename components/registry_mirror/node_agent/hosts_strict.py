"""A registry that docker asks for through the mirror and nowhere else: the whole text of its
hosts.toml. Pure.

Owns that text, and how it is taken out of a file again. `server` is what dockerd asks where no host
of the file answers, or where the file names none, as here; the keys beside it are the server's
(containerd core/remotes/docker/config/hosts.go `ConfigureHosts`).
"""

from typing import Any, Dict

from . import hosts_toml
from .hosts_toml import Refused

SERVER = "server"


def text(url: str, settings: Dict[str, Any]) -> str:
    """The whole file. `settings`: the keys of our host, as for `hosts_toml.table`."""
    lines = hosts_toml.lines({SERVER: url, **settings})
    return "".join(line + "\n" for line in lines)


def is_in(content: str, url: str) -> bool:
    """Whether a file sends docker to the mirror `url` and to nobody else. Raises Refused."""
    server = hosts_toml.parse(content).root.get(SERVER)
    return isinstance(server, str) and bool(server) and hosts_toml.same(server, url)


def without(content: str, url: str) -> str:
    """A file without the mirror `url`, in whichever way it is there. Raises Refused where our lines
    were edited, so that nobody knows which of them are ours."""
    if not is_in(content, url):
        return hosts_toml.remove(content, url)
    root = hosts_toml.parse(content).root
    ours = text(root[SERVER], {key: value for key, value in root.items() if key != SERVER})
    if not content.startswith(ours):
        raise Refused(
            "its server is %s, and the lines around it are not as this program wrote them; remove"
            " those that are about the mirror [RM229]" % url
        )
    return content[len(ours) :].lstrip("\r\n")
