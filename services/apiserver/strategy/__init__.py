"""What Kubernetes knows of each kind beyond its fields: defaults, what a write may set, and what is valid.

Everything here is a pure function over protobuf messages. The registry calls, in this order: `default`,
`prepare_for_create` or `prepare_for_update`, then `validate_create` or `validate_update`.
"""

from services.apiserver.strategy.dispatch import (
    alike_content,
    allows_create_on_update,
    allows_unconditional_update,
    comes_alike,
    default,
    demands_version,
    prepare_for_create,
    prepare_for_update,
    validate_create,
    validate_name,
    validate_update,
)

__all__ = [
    "alike_content",
    "allows_create_on_update",
    "allows_unconditional_update",
    "comes_alike",
    "default",
    "demands_version",
    "prepare_for_create",
    "prepare_for_update",
    "validate_create",
    "validate_name",
    "validate_update",
]
