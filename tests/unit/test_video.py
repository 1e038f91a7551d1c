"""Video files beside frame folders: the same frames by any way to them, and one sentence for every trap."""

from __future__ import annotations

import re
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from distmer.config import DataConfig, FeatureConfig
from distmer.datasets import load_manifest
from distmer.features import hashes
from distmer.features.frames import ClipError, bits_of, content, decode_gray, eight_bits, file_of, read_bytes
from distmer.features.hashes import hash_frames
from distmer.features.pipeline import FeatureRequest, clip_key, extract
from distmer.features.video import index, read_frames
from distmer.storage import place, write
from distmer.types import ApexSearch, BadInput, Clip, KeyFrames, Manifest
from tests.fixtures.dataset_loading import by_id, load, only_failure, pair
from tests.fixtures.videos import LOSSLESS, clip, write_images, write_video

DIS = FeatureConfig(flow="dis")
FACE = clip()
NOISE = [np.roll(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8), n, 1) for n in range(150)]


def luma(frame: av.VideoFrame) -> bytes:
    """The first plane from 16..235 to 0..255."""
    plane_HW = frame.to_ndarray()[: frame.height]
    return np.rint(np.clip((plane_HW - 16.0) / 219, 0, 1) * 255).astype(np.uint8).tobytes()


def pixels(data: bytes) -> np.ndarray:
    return decode_gray(data, "frame")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("closed.mp4", {"bf": "3", "g": "24"}),
        ("open.mp4", {"bf": "3", "g": "24", "x264-params": "open-gop=1"}),
        ("open.mkv", {"bf": "3", "g": "24", "x264-params": "open-gop=1"}),
        ("old.avi", {"bf": "2", "g": "24"}),
        ("one.mov", {"g": "999", "bf": "3"}),
    ],
)
def test_a_frame_is_the_same_by_a_seek_as_from_the_start(
    name: str, options: dict[str, str], tmp_path: Path
) -> None:
    video = str(write_video(tmp_path / name, NOISE, options=options))
    frames = list(read_frames(video, range(1, 151)))
    assert len({*frames}) == len(index(video)) == 150
    with av.open(video) as file:  # as any player shows them
        assert [luma(frame) for frame in file.decode(video=0)] == [pixels(f).tobytes() for f in frames]
    for number in (*range(1, 53), 149, 150):
        assert next(read_frames(video, [number])) == frames[number - 1]
    hopping = [120, 3, 4, 150, 150]
    assert list(read_frames(video, hopping)) == [frames[n - 1] for n in hopping]
    assert index(video).rate == pytest.approx(200) and index(video).steady


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_video_gives_the_features_of_its_images_to_the_bit(name: str, tmp_path: Path) -> None:
    folder, (codec, kind, options) = write_images(tmp_path / "images", FACE), LOSSLESS[name]
    video = write_video(tmp_path / name, FACE, codec, kind, options)
    sources = (
        KeyFrames(f"{folder}/img1.png", f"{folder}/img17.png"),
        KeyFrames(f"{video}#1", f"{video}#17"),
    )
    images, frames = (extract(FeatureRequest("d/s/c", source), DIS) for source in sources)
    assert images.status == frames.status == "ok"
    for channel, x_HW in images.channels.items():
        assert np.array_equal(x_HW, frames.channels[channel]), channel
    assert frames.key == clip_key(sources[1], DIS)


def test_the_apex_of_a_video_is_searched_in_one_pass(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", FACE)
    video = write_video(tmp_path / "a.mkv", FACE, "ffv1", "bgr0")
    found = [
        extract(FeatureRequest("d/s/c", ApexSearch(name(1), tuple(name(n) for n in range(2, 25)))), DIS)
        for name in (lambda n: f"{folder}/img{n}.png", lambda n: f"{video}#{n}")
    ]
    assert [row.apex_file for row in found] == ["img17.png", "a.mkv#17"]
    assert np.array_equal(found[0].flow_HW2, found[1].flow_HW2)


def test_one_frame_is_held_at_a_time(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", FACE)
    video = write_video(tmp_path / "a.mp4", FACE)
    extract(FeatureRequest("d/s/c", KeyFrames(f"{images}/img1.png", f"{images}/img2.png")), DIS)  # the model
    peaks = []
    for last in (4, 24):
        source = ApexSearch(f"{video}#1", tuple(f"{video}#{n}" for n in range(2, last + 1)))
        tracemalloc.start()
        assert extract(FeatureRequest("d/s/c", source), DIS).status == "ok"
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 3 * FACE[0][..., 0].nbytes  # of 20 frames more


def test_the_luma_of_every_kind_of_pixel(tmp_path: Path) -> None:
    ramp_HW = np.tile(np.arange(16, 236, dtype=np.uint8), (32, 1))
    grey = write_video(tmp_path / "g.mkv", [ramp_HW] * 3, "ffv1", "gray")
    assert np.array_equal(pixels(read_bytes(f"{grey}#2")), ramp_HW)
    for codec, kind in (("ffv1", "yuv420p"), ("ffv1", "yuv422p10le"), ("libx264", "yuvj420p")):
        options = {"qp": "0"} if codec == "libx264" else {}
        video = write_video(tmp_path / f"{kind}.mkv", [ramp_HW] * 3, codec, kind, options)
        error_HW = np.abs(pixels(read_bytes(f"{video}#2")).astype(int) - ramp_HW)
        assert error_HW.max() <= 1, kind
    deep_HW = (ramp_HW.astype(np.uint16) << 4) + 3  # a camera of 12 bits
    deep = write_video(tmp_path / "d.mkv", [deep_HW] * 3, "ffv1", "gray16le")
    assert cv2.imwrite(str(tmp_path / "d.png"), deep_HW)
    assert np.array_equal(pixels(read_bytes(f"{deep}#2")), ramp_HW)
    assert np.array_equal(pixels((tmp_path / "d.png").read_bytes()), ramp_HW)


def test_a_telephone_held_upright(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", FACE, "libx264rgb", "rgb24", {"qp": "0"})
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 44  # its matrix: a quarter turn clockwise
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 240 << 16, 0, 1 << 30)
    upright = np.rot90(pixels(read_bytes(f"{video}#3")), -1)
    video.write_bytes(data)
    assert np.array_equal(pixels(read_bytes(f"{video}#3")), upright)
    capture = cv2.VideoCapture(str(video))
    assert capture.read()[1].shape[:2] == upright.shape


def test_16_bit_frames_keep_the_scale_of_the_onset(tmp_path: Path) -> None:
    dark = [(frame[..., 0].astype(np.uint16) << 4) + 5 for frame in FACE]  # 12 bits
    folder = write_images(tmp_path / "deep", dark)
    flat = write_images(tmp_path / "flat", [frame[..., 0] for frame in FACE])
    rows = [
        extract(FeatureRequest("d/s/c", KeyFrames(f"{at}/img1.png", f"{at}/img17.png")), DIS)
        for at in (folder, flat)
    ]
    assert [row.error for row in rows] == ["", ""]
    assert np.array_equal(rows[0].flow_HW2, rows[1].flow_HW2)
    assert bits_of(dark[0]) == 12 and eight_bits(np.full((1, 1), 5000, np.uint16), 12)[0, 0] == 255
    mixed = extract(FeatureRequest("d/s/c", KeyFrames(f"{folder}/img1.png", f"{flat}/img17.png")), DIS)
    assert (
        mixed.error == "img17.png: it is 8-bit, the onset 16-bit; all frames of a clip must have one depth."
    )
    assert cv2.imwrite(str(tmp_path / "f.tiff"), FACE[0].astype(np.float32))
    with pytest.raises(ClipError, match=r"f\.tiff: the image is 32-bit, but it must be 8-bit or 16-bit"):
        decode_gray((tmp_path / "f.tiff").read_bytes(), "f.tiff")


def test_a_frame_has_the_digest_of_its_pixels_and_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "data" / "a.mkv", NOISE, "ffv1", "bgr0")
    same = write_video(tmp_path / "data" / "b.avi", NOISE, "ffv1", "bgr0", {"g": "1"})
    clips = [
        Clip("d", "s", name, 0, "x", ApexSearch(f"{at}#1", tuple(f"{at}#{n}" for n in range(2, 30))), "row")
        for name, at in (("a", video), ("b", same))
    ]
    now = hashes.time.time_ns()
    monkeypatch.setattr(hashes.time, "time_ns", lambda: now + 60 * 10**9)
    first = hash_frames(clips, tmp_path / "features")
    assert [first.digest(f"{video}#{n}") for n in range(1, 30)] == [
        first.digest(f"{same}#{n}") for n in range(1, 30)
    ]
    assert len({*first.digests.values()}) == 29
    monkeypatch.setattr(hashes, "read_each", None)  # nothing is read again
    assert hash_frames(clips, tmp_path / "features") == first
    monkeypatch.undo()
    write_video(video, [*NOISE[:4], NOISE[9], *NOISE[5:]], "ffv1", "bgr0")
    changed = hash_frames(clips, tmp_path / "features")
    differ = [name for name, digest in first.digests.items() if changed.digests[name] != digest]
    assert differ == [f"{video}#5"]


def test_a_video_on_an_object_store(tmp_path: Path, remote: str) -> None:
    video = write_video(tmp_path / "b.mp4", [frame[:64, :64] for frame in FACE], options={"g": "8"})
    write(place(f"{remote}/clips/b.mp4"), video.read_bytes())
    write(place(f"{remote}/clips/cut.mp4"), video.read_bytes()[:-300])
    rows = ["p1,a,x,1,17,b.mp4", "p2,b,y,5 ms,0.08 s,b.mp4", "p3,c,y,1,2,cut.mp4", "p3,d,y,1,2,none.mp4"]
    sheet = "\n".join(["subject,clip,label,onset,apex,path", *rows])
    write(place(f"{remote}/clips/manifest.csv"), sheet.encode())
    manifest = load_manifest(DataConfig(protocol="folder", root=f"{remote}/clips"), tmp_path)
    assert [f.reason.split(": ", 1)[1][:30] for f in manifest.failures] == [
        "cut.mp4: not a video that FFmp",
        "the path 'none.mp4' is neither",
    ]
    found = hash_frames(manifest.clips, tmp_path / "features")
    local = {number: content(read_bytes(f"{video}#{number}")) for number in (1, 2, 17)}
    assert {file_of(frame)[1]: digest for frame, digest in found.digests.items()} == local


def another_codec(path: Path) -> Path:
    """The same file, whose header names a codec that nobody knows."""
    data = path.read_bytes()
    assert b"png " in data
    path.write_bytes(data.replace(b"png ", b"zzzz"))
    return path


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def _silent(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda d: another_codec(write_video(d / "a.mov", NOISE, "png", "rgb24")),
            r"a\.mov: FFmpeg does not know its codec; convert it",
        ),
        (
            lambda d: cut(write_video(d / "a.mp4", NOISE), 0.7),
            r"a\.mp4: not a video that FFmpeg can read, or cut short \(Invalid data.*\); copy it again",
        ),
        (
            lambda d: cut(write_video(d / "a.mp4", NOISE, container={"movflags": "faststart"}), 0.7),
            r"a\.mp4: it is cut short, \d+ of 150 frames are there; copy it again\.",
        ),
        (
            lambda d: cut(write_video(d / "a.avi", NOISE, "mjpeg", "yuvj420p"), 0.7),
            r"a\.avi: it is cut short, \d+ of 150 frames are there; copy it again\.",
        ),
        (
            lambda d: cut(write_video(d / "a.mkv", NOISE, "ffv1", "bgr0"), 0.7),
            r"a\.mkv: it is cut short, 0\.\d\d of 0\.75 s are there; copy it again\.",
        ),
        (lambda d: _silent(d / "a.avi"), r"a\.avi: it holds no video; name the video file\."),
        (lambda d: (d / "a.mov").write_text("no video"), r"a\.mov: not a video that FFmpeg can read"),
        (lambda d: (d / "a.mov").write_bytes(b""), r"a\.mov: the file is empty; copy it again\."),
    ],
)
def test_a_broken_video_is_one_sentence_and_no_end(make: Any, reason: str, tmp_path: Path) -> None:
    make(tmp_path)
    broken = next(tmp_path.iterdir()).name
    manifest = with_rows(tmp_path, f"p3,c,happy,1,9,12,{broken}")
    assert only_failure(manifest).startswith("manifest.csv row 4: ")
    assert re.search(reason, only_failure(manifest)), manifest.failures
    assert len(manifest.clips) == 2


def with_rows(
    root: Path, *rows: str, header: str = "subject,clip,label,onset,apex,offset,path", **data: Any
) -> Manifest:
    """Two sound clips, of images and of a video, and these rows."""
    write_images(root / "p1" / "a", [frame[:8, :8] for frame in FACE])
    write_video(root / "p2" / "b.avi", [frame[:32, :32] for frame in FACE], "ffv1", "bgr0")
    sound = ["p1,a,happy,img1.png,17,24,p1/a", "p2,b,sad,1,85 ms,0.12 s,p2/b.avi"]
    (root / "manifest.csv").write_text("\n".join([header, *sound, *rows]) + "\n", encoding="utf-8")
    return load("folder", root, **data)


def test_onset_and_apex_by_number_file_name_and_time(tmp_path: Path) -> None:
    manifest = with_rows(
        tmp_path,
        "p2,c,happy,1,17,,p2/b.avi",
        "p1,d,happy,IMG2,img17.png,24,p1\\a",
        "p2,e,sad,2,/,24,p2/b.avi",
        missing_apex="midpoint",
    )
    assert not manifest.failures
    found = {
        name: (Path(c.source.onset).name, Path(c.source.apex).name, c.note)
        for name, c in by_id(manifest).items()
    }  # type: ignore[union-attr]
    assert found == {
        "folder/p1/a": ("img1.png", "img17.png", ""),
        "folder/p1/d": ("img2.png", "img17.png", ""),
        "folder/p2/b": ("b.avi#1", "b.avi#18", "frames by their time, apex 18, offset 24"),
        "folder/p2/c": ("b.avi#1", "b.avi#17", ""),
        "folder/p2/e": ("b.avi#2", "b.avi#13", "apex = midpoint, frame 13"),
    }
    searched = with_rows(tmp_path, "p2,e,sad,2,,24,p2/b.avi", missing_apex="max-flow")
    source = by_id(searched)["folder/p2/e"].source
    assert isinstance(source, ApexSearch) and [file_of(c)[1] for c in source.candidates] == list(range(3, 25))


def test_headings_with_a_unit_and_a_mapping_of_columns(tmp_path: Path) -> None:
    write_video(tmp_path / "b.avi", [frame[:32, :32] for frame in FACE], "ffv1", "bgr0")
    rows = ["1,a,happy,0,.085,0.115,b.avi", "2,b,sad,0.005,80 ms,0.115,b.avi"]
    header = "Code,Clip,Emotion,Onset (s),apex_s,Offset [s],File"
    (tmp_path / "manifest.csv").write_text(
        "\n".join([header, *rows]).replace(",.0", ",0.0"), encoding="utf-8"
    )
    columns = {"subject": "code", "label": "Emotion", "path": "FILE"}
    manifest = load("folder", tmp_path, columns=columns)
    pairs = {
        name: (file_of(c.source.onset)[1], file_of(c.source.apex)[1]) for name, c in by_id(manifest).items()
    }  # type: ignore[union-attr]
    assert pairs == {"folder/1/a": (1, 18), "folder/2/b": (2, 17)}
    with pytest.raises(
        BadInput, match=r"row 1 .* lacks the column 'Emotions' \(did you mean 'Emotion'\?\); .* \{label: "
    ):
        load("folder", tmp_path, columns={**columns, "label": "Emotions"})
    with pytest.raises(BadInput, match=r"data\.columns\.lable.* no.* field.*; did you mean 'label'"):
        load("folder", tmp_path, columns={**columns, "lable": "Emotion"})
    (tmp_path / "manifest.csv").write_text("subject,clip,label,onset,onset_s,apex\n", encoding="utf-8")
    with pytest.raises(
        BadInput,
        match=r"row 1 .* has several columns for the onset, 'onset' .* and 'onset_s' \(column E\); delete",
    ):
        load("folder", tmp_path)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("p3,c,x,0,9,12,p2/b.avi", "the onset is frame 0, but the frames of a video are counted from 1; if"),
        ("p3,c,x,1,99,,p2/b.avi", r"the apex is frame 99, but b\.avi has 24 frames; correct the row"),
        ("p3,c,x,1,3.2 s,,p2/b.avi", r"the apex '3\.2 s' lies behind the end of b\.avi \(0\.120 s\)"),
        ("p3,c,x,1,0.05,,p2/b.avi", r"the apex '0\.05' is neither a frame number nor a time; write 46"),
        ("p3,c,x,9,5,,p2/b.avi", "the apex 5 comes before the onset 9"),
        ("p3,c,x,1,,12,p2/b.avi", r"the apex is missing; set data\.missing_apex"),
        ("p3,c,x,,5,,p2/b.avi", "the onset is empty; fill it in"),
        ("p3,c,x,1,0.1 s,,p1/a", r"the apex '0\.1 s' is a time, but the clip is a folder of frames"),
        ("p3,c,x,1,img77.png,,p1/a", r"the apex 'img77\.png' is not a frame of .*; did you mean 'img7\.png'"),
        ("p3,c,x,1,5,,p2/c.avi", r"the path 'p2/c\.avi' is neither a folder of frames nor a video"),
        ("p3,c,x,1,5,,../b.avi", "leads out of"),
        ("p3,c,x,1,5,,/p2/b.avi", "the path '/p2/b.avi' is an absolute path"),
        ("p3,c,x,1,5,,", "the onset '1' is a number, but the row names no frames; add a column path"),
        ("p3,c,x,h/a.heic,h/b.heic,,", r"the onset 'h/a\.heic' is a HEIC photo, which is not read; convert"),
        ("p3,c,x,1,2,,h", r"a1?\.heic in .* is a HEIC photo, which is not read; convert it to PNG"),
        ("p3,c,x,1,9,,v.mp4", r"v\.mp4 has a variable frame rate \(5 to 40 ms a frame\), so a frame number"),
    ],
)  # fmt: skip
def test_a_bad_row_is_one_sentence(row: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "a1.heic").write_bytes(b"ftypheic")
    shutil.copy(tmp_path / "h" / "a1.heic", tmp_path / "h" / "a.heic")
    stamps = [0, *range(40, 40 + 5 * 23, 5)]
    write_video(tmp_path / "v.mp4", [frame[:32, :32] for frame in FACE], rate=1000, stamps_ms=stamps)
    manifest = with_rows(tmp_path, row)
    assert len(manifest.clips) == 2
    assert re.match(r"manifest\.csv row 4: .*" + reason, only_failure(manifest)), manifest.failures


def test_a_variable_rate_is_told_by_time(tmp_path: Path) -> None:
    stamps = [0, *range(40, 40 + 5 * 23, 5)]
    write_video(tmp_path / "v.mp4", [frame[:32, :32] for frame in FACE], rate=1000, stamps_ms=stamps)
    manifest = with_rows(tmp_path, "p3,c,happy,0 s,0.052 s,,v.mp4")
    assert pair(by_id(manifest)["folder/p3/c"]) == ("v.mp4#1", "v.mp4#4")
