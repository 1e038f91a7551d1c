"""The feature store: bit-equal round trips, parts that plain pyarrow reads, damage that is noticed, the
marker last."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from distmer.config import FeatureConfig
from distmer.experiment.prepare import Features
from distmer.features.row import FeatureRow, to_rows, to_table
from distmer.features.store import FeatureStore
from distmer.types import BadInput
from tests.factories import same_features

SIZE = 16
CFG = FeatureConfig(size=SIZE)


def _row(key: str, seed: int = 0, **changes: Any) -> FeatureRow:
    rng = np.random.default_rng(seed)
    channels = {
        **{name: rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8) for name in ("onset", "apex")},
        **{name: rng.standard_normal((SIZE, SIZE)).astype(np.float32) for name in ("u", "v", "strain")},
    }
    return replace(FeatureRow("d/s/" + key, key, "px", "ok", channels=channels), **changes)


def _maps(x_HW3: np.ndarray) -> dict[str, np.ndarray]:
    return {"u": x_HW3[..., 0], "v": x_HW3[..., 1], "strain": x_HW3[..., 2]}


def _failed(key: str) -> FeatureRow:
    return FeatureRow("d/s/" + key, key, "px", "failed", error="img1.png: no face found; leave the clip out.")


def _map_row(key: str, size: int) -> FeatureRow:
    map_HW3 = np.random.default_rng(size).random((size, size, 3)).astype(np.float32)
    return FeatureRow("d/s/" + key, key, "minmax", "ok", channels=_maps(map_HW3))


def _store(tmp_path: Path, unit: str = "px") -> FeatureStore:
    return FeatureStore(tmp_path / "features", CFG, unit)  # type: ignore[arg-type]


def _parts(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("features/*/parts/*.parquet"))


def test_rows_come_back_bit_equal_and_in_the_order_asked_for(tmp_path: Path) -> None:
    store = _store(tmp_path)
    rows = [_row("a", 1), _row("b", 2, note="2 faces found", apex_file="img7.png"), _row("c", 3)]
    store.write(rows[:2])
    store.write([_failed("f"), rows[2]])
    assert len(_parts(tmp_path)) == 2 and set(store.index) == {"a", "b", "c", "f"}

    features = store.load([("d/s/c", "c"), ("d/s/f", "f"), ("d/s/a", "a"), ("d/t/same", "a"), ("d/s/b", "b")])

    assert features.clip_ids == ("d/s/c", "d/s/a", "d/t/same", "d/s/b") and features.keys == (
        "c",
        "a",
        "a",
        "b",
    )
    for n, row in enumerate([rows[2], rows[0], rows[0], rows[1]]):
        assert features.channel("u")[n].tobytes() == row.channels["u"].tobytes()
        assert features.channel("v")[n].tobytes() == row.channels["v"].tobytes()
        np.testing.assert_array_equal(features.channel("strain")[n], row.channels["strain"])
        np.testing.assert_array_equal(features.crops["onset"][n], row.channels["onset"])
        np.testing.assert_array_equal(features.crops["apex"][n], row.channels["apex"])
    assert features.unit == "px" and features.channel("onset").max() <= 1
    assert [(f.clip, f.reason) for f in features.failures] == [
        ("d/s/f", "img1.png: no face found; leave the clip out.")
    ]
    assert (store.index["b"].note, store.index["b"].apex_file) == ("2 faces found", "img7.png")


def test_a_row_that_has_travelled_between_processes_is_what_it_was() -> None:
    rows = [_row("a", 1, note="2 faces found", seconds=0.25), _failed("f"), _map_row("m", SIZE)]
    came = to_rows(to_table(rows, SIZE, SIZE))
    for row, other in zip(rows, came, strict=True):
        assert same_features(row, other) and row.seconds == other.seconds


def test_plain_pyarrow_reads_a_part(tmp_path: Path) -> None:
    row = _row("a", 1)
    _store(tmp_path).write([row, _failed("f")])
    table = pq.read_table(_parts(tmp_path)[0])
    assert (
        str(table.schema.field("u").type)
        == "extension<arrow.fixed_shape_tensor[value_type=float, shape=[16,16]]>"
    )
    u_NHW = table.column("u").combine_chunks().to_numpy_ndarray()
    by_key = dict(zip(table.column("key").to_pylist(), u_NHW, strict=True))
    np.testing.assert_array_equal(by_key["a"], row.channels["u"])
    assert not by_key["f"].any() and set(table.column("status").to_pylist()) == {"ok", "failed"}


def test_a_part_of_failures_alone_has_the_same_schema(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([_failed("f"), _failed("g")])
    alone = pq.read_schema(_parts(tmp_path)[0])
    store.write([_row("a")])
    assert {str(pq.read_schema(part)) for part in _parts(tmp_path)} == {str(alone)}
    features = store.load([("d/s/f", "f"), ("d/s/g", "g")])
    assert (
        len(features) == 0 and features.channel("u").shape == (0, SIZE, SIZE) and len(features.failures) == 2
    )


@pytest.mark.parametrize("keep", [0, 4, 500, -20])
def test_a_truncated_part_counts_as_absent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keep: int
) -> None:
    store = _store(tmp_path)
    store.write([_row("a")])
    store.write([_row("b")])
    part = Path(store.folder / store.index["a"].part)
    part.write_bytes(part.read_bytes()[:keep])
    store = _store(tmp_path)  # the next run's
    with caplog.at_level(logging.WARNING):
        assert set(store.index) == {"b"}
    assert part.name in caplog.text and "delete it" in caplog.text
    with pytest.raises(
        BadInput,
        match=r"1 of 2 clips have no stored features \(first: d/s/a\); extract"
        r" them",
    ):
        store.load([("d/s/a", "a"), ("d/s/b", "b")])
    store.write([_row("a")])  # extraction again mends it: the same keys make the same part
    assert set(store.index) == {"a", "b"}


def test_rotten_pixels_are_noticed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([_row("a")])
    part = _parts(tmp_path)[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0xFF
    part.write_bytes(bytes(data))
    with pytest.raises(BadInput, match=r"damaged .*; delete it and extract again"):
        store.load([("d/s/a", "a")])


def test_features_win_over_a_failure_and_a_later_failure_over_an_earlier_one(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([_row("a"), _failed("f"), _failed("g")])
    store.write([_row("f", 5), FeatureRow("d/s/g", "g", "px", "failed", error="another reason.")])
    entries = [("d/s/a", "a"), ("d/s/f", "f"), ("d/s/g", "g")]
    store.write([_failed("f")])  # of a run that is late
    os.utime(_parts(tmp_path)[0], ns=(1, 1))  # whatever the order of their names
    for some in (store, _store(tmp_path)):
        assert [(f.clip, f.reason) for f in some.failures(entries)] == [("d/s/g", "another reason.")]
        assert some.load(entries).clip_ids == ("d/s/a", "d/s/f")


def test_many_small_parts_become_one_and_nobody_loses_a_row(tmp_path: Path) -> None:
    store, before = _store(tmp_path), _store(tmp_path)
    rows = [_row(f"k{n}", n, note=f"note {n}") for n in range(12)]
    for n, row in enumerate(rows):
        store.write([row, _failed(f"f{n % 3}")])
    entries = [*((f"d/s/k{n}", f"k{n}") for n in range(12)), ("d/s/f0", "f0")]
    old = {part: part.read_bytes() for part in _parts(tmp_path)}
    assert len(before.index) == 15  # another run has looked the parts up
    store.compact()
    (part,) = _parts(tmp_path)
    assert pq.read_metadata(part).num_rows == 15
    for some in (store, before, _store(tmp_path)):
        features = some.load(entries)
        assert features.clip_ids == tuple(clip for clip, _ in entries[:12]) and len(features.failures) == 1
        for n, row in enumerate(rows):
            assert features.channel("v")[n].tobytes() == row.channels["v"].tobytes()
            np.testing.assert_array_equal(features.crops["apex"][n], row.channels["apex"])
        assert some.index["k7"].note == "note 7"
    # as a kill leaves it that comes when the new part is written and the old ones are not removed
    for path, data in old.items():
        path.write_bytes(data)
    again = _store(tmp_path)
    again.compact()
    assert len(_parts(tmp_path)) == 1 and again.load(entries).keys == tuple(key for _, key in entries[:12])


def test_a_damaged_part_is_left_where_it_is_when_others_are_merged(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for n in range(9):
        store.write([_row(f"k{n}", n)])
    rotten = Path(store.folder / store.index["k4"].part)
    rotten.write_bytes(rotten.read_bytes()[:-20])
    store.compact()
    assert len(_parts(tmp_path)) == 2 and rotten in _parts(tmp_path)
    assert set(_store(tmp_path).index) == {f"k{n}" for n in range(9)} - {"k4"}


def test_the_parts_are_opened_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store(tmp_path)
    for n in range(5):
        store.write([_row(f"k{n}", n)])
    opened: list[Path] = []
    opening = Path.open

    def counted(path: Path, mode: str = "r", **rest: Any) -> Any:
        opened.extend([path] if mode == "rb" else [])
        return opening(path, mode, **rest)

    monkeypatch.setattr(Path, "open", counted)
    run = _store(tmp_path)
    entries = [(f"d/s/k{n}", f"k{n}") for n in range(5)]
    assert len(run.index) == 5 and not run.failures(entries) and not run.failures(entries[:2])
    run.write([_row("new")])
    assert len(run.index) == 6 and len(opened) == 5


def test_a_row_without_a_key_is_never_stored(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write(
        [FeatureRow("d/s/x", "", "px", "failed", error="x.png: the file does not exist; correct the row.")]
    )
    assert store.index == {} and not _parts(tmp_path)


def test_the_same_content_twice_is_one_row(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([_row("a"), _row("a")])
    store.write([_row("a"), _row("b")])
    assert sum(pq.read_metadata(part).num_rows for part in _parts(tmp_path)) == 3
    assert store.load([("d/s/a", "a"), ("d/s/b", "b")]).clip_ids == ("d/s/a", "d/s/b")


def test_flow_maps_have_their_own_folder_and_no_crops(tmp_path: Path) -> None:
    store = _store(tmp_path, "minmax")
    row = _map_row("m", 28)
    store.write([row, FeatureRow("d/s/f", "f", "minmax", "failed", error="f.png: not an image.")])
    features = store.load([("d/s/m", "m"), ("d/s/f", "f")])
    assert (
        features.unit == "minmax"
        and features.channel("strain").shape == (1, 28, 28)
        and len(features.failures) == 1
    )
    np.testing.assert_array_equal(features.channel("strain")[0], row.channels["strain"])
    with pytest.raises(BadInput, match="hold no onset image; use the channels u, v, strain"):
        features.channel("onset")
    with pytest.raises(ValueError, match="does not belong"):
        store.write([_row("a")])
    _store(tmp_path).write([_row("a")])
    assert len(list(tmp_path.glob("features/*"))) == 2


def test_flow_maps_of_two_sizes_are_stored_apart_and_not_mixed(tmp_path: Path) -> None:
    store = _store(tmp_path, "minmax")
    store.write([_map_row("m", 28), _map_row("n", 32)])
    assert len(_parts(tmp_path)) == 2
    assert store.load([("d/s/n", "n")]).channel("u").shape == (1, 32, 32)
    with pytest.raises(BadInput, match="several sizes"):
        store.load([("d/s/m", "m"), ("d/s/n", "n")])


def test_settings_have_folders_of_their_own(tmp_path: Path) -> None:
    _store(tmp_path).write([_row("a")])
    other = FeatureStore(tmp_path / "features", FeatureConfig(size=SIZE, flow="dis"))
    assert other.index == {}
    elsewhere = FeatureStore(tmp_path / "features", FeatureConfig(size=SIZE, landmarks="/a/model.dat"))
    assert set(elsewhere.index) == {"a"}  # where the model lies is no setting; which one it is, the keys know


def test_an_empty_store_reads_as_empty(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([])
    assert store.index == {} and len(store.load([])) == 0


def test_motion_is_the_mean_length_of_the_flow_in_px_and_maps_without_px_have_none(tmp_path: Path) -> None:
    store = _store(tmp_path)
    flow_HW3 = np.zeros((16, 16, 3), np.float32)
    flow_HW3[:8, :, :2] = (3, -4)  # 5 px in the upper half, nothing below
    rows = [
        replace(row, channels={**row.channels, **_maps(k * flow_HW3)})
        for k, row in ((1, _row("a")), (2, _row("b")))
    ]
    store.write([*rows, _failed("c")])
    keys = {f"d/s/{key}": key for key in ("b", "a", "c", "gone")}
    assert Features(store, keys, (), ()).motion(list(keys)) == {"d/s/b": 5.0, "d/s/a": 2.5}
    maps = _store(tmp_path, "minmax")
    maps.write([_map_row("m", 16)])
    assert Features(maps, {"d/s/m": "m"}, (), ()).motion(["d/s/m"]) == {}
