# Thin names over the real commands. `make up` and `make test` are all that a newcomer needs.

PYTHON ?= python3
ENV ?= dev
export SSH_USER
# A variable in small letters would be passed over in silence, and the command would go to the stack `dev`.
$(foreach name,env node yes unreachable offline manager,$(if $(filter command\ line,$(origin $(name))),$(error say it in capitals: $(shell echo $(name) | tr a-z A-Z)=$($(name)))))
ASK := $(if $(YES),--yes)
VENV := .tools/venv
RUN := @$(VENV)/bin/python -m
REQUIREMENTS := tools/requirements

# Every target is a name and no file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' Makefile)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

up: $(VENV)/.stamp  ## tools, lab, pulumi up, proof; ENV=<stack> for a real swarm, UNREACHABLE=skip-and-report past dead nodes, YES=1 in CI
	$(RUN) lab.tryout up "$(ENV)" $(UNREACHABLE) $(ASK)

down: $(VENV)/.stamp  ## destroy the stack; every node as it was before; remove the lab; YES=1 in CI
	$(RUN) lab.tryout down "$(ENV)" $(ASK)

test: tools  ## lint, types, unit, component, program, contract, and the lab end to end
	$(RUN) lab.test

check: program-tools  ## lint and types only
	$(RUN) lab.test check

faults: tools  ## every fault of the project's list, 20 times where there is chance in it; prints fault and outcome
	@FAULT_REPEATS=20 $(VENV)/bin/python -m lab.test unit contract e2e faults

soak: tools  ## what is too long or too far for `make test`: certificates over ACME, clients that are not docker, GlusterFS
	$(RUN) lab.test soak

unit: program-tools  ## the tests that need no lab: seconds
	$(RUN) lab.test check unit component program

coverage: program-tools  ## which lines and branches of components/ the tests that need no lab do not reach
	$(RUN) lab.test coverage

preview: program-tools  ## what `make up` would change, and the policies; connects to no node; OFFLINE=1: to no backend either
	$(RUN) lab.run preview "$(ENV)" $(if $(OFFLINE),--offline) $(if $(MARKDOWN),--markdown $(MARKDOWN)) \
	  $(if $(POLICY),--policy-pack $(POLICY))

save-state: program-tools  ## the stack's state without secrets, into previews/, for the previews of pull requests
	$(RUN) lab.run save-state "$(ENV)"

adopt: program-tools  ## ENV=prod MANAGER=root@10.0.0.11: a mirror that was set up by hand becomes a stack; changes nothing
	$(RUN) lab.run adopt "$(ENV)" $(MANAGER) $(if $(SERVICE),--service $(SERVICE)) $(if $(USERS),--users $(USERS)) \
	  $(if $(KEY),--key $(KEY)) $(if $(KNOWN_HOSTS),--known-hosts $(KNOWN_HOSTS))

policy: program-tools  ## let Pulumi itself enforce the policies in every preview; POLICY=<folder> for a pack of your own
	$(RUN) lab.run pack $(POLICY)

policies: program-tools  ## whether what is deployed is against a policy
	$(RUN) lab.run policy "$(ENV)"

lab: tools  ## three real machines, a swarm, Traefik
	$(RUN) lab up

lab-down: $(VENV)/.stamp  ## remove the lab, whatever its state
	$(RUN) lab down

shell: $(VENV)/.stamp  ## a shell in the lab's network, with the tools on PATH
	$(RUN) lab shell

ssh: $(VENV)/.stamp  ## NODE=node2: log in to a node
	$(RUN) lab ssh $(NODE)

lab-status: $(VENV)/.stamp  ## the lab's machines
	$(RUN) lab status

status: program-tools  ## how every node is: reachable, configured, using the mirror (scripts: see the README)
	$(RUN) lab.run status "$(ENV)"

repair: program-tools  ## apply the mirror again on nodes that have drifted
	$(RUN) lab.run repair "$(ENV)"

hostkeys: program-tools  ## ENV=prod: the host keys that the machines have now, to be compared; WRITE=yes writes them into knownHostsFile
	$(RUN) config.hostkeys Pulumi.$(ENV).yaml $(if $(WRITE),--write)

advisories: program-tools  ## which published advisories the stack's images are older than (components/registry_mirror/advisories.json)
	$(RUN) lab.run advisories "$(ENV)"

engines: program-tools  ## TO=29.10.0: what another version of docker would break on each node, before anybody installs it
	$(RUN) lab.run engines "$(ENV)" $(if $(TO),--to=$(TO))

stats: program-tools  ## what the mirror did: hits, misses, bytes, Docker Hub's quota, over days; DAYS=30
	$(RUN) lab.run stats "$(ENV)" $(if $(DAYS),--days=$(DAYS))

why: program-tools  ## IMAGES=traefik:v3.7: where each node's next pull of it goes, and if past the mirror, why
	$(RUN) lab.run why "$(ENV)" $(IMAGES)

warm: program-tools  ## IMAGES="traefik:v3.7 …", FROM=running: have the mirror fetch images before a node asks for them
	$(RUN) lab.run warm "$(ENV)" $(IMAGES) $(if $(FROM),--from-$(FROM)) $(if $(BANDWIDTH),--bandwidth=$(BANDWIDTH))

prepull: program-tools  ## as warm, and then have every node pull them, in waves
	$(RUN) lab.run prepull "$(ENV)" $(IMAGES) $(if $(FROM),--from-$(FROM)) $(if $(BANDWIDTH),--bandwidth=$(BANDWIDTH))

purge: program-tools  ## IMAGES=ghcr.io/owner/app:1: remove images from the cache and from Varnish; YES=1: do not ask
	$(RUN) lab.run purge "$(ENV)" $(IMAGES) $(if $(YES),--yes)

metrics: program-tools  ## how the nodes are, and Docker Hub's quota, for Prometheus; FILE=… writes a file
	$(RUN) lab.run metrics "$(ENV)" $(if $(FILE),-o $(FILE))

monitoring: program-tools  ## PART=scrape, rules or dashboard: what Prometheus and Grafana need
	$(RUN) lab.run monitoring "$(ENV)" $(PART)

client-config: program-tools  ## CLIENT=podman: what a client outside the swarm needs to use the mirror; containerd, buildkit, docker
	$(RUN) lab.run client-config "$(ENV)" $(CLIENT)

nodes: program-tools  ## the list of nodes as configuration, with the swarm's members that are not in it; ROLE=worker, LABEL=disk=ssd; MANAGER=root@…: without a stack
	$(RUN) lab.run nodes "$(ENV)" $(if $(MANAGER),--from=$(MANAGER)) $(if $(ROLE),--role=$(ROLE)) $(if $(LABEL),--label=$(LABEL))

cloud-init: program-tools  ## user data that has a new machine use the mirror from its first boot on; AUTHORITY=FILE: certificates that docker needs for it
	$(RUN) lab.run cloud-init "$(ENV)" $(if $(AUTHORITY),--authority=$(AUTHORITY))

pin: $(VENV)/.stamp  ## look up the digests of the stack's images and write them into its file
	$(RUN) lab.run pin "$(ENV)"

sudoers: program-tools  ## SSH_USER=ops: what a user that is not root must be allowed on a node, for /etc/sudoers.d
	@[ -n "$$SSH_USER" ] || { echo "say SSH_USER=<the account with which ssh logs in to the nodes>" >&2; exit 64; }
	$(RUN) components.registry_mirror.cli sudoers "$$SSH_USER"

unlock: program-tools  ## remove the lock that a killed pulumi has left on a stack
	$(RUN) lab.run unlock "$(ENV)"

forget: program-tools  ## NODE=node3: remove a node that no longer exists from the state
	$(RUN) lab.run forget "$(ENV)" "$(NODE)"

bench-up: tools  ## how long things take, printed
	$(RUN) lab.bench.up

bench-preview: program-tools  ## a preview of 1, 50 and 200 nodes: seconds, and how many machines it connects to (0)
	$(RUN) lab.bench.preview $(NODES)

bench-rollout: tools  ## 100 and 500 simulated nodes, beside Ansible, pyinfra and bare ssh
	$(RUN) lab.bench.rollout $(NODES)

tools: $(VENV)/.stamp
	$(RUN) tools.toolchain --with-lab

# What everything else runs in. A package that was changed by hand in it stays; `make clean` begins anew.
$(VENV)/.stamp: $(REQUIREMENTS)/program.txt $(REQUIREMENTS)/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$$($(PYTHON) --version) is too old; 3.10 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "  …  Python packages, pinned and hashed, into $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV) || { echo "install Python's venv module (Debian: python3-venv)" >&2; exit 1; }
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(REQUIREMENTS)/dev.txt
	@touch $@

program-tools: $(VENV)/.stamp
	$(RUN) tools.toolchain

bench-mirror: tools  ## what the mirror saves, costs and survives: bytes, seconds, beside nginx, and when it is ill
	$(RUN) lab.bench.mirror

bench-fleet: tools  ## seconds until N nodes have a new image, beside the physical limit; NODES="1 4 8 16"
	$(RUN) tests.bench_fleet $(NODES)

bench-cache: tools  ## whether a cache keeps its limit under load, its hits beside an ideal LRU's, and what that costs
	$(RUN) tests.bench_cache $(TABLES)

reference: program-tools  ## write Pulumi.yaml's keys, the editors' schema and docs/reference/configuration.md from config/keys.py
	$(RUN) config.reference

dashboard: $(VENV)/.stamp .tools/dashboard/.stamp  ## write Grafana's dashboard from components/registry_mirror/monitoring/panels.py
	@PYTHONPATH=. .tools/dashboard/bin/python docs/site/dashboard.py

.tools/dashboard/.stamp: $(REQUIREMENTS)/dashboard.txt
	@echo "  …  Grafana's SDK, pinned and hashed, into .tools/dashboard"
	@$(PYTHON) -m venv --clear .tools/dashboard
	@.tools/dashboard/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(REQUIREMENTS)/dashboard.txt
	@touch $@

docs: $(VENV)/.stamp .tools/docs/.stamp  ## the documentation as a site: every link checked, and looked at in a headless Chromium
	$(RUN) tools.site

.tools/docs/.stamp: $(REQUIREMENTS)/docs.txt
	@echo "  …  mkdocs, pinned and hashed, into .tools/docs"
	@$(PYTHON) -m venv --clear .tools/docs
	@.tools/docs/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(REQUIREMENTS)/docs.txt
	@touch $@

dist: $(VENV)/.stamp  ## wheel and source archive, into dist/; their version is the tag's
	@rm -rf dist build
	$(RUN) build --no-isolation --outdir dist .

fix: $(VENV)/.stamp  ## format, and repair what the linter can repair
	@$(VENV)/bin/ruff format --quiet . && $(VENV)/bin/ruff check --fix .

lock: program-tools  ## pin and hash the Python packages of tools/requirements/*.in
	@for f in program dev go bench traefik-3.0 policy docs dashboard; do \
	  $(VENV)/bin/uv pip compile --quiet --universal --python-version $$([ $$f = dashboard ] && echo 3.11 || echo 3.10) --generate-hashes --no-header --no-emit-index-url \
	    --no-emit-find-links --no-annotate $(REQUIREMENTS)/$$f.in -o $(REQUIREMENTS)/$$f.txt; done

clean: lab-down  ## remove everything that was made here
	rm -rf .tools .lab
