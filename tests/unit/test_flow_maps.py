"""Flow maps of other people and for other people: the composite's data sets, how maps were scaled, export."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from distmer.datasets import check_report, datasets, mismatches
from distmer.datasets.map_scaling import full_ranges, scaled_by_clip, scaling_text
from distmer.datasets.protocols import load_protocol, published_lists
from distmer.datasets.text import natural
from distmer.features.frames import decode_flow_map
from distmer.types import BadInput, FlowMap
from harness import toy
from tests.fixtures.dataset_layouts import frames
from tests.fixtures.dataset_loading import by_id, load, only_failure
from tests.fixtures.videos import clip, write_images
from tests.saying import Say, overrides

COUNTS = {"smic": (70, 51, 43, 16), "casme2": (88, 32, 25, 24), "samm": (92, 26, 15, 28)}


def composite(root: Path) -> Path:
    """The 442 maps of 68 subjects, with the published names as HTNet's folders spell them (s01_ne_01 for
    SMIC's s1_ne_01), the published numbers of each class, and no content."""
    lists = published_lists("megc2019-flowmaps", load_protocol("megc2019-flowmaps", datasets()))
    for name, (*numbers, _) in COUNTS.items():
        labels = [label for label, number in enumerate(numbers) for _ in range(number)]
        for label, name_of_clip in zip(labels, sorted(lists[name], key=natural), strict=True):
            _, subject, own = name_of_clip.split("/")
            if name == "smic":
                padded = f"s{int(subject[1:]):02d}"
                subject, own = padded, own.replace(subject, padded, 1)
            frames(root / subject / "u_test" / str(label), [0], f"{subject}_{own} .png")
    return root


def test_the_composite_is_three_data_sets(tmp_path: Path) -> None:
    manifest = load("megc2019-flowmaps", composite(tmp_path))
    assert (len(manifest.clips), len({c.subject_key for c in manifest.clips})) == (442, 68)
    assert not mismatches(manifest) and not manifest.failures
    assert by_id(manifest)["casme2/sub01/EP02_01f"].label == 0
    report = check_report(manifest)
    for name, (*numbers, subjects) in COUNTS.items():
        rows = [line.split() for line in report.splitlines() if line.startswith(f"{name} ")]
        assert [row[2:] for row in rows if row[1] in ("(all)", "(subjects)")] == [
            [str(sum(numbers))] * 2,
            [str(subjects)] * 2,
        ]
    last = tmp_path / "s20/u_test/2"
    (last / "s20_s20_sur_05 .png").rename(last / "s20_s20_sur_06 .png")
    assert mismatches(load("megc2019-flowmaps", tmp_path)) == [
        "smic: of the published list, not there (1): s20/s20_sur_05",
        "smic: not in the published list (1): s20/s20_sur_06",
    ]
    (tmp_path / "sub01").rename(tmp_path / "person1")
    lost = load("megc2019-flowmaps", tmp_path)
    assert len(lost.failures) == len([c for c in manifest.clips if c.subject == "sub01"])
    assert "the spelling of the subject 'person1' does not tell its data set (smic s\\d+, casme2" in (
        lost.failures[0].reason
    )
    assert any(line.startswith("casme2: 23 subjects, published 24") for line in mismatches(lost))
    plain = load("flowmaps", tmp_path)  # as it was: one data set, whatever the spelling
    assert {c.dataset for c in plain.clips} == {"flowmaps"} and len(plain.clips) == 442


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"columns": {"subject": "x"}},
            r"data\.columns\.subject: there is no sheet or list with columns",
        ),
        (
            {"columns": {"flowmaps": {"clip": "x"}}},
            r"data\.columns\.flowmaps\.clip: there is no sheet or list",
        ),
        ({"columns": {"include": {"clip": "x"}}}, r"data\.columns\.include\.clip: there is no sheet or list"),
        ({"roots": {"casme2": "/x"}}, r"data\.roots\.casme2 is the folder of no data set of the protocol"),
    ],
)
def test_what_maps_have_no_use_for_is_refused(
    tmp_path: Path, settings: dict[str, dict[str, str]], reason: str
) -> None:
    with pytest.raises(BadInput, match=reason):
        load("flowmaps", tmp_path, **settings)


def test_a_part_must_be_an_expression(tmp_path: Path) -> None:
    from distmer.types import BadInput

    text = (
        "source: a test\nclasses: [negative, positive]\nsets:\n  flowmaps:\n    labels: as-is\n    parts:\n"
    )
    own = tmp_path / "own.yaml"
    own.write_text(f"{text}      smic: {{subjects: 's('}}\n")
    with pytest.raises(BadInput, match=r"parts\.smic\.subjects: subjects is not a regular expression"):
        load(str(own), tmp_path)


def _map(path: Path, image_HW3: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image_HW3.astype(np.uint8))


def test_how_maps_were_scaled_is_said_of_each_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(6):
        image = rng.uniform(40, 200, (28, 28, 3))
        low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
        _map(tmp_path / f"s{n}/u_test/{n % 3}/s{n}_a .png", (image - low) / (high - low) * 255)
        _map(tmp_path / f"sub0{n}/u_test/{n % 3}/sub0{n}_a .png", image)
        mixed = (image - low) / (high - low) * 255 if n < 3 else image
        _map(tmp_path / f"00{n}/u_test/{n % 3}/00{n}_a .png", mixed)
    (tmp_path / "s0/u_test/0/s0_b .png").write_bytes(b"no map")
    manifest = load("megc2019-flowmaps", tmp_path)
    found = [full_ranges(manifest.clips)[name] for name in ("smic", "casme2", "samm")]
    assert [(len(maps), maps.count(True), scaled_by_clip(maps)) for maps in found] == [
        (7, 6, True),
        (6, 0, False),
        (6, 3, False),
    ]
    text = scaling_text(manifest.clips)
    assert (
        "smic: 6 of 7 maps reach from 0 to 255 in u, v and strain (1 cannot be read): each was min-max"
        in text
    )
    assert "casme2: 0 of 6 maps reach from 0 to 255 in u, v and strain: they were not min-max scaled" in text
    assert "samm: 3 of 6 maps reach from 0 to 255 in u, v and strain: some were min-max scaled for" in text


def test_check_says_how_maps_are_scaled_and_nothing_of_frames(say: Say, tmp_path: Path) -> None:
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=3, each=3)
    said = say("data", "check", *overrides("data.protocol=flowmaps", f"data.root={maps}"))
    assert "flowmaps: 0 of 9 maps reach from 0 to 255" in said.out and said.code == 0
    said = say(
        "data", "check", *overrides("data.protocol=folder", f"data.root={own_clips(tmp_path / 'own')}")
    )
    assert "How the flow maps are scaled" not in said.out and said.code == 0


def own_clips(root: Path) -> Path:
    """Two people, two classes, one of the four clips without a face."""
    images = clip()
    write_images(root / "face", images)
    write_images(root / "wall", [np.full_like(images[0], 90)] * 24)
    rows = ["subject,clip,label,onset,apex,path", "p1,a,negative,1,17,face", "p1,b,surprise,1,9,face"]
    rows += ["p2,a,surprise,1,17,face", "p2,b,negative,1,17,wall"]
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def features(tmp_path: Path) -> list[str]:
    root = own_clips(tmp_path / "own")
    protocol = tmp_path / "own.yaml"
    protocol.write_text(
        "source: a test\nclasses: [negative, positive, surprise]\nsets:\n  folder: {labels: as-is}\n"
    )
    return ["--local", *overrides(f"data.protocol={protocol}", f"data.root={root}", "features.flow=dis")]


def test_arrays_keep_their_units(say: Say, features: list[str], tmp_path: Path) -> None:
    said = say("data", "export", "--to", str(tmp_path / "out"), *features)
    assert said.code == 0, said.err
    assert "3 clips; 1 have no features" in said.out
    rows = list(csv.DictReader((tmp_path / "out" / "clips.csv").open()))
    assert [(r["clip"], r["label"], r["unit_of_u_and_v"]) for r in rows] == [
        ("folder/p1/a", "negative", "px"),
        ("folder/p1/b", "surprise", "px"),
        ("folder/p2/a", "surprise", "px"),
    ]
    u_HW, v_HW, strain_HW = np.load(tmp_path / "out" / rows[0]["file"])
    assert u_HW.shape == (128, 128) and u_HW.dtype == np.float32
    assert v_HW.min() < -0.5 and 0 < strain_HW.max() < 1  # the mouth rises by px, and the skin is stretched

    small = say("data", "export", "--to", str(tmp_path / "small"), "--size", "28", *features)
    assert small.code == 0 and np.load(tmp_path / "small" / rows[0]["file"]).shape == (3, 28, 28)
    again = say("data", "export", "--to", str(tmp_path / "out"), *features)
    assert again.code == 2 and "something is there already; name an empty folder" in again.sentence


def test_maps_in_the_published_layout_are_read_back(say: Say, features: list[str], tmp_path: Path) -> None:
    said = say("data", "export", "--as", "maps", "--to", str(tmp_path / "maps"), *features)
    assert said.code == 0 and "min-max scaled for its clip" in said.out, said.err
    say("data", "export", "--to", str(tmp_path / "npy"), *features)
    clips = by_id(load("flowmaps", tmp_path / "maps"))
    assert sorted(clips) == ["flowmaps/p1/a", "flowmaps/p1/b", "flowmaps/p2/a"]
    for name, one in clips.items():
        assert isinstance(one.source, FlowMap)
        map_HW3 = decode_flow_map(Path(one.source.image).read_bytes(), name)
        own_HW3 = np.load(tmp_path / "npy" / "npy" / f"{name.replace('flowmaps', 'folder')}.npy")
        own_HW3 = own_HW3.transpose(1, 2, 0)
        low, high = own_HW3.min(axis=(0, 1)), own_HW3.max(axis=(0, 1))
        assert np.abs(map_HW3 - (own_HW3 - low) / (high - low)).max() <= 0.5 / 255 + 1e-6
    assert [scaled_by_clip(maps) for maps in full_ranges(list(clips.values())).values()] == [True]
    others = sorted(p.relative_to(tmp_path / "maps").as_posix() for p in tmp_path.glob("maps/*/u_train/*/*"))
    assert others == ["p1/u_train/2/p2_a .png", "p2/u_train/0/p1_a .png", "p2/u_train/2/p1_b .png"]


def test_what_the_published_layout_cannot_hold(say: Say, tmp_path: Path) -> None:
    root = own_clips(tmp_path / "own")
    base = ["--as", "maps", "--local", "--to", str(tmp_path / "out")]
    manifest = root / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("surprise", "happy"))
    said = say("data", "export", *base, *overrides("data.protocol=folder", f"data.root={root}"))
    assert (
        said.code == 2 and "has no class 'happy', only negative, positive, surprise; export" in said.sentence
    )
    text = manifest.read_text().replace("happy", "surprise").splitlines()
    sets = ["dataset", "lab1", "lab1", "lab2", "lab2"]
    manifest.write_text(
        "".join(f"{s},{line}\n" for s, line in zip(sets, text, strict=True)).replace("p2", "p1")
    )
    said = say("data", "export", *base, *overrides("data.protocol=folder", f"data.root={root}"))
    assert said.code == 2 and "lab1/p1 and lab2/p1 would share the folder p1" in said.sentence
    assert not (tmp_path / "out").exists()


def test_a_subject_without_maps_of_its_own(tmp_path: Path) -> None:
    """A subject's folder that only others' maps lie in."""
    toy.write_flowmaps(tmp_path, subjects=2, each=3)
    frames(tmp_path / "sub09/u_train/0", [0], "sub01_x .png")
    assert "sub09: it has u_train but no u_test" in only_failure(load("megc2019-flowmaps", tmp_path))
