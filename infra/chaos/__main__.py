"""`make chaos`: kills and freezes everything, at every point and at random, and compares the end with a calm run's.

`python -m infra.chaos --kills 200 --orchestrated 40 --seed N`: the seed is printed, and the same seed does the same
again. The exit code is 0 where store, history, tables, FHIR server and receipts are equal, resource by resource.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from infra.chaos import act, feeds, picture
from infra.chaos.plan import Disturbance, plan, summary
from infra.chaos.site import FEEDS, Site, site
from infra.chaos.world import wait_for

REAPED_SECONDS = 300


def main() -> int:
    """Run; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--orchestrated", type=int, help="how many of them are of runs through Prefect; a fifth")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    options = parser.parse_args()
    orchestrated = -(-options.kills // 5) if options.orchestrated is None else options.orchestrated
    _tell(f"chaos: seed {options.seed}, {options.kills} kills, {orchestrated} of them through Prefect")
    began = time.monotonic()
    todo = plan(options.seed, options.kills, orchestrated)
    folder = Path(tempfile.mkdtemp(prefix="sluice-chaos-"))
    written = feeds.write(folder / "feeds", FEEDS)
    with site(folder / "chaos", written) as made:
        met, left = _disturbed(made, todo)
        found = made.picture()
    with site(folder / "calm", written) as made:
        wanted = _calm(made, todo)
    differences = found.differences(wanted)
    report = {
        "seed": options.seed,
        "kills": len(todo),
        "met": met,
        "through_prefect": sum(one.orchestrated for one in todo),
        **summary(todo),
        "compared": wanted.size,
        "differences": len(differences),
        "runs_left_running": left,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    print(json.dumps(report, indent=1))  # noqa: T201
    for line in differences:
        _tell(line)
    if not differences and not left:
        shutil.rmtree(folder)
        return 0
    (folder / "pictures.json").write_text(json.dumps({"chaos": found.parts, "calm": wanted.parts}, indent=1))
    _tell(f"both sites and their pictures are kept in {folder}")
    return 1


def _disturbed(made: Site, todo: Sequence[Disturbance]) -> tuple[int, int]:
    """Carry a plan out; return how many disturbances met somebody, and how many runs Prefect still takes for alive."""
    from deployments.runtime import use_prefect

    orchestrated = any(one.orchestrated for one in todo)
    if orchestrated:
        use_prefect()
        from infra.chaos import prefect

        prefect.register()
    met = 0
    for one in todo:
        began = time.monotonic()
        happened = prefect.carry_out(made, one) if one.orchestrated else act.carry_out(made, one)
        met += happened
        _tell(f"{one}{'' if happened else ' (met nobody)'}: {time.monotonic() - began:.1f} s")
    made.rest()
    if not orchestrated:
        return met, 0
    # the automation sees to those whose worker died with them
    wait_for(lambda: not prefect.running(), REAPED_SECONDS)
    return met, len(prefect.running())


def _calm(made: Site, todo: Sequence[Disturbance]) -> picture.Picture:
    for one in todo:
        made.deliver(one.round)
        made.rest([feeds.OF[one.round.feed]])
    return made.picture()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
