"""Many clips of a kept model on Ray: the answers of the plain loop, and a bad clip ends nothing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from harness import command
from tests.within import within

pytestmark = pytest.mark.slow

SETTINGS = ["model.name=linear", "tracking.enabled=false", "features.size=48", "features.flow=dis"]
SETTINGS += ["data.synthetic.subjects=4", "data.synthetic.clips_per_subject=4"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    chosen = [part for setting in SETTINGS for part in ("--set", setting)]
    fitted = within("fit", "--local", *chosen, "--out", str(home / "model"), home=home)
    assert fitted.code == 0, fitted.err
    return home


@pytest.fixture(scope="module")
def manifest(home: Path) -> Path:
    """60 rows over the embedded clips, two of which cannot be used."""
    frames = sorted({path.parent for path in (home / "data").rglob("*.jpg")})
    rows = []
    for n in range(60):
        folder = frames[n % len(frames)]
        images = sorted(folder.glob("*.jpg"))
        rows.append(
            ["p", f"c{n}", "?", f"{folder.relative_to(home / 'data')}", images[0].name, images[-1].name]
        )
    rows[7][3] = "nowhere"
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["subject", "clip", "label", "path", "onset", "apex"])
    table.writerows(rows)
    (home / "data" / "manifest.csv").write_text(text.getvalue())
    broken = home / "data" / rows[3][3] / rows[3][5]
    broken.write_bytes(b"no image")
    return home / "data" / "manifest.csv"


def rows_of(ended: command.Ended) -> list[dict]:
    rows = [json.loads(line) for line in ended.out.splitlines()]
    for row in rows:
        del row["seconds"]
    return rows


def test_ray_answers_as_the_loop_does_in_the_order_of_the_manifest(
    one_ray: str, home: Path, manifest: Path
) -> None:
    asked = ["predict", str(home / "model"), str(manifest), "--json"]
    alone = within(*asked, "--local", home=home)
    many = within(*asked, home=home, RAY_ADDRESS=one_ray)
    assert alone.code == many.code == 3, many.err
    assert rows_of(many) == rows_of(alone)
    assert [row["clip"] for row in rows_of(many)] == [f"folder/p/c{n}" for n in range(60)]
    bad = {row["clip"]: row["reason"] for row in rows_of(many) if row["reason"]}
    assert "nowhere" in bad["folder/p/c7"] and "not an image" in bad["folder/p/c3"]
    assert len(bad) < 12  # the broken image is of a clip that comes again and again
    assert "answering" in many.err
