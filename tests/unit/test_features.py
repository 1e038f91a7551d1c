"""Alignment, extraction and inputs: bad clips as rows with a reason, keys of content, the same bits in any
process."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage

from distmer.config import FeatureConfig, InputConfig, Named
from distmer.features.align import EYE_X, EYE_Y, crop, eye_centres, eye_transform, transform_points
from distmer.features.featureset import FeatureSet
from distmer.features.frames import ClipError, decode_gray
from distmer.features.inputs import model_inputs, normalisation_of, normalise, resize
from distmer.features.landmarks import find_face, model_hash, model_path
from distmer.features.pipeline import FeatureRequest, clip_key, extract
from distmer.types import ApexSearch, BadInput, FlowMap, KeyFrames

DIS = FeatureConfig(flow="dis")
PORTRAIT = Path(skimage.__file__).parent / "data" / "astronaut.png"
MOUTH = (322.0, 150.0)  # of the portrait in `_scene`, px


def _texture(size: int, seed: int = 0) -> np.ndarray:
    noise_HW = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    smooth_HW = cv2.GaussianBlur(noise_HW, (0, 0), 1.5) + cv2.GaussianBlur(noise_HW, (0, 0), 4) * 3
    return np.clip(127 + 45 * smooth_HW / smooth_HW.std(), 0, 255).astype(np.uint8)


def _scene() -> np.ndarray:
    """A 640×480 grey frame with one portrait, its face about 110 px wide."""
    portrait_HW = cv2.imread(str(PORTRAIT), cv2.IMREAD_GRAYSCALE)
    frame_HW = np.full((480, 640), 90, np.uint8)
    frame_HW[0:480, 100:612] = cv2.GaussianBlur(portrait_HW, (0, 0), 0.5)[0:480]
    return frame_HW


def _smiled(frame_HW: np.ndarray, amplitude: float, head: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """The frame with the skin about the mouth raised by ``amplitude`` px, and the whole of it moved by
    ``head`` px."""
    height, width = frame_HW.shape
    y_HW, x_HW = np.mgrid[0:height, 0:width].astype(np.float32)
    bump_HW = amplitude * np.exp(-((x_HW - MOUTH[0]) ** 2 + (y_HW - MOUTH[1]) ** 2) / (2 * 12.0**2))
    map_x, map_y = x_HW - np.float32(head[0]), y_HW + bump_HW - np.float32(head[1])
    return cv2.remap(
        frame_HW, map_x, map_y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _save(path: Path, image: np.ndarray) -> str:
    assert cv2.imwrite(str(path), image)
    return str(path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyFrames:
    folder = tmp_path_factory.mktemp("pair")
    onset_HW = _scene()
    return KeyFrames(
        _save(folder / "on.png", onset_HW), _save(folder / "ap.png", _smiled(onset_HW, 3.0, (0.8, -0.5)))
    )


# Alignment
# ----------------------------------------------------------------------------


def test_eyes_land_in_their_places_and_a_mirrored_face_in_the_same() -> None:
    frame_HW = _scene()
    points_L2 = find_face(frame_HW, model_path(None), 320, "scene").points_L2
    aligned_22 = eye_centres(transform_points(points_L2, eye_transform(points_L2, 128)))
    np.testing.assert_allclose(
        aligned_22, [(EYE_X * 127, EYE_Y * 127), ((1 - EYE_X) * 127, EYE_Y * 127)], atol=1e-9
    )

    swapped = list(range(68))
    swapped[36], swapped[39], swapped[42], swapped[45] = 45, 42, 39, 36
    mirrored_L2 = (points_L2 * (-1, 1) + (frame_HW.shape[1] - 1, 0))[swapped]
    crop_HW = crop(frame_HW, eye_transform(points_L2, 128), 128)
    flipped_HW = crop(np.ascontiguousarray(frame_HW[:, ::-1]), eye_transform(mirrored_L2, 128), 128)
    assert np.abs(flipped_HW[:, ::-1].astype(int) - crop_HW).max() <= 2


def test_shrinking_is_low_passed() -> None:
    stripes_HW = np.tile(np.array([0, 255], np.uint8), (512, 256))  # one px wide: nothing of them can survive
    points_L2 = np.zeros((68, 2))
    points_L2[[36, 39]], points_L2[[42, 45]] = (150, 190), (355, 190)
    assert crop(stripes_HW, eye_transform(points_L2, 128), 128).std() < 8


def test_eyes_that_coincide_are_refused() -> None:
    with pytest.raises(ClipError, match="px apart"):
        eye_transform(np.full((68, 2), 9.0), 128)


# Extraction
# ----------------------------------------------------------------------------


def test_extract_gives_crops_flow_and_strain(pair: KeyFrames) -> None:
    row = extract(FeatureRequest("d/s/c", pair), FeatureConfig())
    assert (row.status, row.error, row.apex_file, row.unit) == ("ok", "", "", "px")
    assert row.key == clip_key(pair, FeatureConfig())
    assert row.channels["onset"].shape == (128, 128) and row.channels["onset"].dtype == np.uint8
    assert row.channels["apex"].shape == row.channels["strain"].shape == (128, 128)
    assert row.flow_HW2.dtype == row.channels["strain"].dtype == np.float32
    # What rises about the mouth moves up (v < 0); the head's motion of about one px is gone from the rest.
    assert row.flow_HW2[..., 1].min() < -1
    assert np.median(np.abs(row.flow_HW2)) < 0.25
    plain = extract(FeatureRequest("d/s/c", pair), FeatureConfig(flow="dis", stabilise=False))
    assert np.median(np.hypot(*np.moveaxis(plain.flow_HW2, -1, 0))) > 0.6


def test_the_bits_do_not_depend_on_the_process(pair: KeyFrames) -> None:
    cfg = FeatureConfig(size=64)
    row = extract(FeatureRequest("d/s/c", pair), cfg)
    code = (
        "import sys, hashlib; from distmer.config import FeatureConfig; from distmer.features.pipeline"
        " import *;"
        "from distmer.types import KeyFrames;"
        "r = extract(FeatureRequest('d/s/c', KeyFrames(sys.argv[1], sys.argv[2])), FeatureConfig(size=64));"
        "print(r.key, *(hashlib.sha256(x.tobytes()).hexdigest() for x in r.channels.values()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pair.onset, pair.apex], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        row.key,
        *(hashlib.sha256(x.tobytes()).hexdigest() for x in row.channels.values()),
    ]
    assert len(row.channels) == 5


def test_the_max_flow_search_finds_the_apex_and_names_it(tmp_path: Path) -> None:
    onset_HW = _scene()
    _save(tmp_path / "1.png", onset_HW)
    # The third frame's head is furthest off, but its face has moved least.
    moves = [(1.0, (0.0, 0.0)), (3.5, (0.3, 0.0)), (0.5, (4.0, 2.0)), (2.0, (0.0, 0.3))]
    names = [_save(tmp_path / f"{i + 2}.png", _smiled(onset_HW, *move)) for i, move in enumerate(moves)]
    source = ApexSearch(str(tmp_path / "1.png"), tuple(names))
    row = extract(FeatureRequest("d/s/c", source), DIS)
    assert (row.status, row.apex_file) == ("ok", "3.png")
    direct = extract(FeatureRequest("d/s/c", KeyFrames(source.onset, names[1])), DIS)
    assert np.array_equal(row.flow_HW2, direct.flow_HW2)
    assert row.key != direct.key
    empty = extract(FeatureRequest("d/s/c", ApexSearch(source.onset, ())), DIS)
    assert empty.status == "failed" and "annotate the apex" in empty.error


def test_two_faces_are_noted(tmp_path: Path) -> None:
    two_HW = np.hstack([_scene(), _scene()])
    path = _save(tmp_path / "two.png", two_HW)
    row = extract(
        FeatureRequest("d/s/c", KeyFrames(path, path)), FeatureConfig(flow="dis", detector_side=1280)
    )
    assert row.status == "ok" and "faces found in two.png" in row.note
    assert np.abs(row.flow_HW2).max() < 0.05  # a still clip has no flow


def test_a_small_face_is_found_at_the_second_scale() -> None:
    wide_HW = np.full((960, 1280), 90, np.uint8)
    wide_HW[100:580, 200:840] = _scene()
    # 44 px at the first scale: HOG needs 80
    points_L2 = find_face(wide_HW, model_path(None), 640, "wide").points_L2
    near_L2 = find_face(_scene(), model_path(None), 640, "near").points_L2
    assert np.abs(points_L2 - near_L2 - (200, 100)).mean() < 4


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: p.unlink(), "does not exist"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_bytes(b"no image at all"), "not an image"),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "not an image that OpenCV can decode, or cut short"),
        (
            lambda p: _save(p, np.random.default_rng(0).integers(0, 255, (480, 640), dtype=np.uint8)),
            "no face found",
        ),
        (lambda p: _save(p, np.zeros((1, 1), np.uint8)), "no face found"),
    ],
)
def test_a_bad_onset_is_a_failed_row_with_a_reason(tmp_path: Path, make: object, expected: str) -> None:
    onset = tmp_path / "img1.png"
    _save(onset, _scene())
    make(onset)  # type: ignore[operator]
    row = extract(FeatureRequest("d/s/c", KeyFrames(str(onset), _save(tmp_path / "img2.png", _scene()))), DIS)
    assert row.status == "failed" and expected in row.error and "img1.png" in row.error
    assert not row.channels
    if expected in ("does not exist", "is empty"):
        assert row.key == ""  # nothing to derive it from: never stored
    else:
        # stored: must hold for these bytes wherever they lie
        assert row.key and str(tmp_path) not in row.error


def test_frames_of_two_sizes_are_a_failed_row(tmp_path: Path, pair: KeyFrames) -> None:
    small = _save(tmp_path / "small.png", cv2.resize(_scene(), (320, 240)))
    row = extract(FeatureRequest("d/s/c", KeyFrames(pair.onset, small)), DIS)
    assert row.status == "failed" and "small.png: it has 320×240 px, the onset 640×480" in row.error


def test_colour_alpha_and_grey_frames_read_alike() -> None:
    grey_HW = _texture(32)
    encoded = [
        cv2.imencode(".png", image)[1].tobytes()
        for image in (grey_HW, *(cv2.cvtColor(grey_HW, c) for c in (8, 9)))
    ]
    for data in encoded:  # 8: grey to BGR, 9: grey to BGRA
        assert np.array_equal(decode_gray(data, "x"), grey_HW)


def test_a_frame_is_turned_upright_by_its_exif_tag() -> None:
    grey_HW = cv2.GaussianBlur(_texture(48), (0, 0), 2)[:32]
    jpeg = cv2.imencode(".jpg", grey_HW, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    quarter_turn = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    tagged = jpeg[:2] + b"\xff\xe1" + (len(quarter_turn) + 2).to_bytes(2, "big") + quarter_turn + jpeg[2:]
    np.testing.assert_array_equal(decode_gray(tagged, "x"), np.rot90(decode_gray(jpeg, "x"), -1))


def test_flow_maps_are_read_as_published(tmp_path: Path) -> None:
    image_HW3 = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    source = FlowMap(_save(tmp_path / "map.png", image_HW3[:, :, ::-1]))  # OpenCV writes BGR
    row = extract(FeatureRequest("d/s/c", source), FeatureConfig())
    assert (row.status, row.unit, [*row.channels]) == ("ok", "minmax", ["u", "v", "strain"])
    np.testing.assert_array_equal(
        np.dstack([row.flow_HW2, row.channels["strain"]]), image_HW3.astype(np.float32) / np.float32(255)
    )
    grey = extract(
        FeatureRequest("d/s/c", FlowMap(_save(tmp_path / "g.png", image_HW3[..., 0]))), FeatureConfig()
    )
    assert grey.status == "failed" and "this one has 1" in grey.error
    assert row.key == clip_key(source, FeatureConfig(size=64, flow="dis"))  # no setting has a say in it


def test_loading_features_loads_no_framework() -> None:
    code = (
        "import sys, distmer.features.inputs, distmer.features.store;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'sklearn') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


# Keys
# ----------------------------------------------------------------------------


def test_the_key_follows_bytes_and_settings_but_not_the_path(tmp_path: Path, pair: KeyFrames) -> None:
    base = clip_key(pair, DIS)
    copy = KeyFrames(str(tmp_path / "x.png"), str(tmp_path / "y.png"))
    shutil.copy(pair.onset, copy.onset)
    shutil.copy(pair.apex, copy.apex)
    assert clip_key(copy, DIS) == base
    others = [
        clip_key(KeyFrames(pair.apex, pair.onset), DIS),
        clip_key(ApexSearch(pair.onset, (pair.apex,)), DIS),
        *(
            clip_key(pair, DIS.model_copy(update=u))
            for u in (
                {"size": 64},
                {"flow": Named(name="tvl1")},
                {"strain": Named(name="meb")},
                {"stabilise": False},
            )
        ),
        clip_key(pair, DIS.model_copy(update={"detector_side": 400})),
    ]
    with open(copy.apex, "ab") as file:
        file.write(b"\0")
    others.append(clip_key(copy, DIS))
    assert len({base, *others}) == len(others) + 1
    with pytest.raises(ClipError, match="does not exist"):
        clip_key(KeyFrames(pair.onset, str(tmp_path / "gone.png")), DIS)


def test_the_landmark_model_is_identified_by_its_bytes(tmp_path: Path, pair: KeyFrames) -> None:
    moved = tmp_path / "model.dat"
    moved.symlink_to(model_path(None))
    assert clip_key(pair, DIS.model_copy(update={"landmarks": str(moved)})) == clip_key(pair, DIS)
    other = tmp_path / "other.dat"
    other.write_bytes(b"another model")
    with_other = DIS.model_copy(update={"landmarks": str(other)})
    assert clip_key(pair, with_other) != clip_key(pair, DIS)
    with pytest.raises(BadInput, match="cannot load the landmark model"):
        extract(FeatureRequest("d/s/c", pair), with_other)
    with pytest.raises(BadInput, match=r"set features\.landmarks"):
        clip_key(pair, DIS.model_copy(update={"landmarks": str(tmp_path / "none.dat")}))
    begin = time.perf_counter()
    model_hash(model_path(None))
    assert time.perf_counter() - begin < 0.02  # the 95 MB are read once a process


# Inputs
# ----------------------------------------------------------------------------


def _set(unit: str = "px") -> FeatureSet:
    rng = np.random.default_rng(0)
    maps = {name: rng.standard_normal((3, 16, 16)).astype(np.float32) for name in ("u", "v")}
    maps["strain"] = np.abs(rng.standard_normal((3, 16, 16))).astype(np.float32)
    crops = (
        {name: rng.integers(0, 256, (3, 16, 16), dtype=np.uint8) for name in ("onset", "apex")}
        if unit == "px"
        else {}
    )
    return FeatureSet(("d/s/1", "d/s/2", "d/s/3"), ("k1", "k2", "k3"), unit, maps, crops)  # type: ignore[arg-type]


def test_fixed_normalisation_keeps_amplitude_and_clips() -> None:
    x_NHW = np.array([[[0.0, 1.0, -9.0, 9.0]]], np.float32)
    cfg = InputConfig(flow_scale=2.0, strain_scale=0.5)
    np.testing.assert_array_equal(normalise(x_NHW, "u", "px", cfg), [[[0, 0.5, -1, 1]]])
    np.testing.assert_array_equal(normalise(np.abs(x_NHW) / 4, "strain", "px", cfg), [[[0, 0.5, 1, 1]]])
    assert normalise(x_NHW, "u", "px", cfg).dtype == np.float32


def test_minmax_spans_each_map_and_a_still_map_means_no_motion() -> None:
    cfg = InputConfig(normalise="minmax")
    x_NHW = np.stack([np.array([[-2, 0], [1, 2]], np.float32), np.full((2, 2), 7, np.float32)])
    np.testing.assert_array_equal(
        normalise(x_NHW, "u", "px", cfg), [[[0, 0.5], [0.75, 1]], [[0.5, 0.5], [0.5, 0.5]]]
    )
    np.testing.assert_array_equal(normalise(x_NHW, "strain", "px", cfg)[1], np.zeros((2, 2)))
    np.testing.assert_array_equal(normalise(x_NHW, "v", "minmax", cfg), x_NHW)


def test_maps_without_pixels_refuse_a_fixed_scale() -> None:
    with pytest.raises(BadInput, match=r"inputs\.normalise=minmax"):
        model_inputs(_set("minmax"), ("u",), 16, InputConfig())
    with pytest.raises(BadInput, match="hold no onset image"):
        model_inputs(_set("minmax"), ("onset",), 16, InputConfig(normalise="minmax"))
    with pytest.raises(BadInput, match="did you mean 'strain'"):
        model_inputs(_set(), ("strian",), 16, InputConfig())


def test_model_inputs_are_stacked_in_the_order_asked_for() -> None:
    features = _set()
    x_NCHW = model_inputs(features, ("strain", "u", "apex"), 8, InputConfig())
    assert x_NCHW.shape == (3, 3, 8, 8) and x_NCHW.dtype == np.float32
    same_NCHW = model_inputs(features, ("apex", "u"), 16, InputConfig(normalise="none"))
    np.testing.assert_array_equal(same_NCHW[:, 0], features.channel("apex"))
    np.testing.assert_array_equal(same_NCHW[:, 1], features.maps["u"])
    assert same_NCHW[:, 0].min() >= 0 and same_NCHW[:, 0].max() <= 1


def test_resize_takes_area_means_and_enlarges_between_the_values() -> None:
    x_NHW = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    np.testing.assert_allclose(resize(x_NHW, 2)[0], [[2.5, 4.5], [10.5, 12.5]])
    assert resize(x_NHW, 4) is x_NHW
    large_NHW = resize(x_NHW, 8)
    assert large_NHW.shape == (2, 8, 8) and large_NHW[0].min() >= 0 and large_NHW[0].max() <= 15
    assert resize(np.zeros((0, 4, 4), np.float32), 8).shape == (0, 8, 8)


def test_published_maps_are_minmax_under_any_setting() -> None:
    assert normalisation_of("minmax", InputConfig(normalise="none")) == "minmax"
    assert normalisation_of("px", InputConfig()) == "fixed"
