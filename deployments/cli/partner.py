"""`sluice partner check`: what a partner would get back for a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.feed import Feed
    from tasks.receipt.model import Receipt

_CHUNK = 1 << 20


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file as the partner would drop it.")],
    feed: Annotated[str, typer.Option(help="The feed that would take it: its name, or its file.")],
    json: Annotated[bool, typer.Option("--json", help="Print the receipt's JSON.")] = False,
    ack: Annotated[bool, typer.Option("--ack", help="Print the batch of acknowledgements (HL7 v2 alone).")] = False,
) -> None:
    """Print the receipt that a file would get, without taking it; exit code 1 where something would be refused.

    An archive's files get one each. What only the ledger knows is not looked at: whether the bytes came before, or a
    gate would hold them.
    """
    from tasks.errors import ConfigError
    from tasks.feed import load
    from tasks.receipt.trial import Trial

    contract = load(feed)
    if ack and contract.format != "hl7v2":
        raise ConfigError(f"--ack: {contract.name} takes {contract.format}, and only HL7 v2 has acknowledgements")
    trial = Trial.of(contract)
    receipts = trial.receipts(file.name, lambda: _chunks(file))
    wanted = _wanted(contract, file.name)
    if not wanted:
        print(f"sluice: {file.name}: {contract.name} does not look at files of this name (`match`)", file=sys.stderr)
    if ack:
        for part in trial.acknowledgements(receipts, file.name, lambda: _chunks(file)):
            sys.stdout.buffer.write(part)
    else:
        _print(receipts, json=json)
    sys.stdout.buffer.flush()
    if not (wanted and all(receipt.good for receipt in receipts)):
        raise typer.Exit(1)


def _print(receipts: list[Receipt], *, json: bool) -> None:
    """Print a plain file's receipt as it would be written; those of an archive's files as a list."""
    from tasks.receipt import render

    if not json:
        sys.stdout.buffer.write(b"\n".join(map(render.as_text, receipts)))
    elif len(receipts) == 1:
        sys.stdout.buffer.write(render.as_json(receipts[0]))
    else:
        sys.stdout.buffer.write(b"[" + b",".join(render.as_json(receipt).rstrip() for receipt in receipts) + b"]\n")


def _chunks(path: Path) -> Iterator[bytes]:
    from tasks.errors import ConfigError

    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a file that can be read") from None


def _wanted(feed: Feed, name: str) -> bool:
    """Say whether the feed's source would look at a file of this name; a source that is no folder looks at all."""
    from tasks.source.files_names import matcher, patterns

    match = getattr(feed.source, "match", None)
    return match is None or matcher(glob.rpartition("/")[2] for glob in patterns(match))(name)
