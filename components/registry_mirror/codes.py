"""The table of the codes that refusals end with, like [RM017]. Pure.

A code is what somebody searches for, so it is unique and never given to another refusal: one that
is not used any more goes to RETIRED. The sentence beside a code may be reworded at any time;
docs/reference/troubleshooting.md has the meaning and the remedy. The table itself stays here: what
travels to a node has the codes in its sentences.
"""

from collections.abc import Mapping

CODES: Mapping[str, str] = {
    "RM001": "python3 is Python … on this machine, and the agent needs 3.8 or later; install a "
    "newer one",
    "RM002": "this node's Python is not complete (…); install the package python3",
    "RM003": "the request is no object",
    "RM004": "the request has a field that this version does not know",
    "RM005": "the request lacks a field",
    "RM006": "a field of the request is of another type than this version takes",
    "RM007": "daemon.json was edited during the run, and that edit is kept",
    "RM008": "PUTTING THE OLD daemon.json BACK FAILED TOO: …",
    "RM009": "docker lost its insecure-registries with the reload (moby#45552); it has them again "
    "once restarted",
    "RM010": "there is a service … already, which is not this mirror's; set serviceName to another "
    "name (or remove it)",
    "RM011": "no overlay network … on this swarm: create it, or set createNetwork to true",
    "RM012": "the … … is taken by the mirror of the stack …; set … to another (or destroy that "
    "stack; if it is gone for good",
    "RM013": "Traefik leads the hostname … to the service …; set hostname to another (or remove "
    "that service or its rule)",
    "RM014": "the service … has a Traefik router …, which would be ours; set serviceName"
    " to another "
    "name (or rename it)",
    "RM015": "the service … writes to the cache …; give each mirror one of its own",
    "RM016": "… is another mirror's (…); give each mirror a configPath of its own",
    "RM017": "The Traefik of the service … takes only what meets its constraint …",
    "RM018": "nothing was changed: … is managed by another mirror on this node too, as"
    " …; give both "
    "the same value",
    "RM019": "it has … bytes, which no daemon.json has; put the right file there",
    "RM020": "it is UTF-16; convert it: iconv -f UTF-16 -t UTF-8",
    "RM021": "byte … is not UTF-8; correct the text there",
    "RM022": '"…" is …, not a list of URLs; make it one, or remove it',
    "RM023": "it is JSON, but not an object; it must begin with {",
    "RM024": "it is nested too deeply; put the right file there",
    "RM025": "it is not JSON: …; correct it there",
    "RM026": '"…" is given twice; remove one of them',
    "RM027": "something follows the closing brace",
    "RM029": "it is what this program is about; the mirror is entered by itself",
    "RM030": "dockerd does not start with it on a node of a swarm (moby "
    "daemon/config/config_linux.go)",
    "RM031": "a wrong one ends dockerd at a reload",
    "RM032": "cannot be handed over, because a wrong value could cost the node; those that can are",
    "RM033": "docker itself does not get … from …, though this machine's other programs do: …",
    "RM034": "/etc/docker/certs.d/…/ca.crt, which it reads each time",
    "RM035": "dockerd did not … within … s of a reload…",
    "RM036": "/var/run/….pid has no process id in it; restart docker",
    "RM037": "the program … is not on this node",
    "RM038": "… is a link to …, which does not exist; mend or remove the link",
    "RM039": "… is a link, which is not followed there; put the file itself in its place",
    "RM040": "… was edited by somebody else at this very moment; run this again",
    "RM041": "… belongs to another user; remove it",
    "RM042": "… cannot be used as a folder: …; remove it",
    "RM043": "… goes round in a circle of links; mend it",
    "RM044": "… is a link that others than root may have put there, and is not followed; name the "
    "folder itself",
    "RM045": "nothing was changed: docker says of the service …: …",
    "RM046": "nothing was changed: the service … is somebody else's; choose another serviceName",
    "RM047": "nothing was changed: docker does not take the guard's service: …",
    "RM048": "nothing was changed: docker's socket is not on this machine",
    "RM049": "nothing was changed: docker's API does not answer: …",
    "RM050": "somebody edited … meanwhile, so it is left as it is now",
    "RM051": "… names the mirror otherwise than it should",
    "RM053": "docker ignores the whole file, because …; correct that",
    "RM054": "it is a link, or its folder is one, so that it may be another registry's"
    " too; put the "
    "file itself there",
    "RM055": "its server is … itself, so that nobody is asked where that does not answer; remove "
    "the line",
    "RM056": 'it has … already, …; give it capabilities = ["pull", "resolve"], or'
    " remove that table",
    "RM057": "another program writes this file (…) and would take our host out again; let that "
    "enter: …",
    "RM058": "this registry goes by …/_default today, and not any more with a folder of its own; "
    "copy what is there to … first",
    "RM059": "docker reads … only where there is no hosts.toml; name them there as ca and client "
    "first, before any table",
    "RM060": "docker ignores registry-mirrors (…) once hosts.toml names a host; move them to …, or "
    "take them out",
    "RM061": "with all capabilities, push among them",
    "RM062": "where the mirror does not answer docker goes to …, which is the server of its "
    "hosts.toml",
    "RM063": "it has … bytes, which no hosts.toml has; put the right file there",
    "RM064": "it begins with a byte order mark, which is not TOML; save it without",
    "RM066": "… is of another kind than dockerd wants",
    "RM067": "capabilities is of another kind than dockerd wants",
    "RM068": "it has the unknown capability …",
    "RM069": "it has the capability referrers, which docker knows from ….… on",
    "RM070": "dial_timeout is …, which is no duration",
    "RM071": "a header is neither a string nor a list of strings",
    "RM072": "ca is neither a string nor a list of strings",
    "RM073": "client is neither a string nor a list of strings or pairs",
    "RM074": "a control character, which is not TOML",
    "RM075": 'hosts that are not tables of their own; write each as [host."https://…"]',
    "RM076": 'a key of [host]; write each host as [host."https://…"]',
    "RM077": "a table where dockerd wants a value",
    "RM078": "a host in two places, which dockerd asks twice; put its tables together",
    "RM080": "a table after a table within it",
    "RM081": 'a table that no host has; is the host\'s name in quotes, as in [host."https://…"]?',
    "RM082": "a list of tables, which hosts.toml has no use for",
    "RM083": "a header of a table that is not closed",
    "RM084": "something that is neither a key nor a table nor a comment",
    "RM085": "…, which dockerd may or may not take for …; write it so",
    "RM086": "lists within lists without end",
    "RM087": "a value that is no string, list, table, true or false",
    "RM088": "a table on one line that is not closed",
    "RM089": "a string over several lines; write it on one",
    "RM090": "a string with an escape that TOML does not have",
    "RM091": "a key with a dot, which may be a table; write the table",
    "RM092": "something behind a value or a header",
    "RM093": '… is …, and dockerd wants a text; put quotation marks round it: "…"',
    "RM094": "… is empty; give it a value, or take it out",
    "RM095": "gives … twice, as … and as …; dockerd refuses that",
    "RM096": "has …, and labels that begin with … are docker's own",
    "RM097": "has …; write the host alone, without https:// or http://",
    "RM098": "has …, which is neither host, host:port nor a network like 10.0.0.0/8",
    "RM100": "has …, which is no IP address; dockerd takes no names and no ports there",
    "RM101": "has …; dockerd takes no zone there",
    "RM102": "has …, which is no domain name",
    "RM103": "has …, which has a space in it; give each option its own entry",
    "RM104": "cannot have containerd-snapshotter: dockerd reads it at its start only, and another "
    "image store hides every image and container of the node; switch the store by hand, "
    "node by node, and leave it out here",
    "RM105": "cannot have windows-dns-proxy on Linux; dockerd would not start",
    "RM106": "must have true or false for …, without quotation marks",
    "RM107": "must have base and size, and nothing else, in entry …, like {base: 10.10.0.0/16, "
    "size: 24}",
    "RM108": "has … as base in entry …, which is no network like 10.10.0.0/16",
    "RM109": "has … as size in entry …; it is the prefix length of each network, a whole number "
    "from … to …",
    "RM110": "has …, which is no limit; those that are: …",
    "RM111": "must have Name, Soft and Hard, and nothing else, for …, like …",
    "RM112": "has … with the Name …; they must be the same, like nofile: …",
    "RM113": "must have whole numbers as Soft and Hard of …, -1 for no limit",
    "RM114": "has Soft above Hard for …, and no container would start",
    "RM115": "has …; what it can have is http-proxy, https-proxy and no-proxy",
    "RM116": "must have one text for no-proxy, with commas in it: no-proxy: localhost,.example.com",
    "RM117": "must have a URL like http://proxy.example.com:3128 for …",
    "RM118": "has …; what it can have is gc and entitlements",
    "RM119": "must have network-host or security-insecure in entitlements, each true or false",
    "RM120": "must have true or false for gc.enabled",
    "RM121": 'must have a text like "20GB" for gc.…',
    "RM122": "has gc.…; what gc can have is enabled, policy, …",
    "RM123": "must have a list of mappings for gc.policy",
    "RM124": 'must have a text like "20GB" for … of gc.policy',
    "RM125": "must have true or false for all of gc.policy",
    "RM126": 'must have a list of texts like "unused-for=24h" for filter of gc.policy',
    "RM127": "has … in gc.policy; what an entry can have is all, filter, …",
    "RM128": "must be an address like 127.0.0.1:9323",
    "RM129": "must be the name of a log driver, like json-file",
    "RM130": "the lock … cannot be opened: …; remove it",
    "RM131": "the lock … is no file of ours; remove it",
    "RM132": "another roll-out is at work on this node (…) and did not end within … s;"
    " wait for it, "
    "then run this again",
    "RM133": "this node's lock cannot be taken: …",
    "RM134": "its storage driver is … and was …",
    "RM135": "it is no active node of its swarm any more (docker info: …)",
    "RM136": "it has another node id in the swarm, … instead of …",
    "RM137": "docker is no active node of a swarm here (…)…; see `docker node ls` on a manager",
    "RM138": "docker still runs with the managed key …, which is not in daemonKeys any more, and "
    "only a restart takes that back",
    "RM140": "… … read by this docker (…) at its start only; set restart to when-needed,"
    " or take it "
    "out of daemonKeys",
    "RM141": "docker here has no log driver …; it has …",
    "RM142": "live-restore is true, and with it dockerd does not start on a node of a swarm (moby "
    "daemon/config/config_linux.go)",
    "RM143": "dockerd reads …, not … (its flag --config-file); set daemonJson to that",
    "RM144": "dockerd has the flag --… on its command line and refuses the key … in the file; move "
    "the flag into the file",
    "RM145": "dockerd has the flag --… on its command line, and a reload takes that away from it "
    "(moby daemon/reload.go); move the flag into the file, and restart docker",
    "RM146": "docker … forgets insecure-registries at a reload (moby#45552); bring it up to date "
    "first",
    "RM147": "docker is a snap here, with a file and a reload of its own; this works with dockerd "
    "as a service only",
    "RM148": "this docker is rootless, so it is no node of a swarm that root looks after; tell the "
    "one that is",
    "RM149": "docker … loses the addresses behind host-gateway at a reload…, and then no container "
    "with them starts (moby#52057)",
    "RM150": "dockerd's command line cannot be read from /proc, so nobody knows what it"
    " would start "
    "with",
    "RM151": "… was replaced since docker was started, so that a restart brings up"
    " another version; "
    "restart docker yourself",
    "RM152": "docker's service was edited since docker was started (…), and our restart would take "
    "that over",
    "RM153": "features of daemonKeys would take …: … out of the file, and the next start of docker "
    "would hide every image",
    "RM154": "on its command line it has flags for … too",
    "RM155": "dockerd would refuse the file: …",
    "RM156": "… was edited in …, but docker has not taken that over, and our … would; …, or undo "
    "the edit",
    "RM157": "… was edited since docker was started, and docker does not show what it has of …, "
    "which our … may change; …",
    "RM158": "add … to NO_PROXY (Environment= of docker's unit, or proxies.no-proxy in daemon.json "
    "since docker 23) and restart docker",
    "RM159": "docker goes to … through its proxy …, and that does not lead there (…)",
    "RM160": "the name … does not resolve; enter it in DNS (or /etc/hosts)",
    "RM161": "the certificate of … is not trusted: …",
    "RM162": "… does not speak TLS there: …; is that Traefik's HTTPS port?",
    "RM163": "… did not answer within … s; is a firewall in between?",
    "RM164": "… refused the connection; is Traefik running, and does the name point to it?",
    "RM165": "the upstream of the mirror … has no image … (404); set checkImage to one that it has",
    "RM166": "the mirror … answers, but … does not pass through it (…); can it reach its upstream, "
    "and does that have the image?",
    "RM167": "the upstream of the mirror … does not let the mirror in (…); check upstreamUsername "
    "and upstreamToken",
    "RM168": "the mirror … does not reach its upstream now (… for a layer that nobody has, where a "
    "registry says 404)",
    "RM169": "Traefik does not let this machine in (403 from …/v2/); does allowFrom have its "
    "address?",
    "RM170": "Traefik has no route to the mirror (404 from …/v2/); does it watch this swarm and "
    "this network?",
    "RM171": "Traefik has a route but reaches no mirror (… from …/v2/); is its task running?",
    "RM172": "something that is not a registry answers at …/v2/; does the name point to Traefik?",
    "RM173": "…/v2/ answered … instead of 200",
    "RM174": "this machine is no manager of a swarm (docker info: ControlAvailable), so"
    " no node was "
    "touched; set manager",
    "RM175": "the swarm's services cannot be looked at: …",
    "RM176": "the service … publishes port 443 through the routing mesh, which hides who a client "
    "is from allowFrom",
    "RM177": "the service … cannot be looked at: …",
    "RM178": "docker has not made a task of the service … with this configuration yet",
    "RM179": "…/record.json has the format …, which a newer version of the registry mirror wrote, "
    "and this one reads up to …; use that version",
    "RM180": "…/record.json is damaged; bring it back from a backup, or move … away: then "
    "daemon.json as it is now counts as the original",
    "RM181": "…; take the mirror out of … and restart docker yourself, bring it up to 29.3, or set "
    "acceptBrokenHostGateway",
    "RM182": "docker was restarted and still does not have … as wanted",
    "RM183": "docker was restarted and does not use … any more",
    "RM185": "…, BUT DOCKER DID NOT START WITH IT: …",
    "RM186": "…, and docker runs with it, BUT IS NOT WHAT IT WAS: …",
    "RM187": "…; NOR WITH THE LAST ONE THAT IT WAS HEALTHY WITH: …",
    "RM188": "docker was made to pull from … and did not connect to …; see its log (journalctl -u "
    "…)",
    "RM189": "its docker was restarted by a run that ended before it was verified; run `pulumi up` "
    "again",
    "RM190": "the mirror is in …, which docker does not read with this image store; run `pulumi "
    "up`, or swarm-registry-mirror repair",
    "RM191": "docker goes by …, where the mirror is not…; run `pulumi up`, or"
    " swarm-registry-mirror "
    "repair",
    "RM192": "docker goes to the mirror through its proxy …, and every image with it",
    "RM193": "… cannot be made: …; is the shared storage mounted on this node?",
    "RM194": "… says that the service … writes to this cache…; give each mirror a cachePath of its "
    "own (or remove that file)",
    "RM195": "… is not the storage that the manager sees under this name; mount it here"
    " too, or set "
    "placementConstraints",
    "RM196": "… still run on … … s after it was drained; it is … again, and was not restarted",
    "RM197": "the swarm does not see … ready … s after its docker was restarted…",
    "RM198": "the swarm has no node with the id …",
    "RM199": "docker goes by … from 28.0 on with this image store; run"
    " swarm-registry-mirror repair "
    "afterwards, which moves the mirror there",
    "RM200": "its images stay in the storage driver of old, and a machine that is installed anew "
    "keeps them in containerd…; whoever moves this one over loses sight of its images and "
    "containers, and then runs swarm-registry-mirror repair",
    "RM201": "firewall-backend is nftables, with which a docker from 29.0 on is no node"
    " of a swarm; "
    "take iptables",
    "RM202": "insecure-registries is set, and from 29.10 on registries on localhost are insecure "
    "only where it names them",
    "RM203": "… says API 1.24, and a docker from 29.0 on does not answer that; take Traefik 3.6.1 "
    "or 2.11.31 before",
    "RM204": "docker 29.0 to 29.2 answers no client before 25.0 (here: …); take 29.3, or set "
    "min-api-version",
    "RM205": "from docker's client 29 on `docker service update --image NAME:TAG` starts no task "
    "where a tag has moved",
    "RM206": "it is the swarm's only manager, which would be without one meanwhile;"
    " allowQuorumLoss "
    "permits that",
    "RM207": "it answered with more than 1 MiB, which the node agent never does; look at that "
    "machine",
    "RM208": "docker does not answer: …",
    "RM209": "docker did not start: …",
    "RM210": "no service … runs here",
    "RM211": "`…` did not answer within … s",
    "RM212": "`…` failed: …",
    "RM213": "… is a directory, or not a regular file; move it away",
    "RM214": "… cannot be read: …",
    "RM215": "… cannot be removed: …",
    "RM216": "docker was restarted, and then, from this node, …",
    "RM217": "line … has header given twice",
    "RM218": "line … has … given twice",
    "RM219": "line … has a key without a value",
    "RM220": "line … has a table that was there before",
    "RM221": "line … has a host whose name is no URL",
    "RM222": "line … has a string that is not closed",
    "RM223": "line … has a list that is not closed",
    "RM224": "…: its agent answered with something else than JSON",
    "RM225": "…: … came to nothing: …",
    "RM226": "no manager of the swarm answers among …",
    "RM227": "no docker was restarted: … wait for it, and restart is never",
    "RM228": "…: its agent's answer has no usable …; does its shell change output?",
    "RM229": "its server is …, and the lines around it are not as this program wrote them; remove"
    " those that are about the mirror",
    "RM230": "fallback is false for this registry, so that the whole file is to be the mirror's,"
    " and it says something else already",
    "RM231": "fallback is false for …, and this docker would ask it all the same, because …",
    "RM232": "the mirror is not in …; run `pulumi up`, or swarm-registry-mirror repair",
    "RM233": "the mirror is in …, and this registry is not cached any more",
    "RM234": "docker asks the mirror by itself for images of Docker Hub alone, because …",
    "RM235": "fallback is false for this registry, and docker would ask its registry-mirrors (…)"
    " before the mirror",
    "RM240": "the mirror did not answer for … within … s",
    "RM241": "… gives its tokens at …, where the mirror's registry asks for none (CVE-2026-33540)",
    "RM242": "… does not let the mirror have … (…); check its username and token in registries",
    "RM243": "whether the mirror reaches … cannot be told, because no repository of it is known",
    "RM244": "the mirror does not reach … now (… for a layer that nobody has)",
    "RM245": "the mirror's Varnish does not lead to …; does its newest task answer?",
    "RM256": "docker goes to the mirror through a proxy that only docker itself can speak to",
    "RM257": "Docker Hub grants … more pulls, and … are left for others (--reserve)",
    "RM258": "the time for warming was over; what was fetched stays in the cache",
    "RM259": "the image has none for the platforms of the swarm's nodes",
    "RM260": "the mirror sent another manifest than …",
    "RM261": "a layer breaks off, or is not what its digest says",
    "RM262": "a manifest has more than … bytes",
    "RM263": "the upstream does not let the mirror have it: no such image, or a private one",
    "RM264": "there is no such image upstream",
    "RM265": "the mirror does not have it, and does not reach its upstream now",
    "RM266": "the mirror answers … for an image",
    "RM267": "the time for pulling was over before it began",
    "RM268": "… is no repository",
    "RM269": "… is no image",
    "RM270": "only docker itself can ask the mirror, through its proxy",
    "RM271": "a manifest is neither an index nor that of an image",
    "RM272": "a manifest names a digest that is none",
}
"""Code -> what it stands for."""

RETIRED: frozenset[str] = frozenset({"RM184"})
"""Codes of refusals that are no more."""
