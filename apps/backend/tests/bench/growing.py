"""P5: how much longer requests take on a database a thousand times as large. `growth.py` measures it; here it joins the record."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from app.settings import BACKEND_DIR
from tests.bench.results import Measured, Record, Target, figure

_KEY = "P5"


async def grown(small: Path, large: Path) -> Measured:
    """
    Args:
        small, large: folders of crowds, as `python -m tests.bench.crowd` makes them.

    Raises:
        RuntimeError: it couldn't be measured.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.growth", "--json", "--small", small, "--large", large,
        cwd=BACKEND_DIR, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the measurement of growth ended with {process.returncode}")
    return read_growth(said.decode())


def read_growth(said: str) -> Measured:
    """From its JSON: of each kind of request the ratio of the medians, and the least and the most of single rounds."""
    made = Measured()
    for told in json.loads(said):
        least, most = told["spread"]
        ratio = figure(f"{told['what']}: large ÷ small", "ratio", [least, told["ratio"], most])
        made.targets.append(Target(_KEY, ratio, 1.3, is_least=False))
        for name in ("small", "large"):
            made.figures.append(figure(f"{told['what']}: p50, {name} database", "ms", [told[f"{name}_ms"]]))
    return made


def taken_over(then: Record | None) -> Measured:
    """What the last record has of it: it isn't measured each time, and each row says of when it is."""
    if then is None:
        return Measured()
    targets = [
        target if target.note else replace(target, note=f"of {then.at}, with {then.commit}")
        for target in then.targets
        if target.key == _KEY
    ]
    names: Sequence[str] = [f" p50, {name} database" for name in ("small", "large")]
    return Measured(targets, [one for one in then.figures if one.name.endswith(tuple(names))])


def put_into(record: Record, grown_in: Record | None) -> Record:
    """A record with the growth that another one has, instead of what it has of it."""
    former, new = taken_over(record), taken_over(grown_in)
    others = [target for target in record.targets if target.key != _KEY]
    return replace(
        record,
        targets=sorted([*others, *new.targets], key=lambda target: target.key),
        figures=[*(one for one in record.figures if one not in former.figures), *new.figures],
    )
