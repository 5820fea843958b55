"""A node at work: what is asked of it, what we know of it, and what its docker says.

Owns what the actions on a node share: the lock that lets one of them run at a time, what the
request means for this docker (`wanted`), and the facts that speak against a change (`facts`,
`refuse`).
"""

import functools
import json
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence

from . import daemon_json, engine, files, hosts_plan, lock, preflight
from .files import Failed
from .plan import Plan, Wanted, plan
from .preflight import Facts
from .record import Record
from .request import NodeRequest

LOCK = "/run/swarm-registry-mirror/lock"
"""In a folder of root's own: in /run/lock any user of the node could hold it, or put a link in its
place. Not in the record's folder, which is removed with the last mirror."""

Act = Callable[[NodeRequest], str]


def locked(act: Act) -> Act:
    """One run at a time on a node; what fails before anything was written says so."""

    @functools.wraps(act)
    def run(request: NodeRequest) -> str:
        try:
            with lock.held(LOCK, "%s of the mirror %s" % (act.__name__, request.owner)):
                return act(request)
        except daemon_json.Refused as error:
            raise Failed("nothing was changed: %s: %s" % (request.path, error)) from error
        except (files.FileProblem, engine.EngineProblem) as error:
            raise Failed("nothing was changed: %s" % error) from error

    return run


class Context(NamedTuple):
    """One node, one request, one answer of `docker info`."""

    request: NodeRequest
    record: Record
    info: Dict[str, Any]
    """`docker info`."""

    def wanted(self) -> Wanted:
        """What daemon.json should be like, with what is to be undone of earlier requests. Raises
        Failed where two mirrors disagree."""
        record, url, keys = self.record, self.request.mirror_url, self.request.managed_keys
        for key, value in record.keys_of_others.items():
            if key in keys and keys[key] != value:
                raise Failed(
                    "nothing was changed: %s is managed by another mirror on this node too, as %s;"
                    " give both the same value [RM018]" % (key, json.dumps(value))
                )
        by_hosts = hosts_plan.reads_hosts_toml(self.info)
        gone = (
            [record.mirror]
            if record.mirror is not None
            and (
                not daemon_json.same(record.mirror, url)
                or (by_hosts and not self._was_there_before())
            )
            else []
        )
        former = [
            key for key in record.keys if key not in keys and key not in record.keys_of_others
        ]
        return Wanted(None if by_hosts else url, gone, keys, record.original_spellings(former))

    def _was_there_before(self) -> bool:
        """Whether daemon.json listed our mirror before we came, as on a machine that cloud-init has
        configured. Beside hosts.toml that does no harm, and a reload for it might."""
        listed = daemon_json.mirrors(daemon_json.decode(self.record.original))
        return daemon_json.contains(listed, self.record.mirror or "")

    def facts(self, data: Optional[bytes]) -> Facts:
        """What the node is like; `data`: daemon.json as it is now."""
        record, request = self.record, self.request
        before_restart = daemon_json.decode(record.before_restart) if record.untried else None
        ours = [*record.mirrors, request.mirror_url]
        proven = record.exists and not record.untried and files.digest(data) in record.written
        return preflight.gather(
            request.path,
            data,
            self.info,
            request.unit,
            ours,
            before_restart=before_restart,
            written_by_us=proven,
        )

    def plan(self, facts: Facts, restarting: bool = False) -> Plan:
        """What is to be done to daemon.json; `restarting`: the node is drained for it."""
        request = self.request
        return plan(
            self.wanted(), facts, request.restart, restarting, request.accept_broken_host_gateway
        )

    def keys_after(self, todo: Plan) -> Dict[str, Any]:
        """The keys that are ours after this plan: those that wait for a restart keep the value that
        we gave them before."""
        waiting = [key for key in todo.due if todo.step != "restart"]
        kept = {key: self.record.keys[key] for key in waiting if key in self.record.keys}
        wanted = self.request.managed_keys
        return {**kept, **{key: value for key, value in wanted.items() if key not in waiting}}


def context_of(request: NodeRequest) -> Context:
    """Asks docker and reads the record. Raises engine.EngineProblem and files.FileProblem."""
    return Context(request, record_of(request), engine.info(request.unit))


def record_of(request: NodeRequest) -> Record:
    """What we know of the node's daemon.json, for the mirror that asks."""
    return Record(request.path, request.owner, request.former)


def refuse(todo: Plan, facts: Facts, others: Sequence[str] = ()) -> None:
    """Raises Failed with everything that speaks against the plan, and `others`."""
    refused = preflight.refused_by_dockerd(todo.after, facts) if todo.step != "none" else []
    reasons = [*others, *todo.refusals, *refused]
    if reasons:
        raise Failed("nothing was changed: " + "; ".join(reasons))
