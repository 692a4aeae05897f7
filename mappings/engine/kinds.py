"""What `keys.yaml` says of a type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What `keys.yaml` says of a type."""

    living: bool
    keys: tuple[str, ...]
    repeat: str = ""
    labels: bool = True
    """Two labels of this type are two things though their keys are the same; an order is one, wherever it stands."""
