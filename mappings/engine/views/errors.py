"""What is wrong with a view."""

from __future__ import annotations


class ViewError(ValueError):
    """A view cannot be compiled, or a resource does not fit what it promises.

    - `path` is the place in the view as a person finds it: `select[0].column[2].path`.
    - `reason` says what is wrong there; it may quote the view, never a resource.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
