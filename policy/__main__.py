"""The policy pack: each of `rules.py` as a policy that Pulumi enforces, with any backend: `pulumi preview --policy-pack policy`.

Needs the official Pulumi CLI and an environment of its own: `make policy`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from pulumi_policy import EnforcementLevel, PolicyPack, ReportViolation, StackValidationArgs, StackValidationPolicy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policy import rules


def _validation(rule: rules.Rule) -> Callable[[StackValidationArgs, ReportViolation], None]:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        resources = [
            {
                "type": resource.resource_type,
                "name": resource.name,
                "urn": resource.urn,
                "inputs": resource.props,
                "dependencies": [dependency.urn for dependency in resource.dependencies],
                "ignored": resource.opts.ignore_changes,
            }
            for resource in args.resources
        ]
        for found in rule.look(resources):
            report(f"{found.name}: {found.message}", found.urn)

    return validate


PolicyPack(
    name="swarm-registry-mirror",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        StackValidationPolicy(name=rule.name, description=rule.description, validate=_validation(rule)) for rule in rules.RULES
    ],
)
