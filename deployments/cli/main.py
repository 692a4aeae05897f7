"""The `sluice` command: every command is one function in a module of its own beside this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer
from typer.exceptions import TyperException

from deployments.cli import (
    audit,
    convert,
    draft,
    drain,
    erase,
    export,
    feeds,
    gate,
    lab,
    lineage,
    listen,
    load,
    operate,
    partner,
    patient,
    prune,
    quarantine,
    replay,
    stack,
    views,
    watch,
)
from tasks.errors import ConfigError, SluiceError
from tasks.shell import unexpected


def _group(about: str | None = None) -> typer.Typer:
    return typer.Typer(
        help=about,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


COMMANDS: tuple[Callable[..., None], ...] = (
    stack.up,
    stack.down,
    stack.status,
    stack.demo,
    feeds.deploy,
    feeds.run,
    drain.drain,
    watch.watch,
    convert.convert,
    export.export,
    load.load,
    replay.replay,
    lineage.lineage,
    erase.erase,
    operate.doctor,
    operate.destinations,
    prune.prune,
    feeds.bench,
)
GROUPS: dict[str, tuple[str, tuple[Callable[..., None], ...]]] = {
    "audit": ("See what operators did, and check the trail.", (audit.audit_list, audit.audit_verify)),
    "landing": ("Look after what was landed.", (erase.rewrap,)),
    "listen": ("Listen for messages and files that partners send.", (listen.mllp, listen.http)),
    "feed": ("Check, draft and try feed files.", (feeds.check, draft.draft, lab.feed_test)),
    "gate": (
        "Decide about batches that a check holds.",
        (gate.gate_list, gate.gate_release, gate.gate_reject, gate.gate_docs),
    ),
    "patient": ("See merged patients, and take a merge back.", (patient.patient_merges, patient.patient_unmerge)),
    "partner": ("What a partner would get back.", (partner.check,)),
    "quarantine": (
        "See records that stopped, and send them through again or end them.",
        (
            quarantine.quarantine_list,
            quarantine.quarantine_show,
            quarantine.quarantine_release,
            quarantine.quarantine_discard,
            quarantine.quarantine_unmapped,
        ),
    ),
    "views": (
        "Run ViewDefinitions and build the warehouse's tables.",
        (views.run, operate.apply, operate.dictionary, views.conformance),
    ),
}

app = _group()
for command in COMMANDS:
    app.command()(command)
for name, (about, functions) in GROUPS.items():
    group = _group(about)
    for function in functions:
        group.command(function.__name__.removeprefix(f"{name}_"))(function)
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line: an error is one line on standard error; 2 for misuse, 1 for what went wrong."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code)
    except TyperException as error:
        # a command without its arguments answers with its help, which is the one error of several lines
        # one with a bad value names its option in the longer form alone
        said = getattr(error, "format_message", error.__str__)()
        text = str(error) if str(error).startswith("Usage:") else f"sluice: {' '.join(said.split())}"
        print(text, file=sys.stderr)
        sys.exit(2)
    except ConfigError as error:
        for problem in error.problems:
            print(f"sluice: {problem}", file=sys.stderr)
        sys.exit(2)
    except SluiceError as error:
        print(f"sluice: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # the reader has seen enough, as `| head` has; what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("SLUICE_TRACEBACK"):
            raise
        print(f"sluice: {unexpected(error)}; SLUICE_TRACEBACK=1 shows where, please report it", file=sys.stderr)
        sys.exit(1)
