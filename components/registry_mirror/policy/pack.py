"""The rules as policies that Pulumi itself enforces, with any backend: `pulumi preview
--policy-pack FOLDER`.

The folder is what `swarm-registry-mirror policy --pack FOLDER` writes. It runs in an environment of
its own, with `pulumi-policy`, which nothing else of this package needs.
"""

from collections.abc import Callable

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    StackValidationArgs,
    StackValidationPolicy,
)

from . import rules


def register() -> None:
    """Make the pack; called by the `__main__.py` of its folder."""
    PolicyPack(
        name="swarm-registry-mirror",
        enforcement_level=EnforcementLevel.MANDATORY,
        policies=[
            StackValidationPolicy(
                name=rule.name, description=rule.description, validate=_validation(rule)
            )
            for rule in rules.RULES
        ],
    )


def _validation(rule: rules.Rule) -> Callable[[StackValidationArgs, ReportViolation], None]:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        resources = [
            {
                "type": resource.resource_type,
                "name": resource.name,
                "urn": resource.urn,
                "parent": resource.parent.urn if resource.parent else "",
                "inputs": resource.props,
                "dependencies": [dependency.urn for dependency in resource.dependencies],
                "ignored": resource.opts.ignore_changes,
            }
            for resource in args.resources
        ]
        for violation in rule.find(resources):
            report(f"{violation.name}: {violation.message}", violation.urn)

    return validate
