"""What every Prefect task has in common: no result kept, retried only where it helps, no value in what it raises."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tasks.errors import Permanent, SluiceError, Transient

P = ParamSpec("P")
R = TypeVar("R")

RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 30],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": lambda _task, _run, state: _is_transient(state),
    "persist_result": False,
}
"""Options of a task whose work is fenced by the ledger: trying again is safe, and only a `Transient` is worth it."""


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Let only Sluice's own errors out of `function`; another one may quote a record and becomes its type and place."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except SluiceError as error:
            raise error.with_traceback(None) from None
        except Exception as error:
            what = unexpected(error)
        # outside the handler, so that the first error is not even this one's context
        raise Permanent(f"{what}; nothing was committed by this step, the run can be retried")

    return inner


def unexpected(error: BaseException) -> str:
    """Return type and place of an error that nobody foresaw; its text may quote a record and is left out."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _is_transient(state: Any) -> bool:
    try:
        state.result()
    except Transient:
        return True
    except Exception:
        return False
    return False
