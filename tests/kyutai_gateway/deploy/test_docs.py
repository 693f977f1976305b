"""What the pages about deploying say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kyutai_gateway import pins
from kyutai_gateway.deployment import PREFIX, Deployment
from kyutai_stream.backends.modal import workspace_url

DOCS = Path(__file__).parents[3] / "docs"
DEPLOY = (DOCS / "how-to" / "deploy-stt-on-modal.md").read_text()
SIZING = (DOCS / "explanation" / "sizing-and-cost.md").read_text()


def rows(page: str) -> dict[str, list[str]]:
    """The rows of all tables, by their first cell."""
    cells = (
        [cell.strip(" `*") for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("|")
    )
    return {row[0]: row[1:] for row in cells}


def test_all_variables_are_told_with_their_defaults() -> None:
    told = rows(DEPLOY)
    defaults = Deployment().environment()
    names = {name for name in defaults if name.startswith(PREFIX)}
    assert names == {name for name in told if re.fullmatch(rf"{PREFIX}[A-Z_]+", name)}
    for name in ("GPU", "MAX_CONTAINERS", "MIN_CONTAINERS", "SCALEDOWN_S", "MODEL"):
        assert told[PREFIX + name][0].strip("`") == defaults[PREFIX + name]
    for name in ("TIMEOUT_S", "STARTUP_S", "FLAVOUR"):
        assert told[PREFIX + name][0].strip("`") == defaults[PREFIX + name]


def test_where_the_audio_goes_comes_before_any_step() -> None:
    first_step = DEPLOY.index("## 1.")
    for word in ("us-east", "eu-west", "ROUTING_REGION", "COMPUTE_REGION"):
        assert DEPLOY.index(word) < first_step


def test_the_address_is_the_real_one() -> None:
    address = workspace_url("w").partition("--")[2].partition("/")[0]
    assert address in DEPLOY


@pytest.mark.parametrize("gpu", list(pins.GPUS))
def test_gpus_have_the_number_of_places_that_is_told(gpu: str) -> None:
    places, _, hour, stream_hour = rows(SIZING)[gpu]
    assert int(places) == pins.GPUS[gpu].slots
    assert float(stream_hour) == pytest.approx(float(hour) / int(places), abs=0.0006)
    assert f"`{gpu}`" in DEPLOY


def test_estimates_are_marked() -> None:
    # Whoever measures one takes the mark away, here too.
    for gpu in ("L4", "A10", "A100-40GB"):
        assert "estimate" in rows(SIZING)[gpu][1]
    starts = (DOCS / "explanation" / "cold-starts.md").read_text()
    assert re.search(r"^\| Stage \| Estimate \|", starts, re.MULTILINE)
