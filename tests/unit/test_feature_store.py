"""The feature store: bit-equal round trips, parts that plain pyarrow reads, damage that is noticed, the marker last."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distmer.config import FeatureConfig
from distmer.features.pipeline import FeatureRow
from distmer.features.store import FeatureStore
from distmer.storage import Store
from distmer.types import BadInput

SIZE = 16
CFG = FeatureConfig(size=SIZE)


def _row(key: str, seed: int = 0, **changes: object) -> FeatureRow:
    rng = np.random.default_rng(seed)
    fields: dict[str, object] = {
        "onset_HW": rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8),
        "apex_HW": rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8),
        "flow_HW2": rng.standard_normal((SIZE, SIZE, 2)).astype(np.float32),
        "strain_HW": rng.standard_normal((SIZE, SIZE)).astype(np.float32),
    }
    return FeatureRow("d/s/" + key, key, "px", "ok", **{**fields, **changes})  # type: ignore[arg-type]


def _failed(key: str) -> FeatureRow:
    return FeatureRow("d/s/" + key, key, "px", "failed", error="img1.png: no face found; leave the clip out.")


def _map_row(key: str, size: int) -> FeatureRow:
    map_HW3 = np.random.default_rng(size).random((size, size, 3)).astype(np.float32)
    return FeatureRow("d/s/" + key, key, "minmax", "ok", flow_HW2=map_HW3[..., :2], strain_HW=map_HW3[..., 2])


def _store(tmp_path: Path, unit: str = "px") -> FeatureStore:
    return FeatureStore(Store(tmp_path / "features"), CFG, unit)  # type: ignore[arg-type]


def _parts(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("features/*/parts/*.parquet"))


def test_rows_come_back_bit_equal_and_in_the_order_asked_for(tmp_path: Path) -> None:
    store = _store(tmp_path)
    rows = [_row("a", 1), _row("b", 2, note="2 faces found", apex="img7.png"), _row("c", 3)]
    store.write(rows[:2])
    store.write([_failed("f"), rows[2]])
    assert len(_parts(tmp_path)) == 2 and set(store.keys()) == {"a", "b", "c", "f"}

    features = store.load([("d/s/c", "c"), ("d/s/f", "f"), ("d/s/a", "a"), ("d/t/same", "a"), ("d/s/b", "b")])

    assert features.clip_ids == ("d/s/c", "d/s/a", "d/t/same", "d/s/b") and features.keys == ("c", "a", "a", "b")
    for n, row in enumerate([rows[2], rows[0], rows[0], rows[1]]):
        assert row.flow_HW2 is not None
        assert features.channel("u")[n].tobytes() == row.flow_HW2[..., 0].tobytes()
        assert features.channel("v")[n].tobytes() == row.flow_HW2[..., 1].tobytes()
        np.testing.assert_array_equal(features.channel("strain")[n], row.strain_HW)
        np.testing.assert_array_equal(features.crops["onset"][n], row.onset_HW)
        np.testing.assert_array_equal(features.crops["apex"][n], row.apex_HW)
    assert features.unit == "px" and features.channel("onset").max() <= 1
    assert [(f.clip, f.reason) for f in features.failures] == [("d/s/f", "img1.png: no face found; leave the clip out.")]
    assert features.notes == {"d/s/b": "2 faces found"} and features.apexes == {"d/s/b": "img7.png"}
    assert features.statuses["d/s/f"] == "failed" and features.statuses["d/s/a"] == "ok"


def test_plain_pyarrow_reads_a_part(tmp_path: Path) -> None:
    row = _row("a", 1)
    _store(tmp_path).write([row, _failed("f")])
    table = pq.read_table(_parts(tmp_path)[0])
    assert str(table.schema.field("u").type) == "extension<arrow.fixed_shape_tensor[value_type=float, shape=[16,16]]>"
    u_NHW = table.column("u").combine_chunks().to_numpy_ndarray()
    by_key = dict(zip(table.column("key").to_pylist(), u_NHW, strict=True))
    assert row.flow_HW2 is not None
    np.testing.assert_array_equal(by_key["a"], row.flow_HW2[..., 0])
    assert not by_key["f"].any() and set(table.column("status").to_pylist()) == {"ok", "failed"}


def test_a_part_of_failures_alone_has_the_same_schema(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([_failed("f"), _failed("g")])
    alone = pq.read_schema(_parts(tmp_path)[0])
    store.write([_row("a")])
    assert {str(pq.read_schema(part)) for part in _parts(tmp_path)} == {str(alone)}
    features = store.load([("d/s/f", "f"), ("d/s/g", "g")])
    assert len(features) == 0 and features.channel("u").shape == (0, SIZE, SIZE) and len(features.failures) == 2


@pytest.mark.parametrize("keep", [0, 4, 500, -20])
def test_a_truncated_part_counts_as_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture, keep: int) -> None:
    store = _store(tmp_path)
    store.write([_row("a")])
    store.write([_row("b")])
    part = Path(store.store.path(store.keys()["a"]))
    part.write_bytes(part.read_bytes()[:keep])
    with caplog.at_level(logging.WARNING):
        assert set(store.keys()) == {"b"}
    assert part.name in caplog.text and "delete it" in caplog.text
    with pytest.raises(BadInput, match=r"1 of 2 clips have no stored features \(first: d/s/a\); extract them"):
        store.load([("d/s/a", "a"), ("d/s/b", "b")])
    store.write([_row("a")])  # extraction again mends it: the same keys make the same part
    assert set(store.keys()) == {"a", "b"}


def test_rotten_pixels_are_noticed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([_row("a")])
    part = _parts(tmp_path)[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0xFF
    part.write_bytes(bytes(data))
    with pytest.raises(BadInput, match=r"damaged .*; delete it and extract again"):
        store.load([("d/s/a", "a")])


def test_the_marker_is_written_when_every_clip_is_there(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([_row("a")])
    entries = [("d/s/a", "a"), ("d/s/f", "f")]
    with pytest.raises(BadInput, match="no stored features"):
        store.complete(entries)
    assert not list(tmp_path.glob("features/*/sets/*"))
    store.write([_failed("f")])
    identity = store.complete(entries)
    marker = json.loads(next(tmp_path.glob(f"features/*/sets/{identity}.json")).read_text())
    assert marker["clips"] == {"d/s/a": {"key": "a", "status": "ok"}, "d/s/f": {"key": "f", "status": "failed"}}
    assert store.complete(entries[::-1]) == identity != store.complete(entries[:1])


def test_a_row_without_a_key_is_never_stored(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([FeatureRow("d/s/x", "", "px", "failed", error="x.png: the file does not exist; correct the row.")])
    assert store.keys() == {} and not _parts(tmp_path)


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
    assert features.unit == "minmax" and features.channel("strain").shape == (1, 28, 28) and len(features.failures) == 1
    np.testing.assert_array_equal(features.channel("strain")[0], row.strain_HW)
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
    other = FeatureStore(Store(tmp_path / "features"), FeatureConfig(size=SIZE, flow="dis"))
    assert other.keys() == {}
    elsewhere = FeatureStore(Store(tmp_path / "features"), FeatureConfig(size=SIZE, landmarks="/a/model.dat"))
    assert set(elsewhere.keys()) == {"a"}  # where the model lies is no setting; which one it is, the keys know


def test_an_empty_store_reads_as_empty(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write([])
    assert store.keys() == {} and len(store.load([])) == 0
