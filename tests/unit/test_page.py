"""Pages: every name is harmless in them, they load nothing, they are made from the folder alone, and what
stands first is what a reader must see."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from distmer.config import Config
from distmer.config_layers import load_config
from distmer.experiment.comparison import Entry, conclude_comparison
from distmer.experiment.plan import Plan, build_plan
from distmer.experiment.result import RunResult, conclude
from distmer.models import is_network, resolve
from distmer.report.citations import citations
from distmer.report.comparison import comparison_files
from distmer.report.jsonl import JsonLines
from distmer.report.kept import read_run
from distmer.report.page import page_of, write_page
from distmer.report.page_index import index_page
from distmer.report.page_run import _command, clips, subjects
from distmer.report.run_folder import begin_folder, finish_folder, write_results
from distmer.report.settings import settings_of
from distmer.report.svg import SERIES, svg
from distmer.types import BadInput, Clip, ClipFailure, KeyFrames, Manifest
from tests import factories
from tests.saying import Say

EVIL = "<script>alert(1)<img src=x onerror=alert(2)>\"'$x^$&amp;"
TAGS = """a b body br button code dd details div dl dt figcaption figure footer h1 h2 h3 head html i input li
link main meta nav option output p pre script section select small span style summary table tbody td th thead
title tr ul wbr svg g path defs clippath rect text tspan use"""
ALLOWED = set(TAGS.split())


class Page(HTMLParser):
    """What a browser finds in a page: its elements with their attributes, its texts, and its tables' rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self._open[-1:] != ["style"]:
            self.texts.append(data)
            if "td" in self._open and self.rows:
                self.rows[-1][-1] += data


def kept(tmp_path: Path, result: RunResult, name: str = "run") -> Path:
    """A run's folder, as a run leaves it."""
    folder = tmp_path / name
    folder.mkdir(parents=True)
    stored: Any = {clip.id: SimpleNamespace(note="", apex_file="") for clip in result.plan.clips}
    begin_folder(folder, result.plan, stored)
    log = JsonLines(folder / "events.jsonl")
    for event in factories.events(result):
        log(event)
    finish_folder(folder, replace(result, run_dir=str(folder)))
    return folder


def evil_run() -> RunResult:
    """A run in which every name that a user may give is an attack."""
    clips = [
        Clip(EVIL, f"{EVIL}{s}", f"{EVIL}{i}", i % 3, EVIL, KeyFrames("onset", "apex"), "row 1")
        for s in range(3)
        for i in range(6)
    ]
    manifest = Manifest(EVIL, tuple(f"{EVIL}{k}" for k in range(3)), tuple(clips))
    config = Config.model_validate({"name": EVIL, "evaluation": {"bootstrap": 100}, "seeds": (0, 1)})
    lost = [ClipFailure(clips[0].id, f"</pre></script>{EVIL}")]
    keys = {clip.id: clip.id for clip in clips}
    plan = build_plan(config, manifest, resolve(config.model), keys, lost)
    result = factories.result(plan, failed=1, epochs=4)
    (failure,) = result.failures
    return replace(result, failures=(replace(failure, reason=f"</td>{EVIL}", traceback=f"</details>{EVIL}"),))


def comparison_folder(tmp_path: Path, results: dict[str, RunResult]) -> Path:
    entries = [Entry(label, "", "", of.results, of.predictions) for label, of in results.items()]
    entries.append(Entry(f"{EVIL} not reached", "", f"not applicable: {EVIL}"))
    comparison = conclude_comparison(EVIL, entries, None, 200)
    for name, text in comparison_files(comparison).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def pages(tmp_path: Path) -> dict[str, str]:
    result = evil_run()
    run = kept(tmp_path, result, "runs/one")
    (run / "environment.json").write_text(json.dumps({"python": EVIL, "libraries": {EVIL: EVIL}}))
    other = conclude(result.plan, result.folds[::2], (), 1.0, EVIL)
    (tmp_path / "comparisons" / "one").mkdir(parents=True)
    compared = comparison_folder(tmp_path / "comparisons" / "one", {EVIL: result, f"{EVIL} b": other})
    broken = tmp_path / "runs" / EVIL.replace("/", "")
    broken.mkdir()
    (broken / "results.json").write_text(json.dumps({"model": EVIL}))
    index = index_page(EVIL, *(tmp_path / name for name in ("runs", "sweeps", "comparisons", "curves")))
    return {"run": page_of(run), "comparison": page_of(compared), "index": index}


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return pages(tmp_path_factory.mktemp("evil"))


@pytest.mark.parametrize("name", ["run", "comparison", "index"])
def test_no_name_does_anything_in_a_page(evil: dict[str, str], name: str) -> None:
    page = Page(evil[name])
    assert EVIL in page.text, "the attack is not even in the page"
    assert {tag for tag, _ in page.elements} <= ALLOWED
    assert not [
        attributes for _, attributes in page.elements if any(key.startswith("on") for key in attributes)
    ]
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [of["content"] for tag, of in page.elements if "http-equiv" in of]
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


@pytest.mark.parametrize("name", ["run", "comparison", "index"])
def test_a_page_asks_nobody_for_anything(evil: dict[str, str], name: str) -> None:
    page = Page(evil[name])
    links = [
        (tag, value)
        for tag, of in page.elements
        for key, value in of.items()
        if key in ("src", "href", "xlink:href", "action", "data", "srcset", "poster")
    ]
    assert {tag for tag, value in links if not value.startswith(("#", "data:"))} <= {"a"}
    assert not [value for tag, value in links if re.match(r"\w+:|//", value) and value != "data:,"]
    style = evil[name].split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert "fetch" not in page.scripts[0] and "XMLHttp" not in page.scripts[0]


def test_a_folder_that_was_copied_gives_the_same_page(tmp_path: Path) -> None:
    folder = kept(tmp_path, factories.result(factories.plan(seeds=(0, 1)), failed=2, epochs=5))
    written = (folder / "report.html").read_text()
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert page_of(tmp_path / "elsewhere") == written
    # an earlier version kept less
    for name in ("curves.json", "events.jsonl", "figures/curves.png", "report.html"):
        (tmp_path / "elsewhere" / name).unlink()
    page = Page(page_of(tmp_path / "elsewhere"))
    assert "keeps no environment.json" in page.text
    assert "<svg" in written and not [tag for tag, _ in page.elements if tag == "svg"]


def test_the_numbers_are_those_of_the_results(tmp_path: Path) -> None:
    plan = factories.plan(
        model={"name": "atscnn"},
        train={"selection": "oracle"},
        expected={"ones": {"negative": 99}},
        seeds=(0, 1),
    )
    result = factories.result(plan, failed=1, epochs=3)
    page = Page((kept(tmp_path, result) / "report.html").read_text())
    results, text = result.results, page.text
    assert results.uar_ci and results.floors and results.per_dataset and results.per_class
    assert f"{results.uar:.4f}" in text and f"[{results.uar_ci[0]:.4f}, {results.uar_ci[1]:.4f}]" in text
    for floor in results.floors.values():
        assert f"{floor.uar:.4f}" in text and f"{floor.uf1_foldmean:.4f}" in text
    assert "NOT A HEADLINE: oracle:per_subject" in text and "counts-mismatch" in text
    assert "PARTIAL: 11 of 12 folds" in text and "Traceback (most recent call last)" in text
    for name, of in results.per_dataset.items():
        assert [name, f"{of.uar:.4f}", f"{of.uf1:.4f}", str(of.n)] in page.rows
    for name, score in results.per_class.items():
        assert [name, f"{score.recall:.4f}", f"{score.f1:.4f}", str(score.n)] in page.rows
    assert ["train.selection", "oracle", "fixed"] in page.rows
    assert "clip ones/s01/c0" in text and "no face was found" in text


def test_always_wrong_clips_and_hard_subjects_come_first(tmp_path: Path) -> None:
    result = factories.result(factories.plan(seeds=(0, 1)))
    assert result.predictions is not None and result.summary is not None
    p = result.predictions
    right: dict[str, list[bool]] = {}
    for clip, truth, answer in zip(p.clip_ids, p.y_true_N, p.y_pred_N, strict=True):
        right.setdefault(clip, []).append(truth == answer)
    views = clips(result.results, p, {"ones/s01/c1": "apex taken: 17.png"})
    shares = [sum(right[view.id]) / 2 for view in views]
    assert shares == sorted(shares) and shares[0] == 0 and len(views) == len(right)
    assert [view.right for view in views] == [sum(right[view.id]) for view in views]
    assert next(view.note for view in views if view.id == "ones/s01/c1") == "apex taken: 17.png"
    for view in views:
        rows = [n for n, clip in enumerate(p.clip_ids) if clip == view.id]
        place = factories.CLASSES.index(view.truth)
        assert view.prob_truth == pytest.approx(np.mean([p.prob_NK[n, place] for n in rows]))
    hard = subjects(result.results, p)
    assert [view.accuracy for view in hard] == sorted(view.accuracy for view in hard)
    page = Page((kept(tmp_path, result) / "report.html").read_text())
    table = [row for row in page.rows if row and row[0] in right]
    assert [row[0] for row in table] == [view.id for view in views]


def test_the_command_on_the_page_makes_the_same_run(tmp_path: Path) -> None:
    for n, sections in enumerate([{}, {"model": {"name": "atscnn", "size": 64}, "train": {"epochs": 3}}]):
        plan: Plan = factories.plan(seeds=(0, 3), **sections)
        folder = kept(tmp_path, factories.result(plan), str(n))
        html = (folder / "report.html").read_text()
        text = html.split('<pre id="configuration">')[1].split("</pre>")[0]
        path = tmp_path / f"{n}.yaml"
        path.write_text("".join(Page(f"<pre>{text}</pre>").texts))
        config = load_config(path, (), workspace=tmp_path, environ={}, is_network=is_network)
        keys = {clip.id: f"key of {clip.id}" for clip in plan.manifest.clips}
        again = build_plan(config, plan.manifest, resolve(config.model), keys, plan.failures)
        assert again.digest == plan.digest
        assert "distmer run config.yaml" in Page(html).text


def test_settings_that_are_not_the_default_are_named() -> None:
    tree = yaml.safe_load("{train: {lr: 0.0001, epochs: 30}, model: {name: linear}, seeds: [0, 1]}")
    found = {one.name: one for one in settings_of(tree, {"size": 16, "c": 0.5})}
    assert {name for name, one in found.items() if one.differs} == {
        *("train.epochs", "model.name", "seeds", "model.c"),
    }
    assert (found["model.c"].default, found["train.lr"].default) == ("0.003", "0.0001")


def test_what_is_cited_was_used() -> None:
    real = {one.key: one for one in citations(["linear"], "megc2019", ["samm", "casme2"])}
    assert set(real) == {"model-linear", "protocol-megc2019", "data-samm", "data-casme2", "distmer"}
    assert "doi = {10.1109/TAFFC.2016.2573832}" in real["data-samm"].bibtex()
    assert "year = {2018}" in real["data-samm"].bibtex()
    embedded = {one.key for one in citations(["./mine.py:NET", "atscnn"], "synthetic", ["samm", "casme2"])}
    assert embedded == {"model-atscnn", "distmer"}  # the generated parts only have the names of real sets


def test_a_comparison_counts_wins_as_they_are(tmp_path: Path) -> None:
    plan = factories.plan(people=(("ones", 12),), lost=0)
    a, b = (
        factories.result(plan),
        factories.result(factories.plan(people=(("ones", 12),), lost=0, seeds=(5,))),
    )
    page = Page(page_of(comparison_folder(tmp_path, {"first": a, "second": b})))
    assert a.results.per_subject and b.results.per_subject
    apart = [x.correct - y.correct for x, y in zip(a.results.per_subject, b.results.per_subject, strict=True)]
    counts = [sum(d > 0 for d in apart), sum(d == 0 for d in apart), sum(d < 0 for d in apart)]
    assert ["first", "second", *map(str, counts)] in page.rows
    assert r"\begin{tabular}" in page.text and "not applicable" in page.text
    assert [tag for tag, _ in page.elements].count("svg") == 1


def test_a_comparison_without_a_pair_has_a_page(tmp_path: Path) -> None:
    alone = factories.result(factories.plan(), failed=6)
    page = Page(page_of(comparison_folder(tmp_path, {"one": alone})))
    assert "No two rows could be tested" in page.text and "not applicable" in page.text


def test_the_index_shows_what_can_be_compared(tmp_path: Path) -> None:
    same = factories.plan()
    for n, plan in enumerate([same, factories.plan(model={"name": "svm"}), factories.plan(lost=4)]):
        kept(tmp_path, factories.result(plan), f"runs/{n}")
    stamped = factories.plan(evaluation={"bootstrap": 100, "permute_labels": 1})
    kept(tmp_path, factories.result(stamped), "runs/3")
    failed = kept(tmp_path, factories.result(same, failed=6), "runs/4")
    (tmp_path / "runs" / "5").mkdir()
    other = json.loads((tmp_path / "runs" / "0" / "results.json").read_text()) | {"dataset": "another"}
    (tmp_path / "runs" / "6").mkdir()
    (tmp_path / "runs" / "6" / "results.json").write_text(json.dumps(other))
    (tmp_path / "runs" / "7").mkdir()
    (tmp_path / "runs" / "7" / "results.json").write_text('{"model": {"name": "of a later version"}}')
    page = Page(index_page("t", *(tmp_path / name for name in ("runs", "sweeps", "comparisons", "curves"))))
    boxes = {Path(of["value"]).name: of for tag, of in page.elements if of.get("type") == "checkbox"}
    assert set(boxes) == {"0", "1", "2", "3", "6"}  # a run without a score can be compared with nothing
    letters = [boxes[name]["data-letter"] for name in "0123"]
    assert letters[0] == letters[1] and len(set(letters)) == 3
    groups = [boxes[name]["data-group"] for name in "01236"]
    assert len(set(groups[:4])) == 1 and groups[4] != groups[0]
    links = [of["href"] for tag, of in page.elements if tag == "a" and "report.html" in of["href"]]
    assert sorted(links) == [f"runs/{n}/report.html" for n in range(5)] and failed.name == "4"
    rows = {of["data-stamp"]: of for tag, of in page.elements if tag == "tr" and "data-stamp" in of}
    assert set(rows) == {'["none"]', '["labels-permuted"]'}
    assert "Not read: 1" in page.text and "1 folders without results" in page.text


def test_bad_input_is_one_sentence(tmp_path: Path, say: Say) -> None:
    folder = kept(tmp_path, factories.result(factories.plan()), "abc123")
    near = say("report", str(tmp_path / "abc124"))
    assert near.code == 2 and "did you mean 'abc123'?" in near.sentence
    (tmp_path / "other").mkdir()
    none = say("report", str(tmp_path / "other"))
    assert none.code == 2 and "so it is not a run, sweep, comparison or curve" in none.sentence
    for name, text in (
        ("curves.json", '{"train_loss": 3}'),
        ("environment.json", "[1]"),
        ("config.yaml", "a: ["),
    ):
        whole = (folder / name).read_text() if (folder / name).exists() else "{}"
        (folder / name).write_text(text)
        assert name in say("report", str(folder)).sentence
        (folder / name).write_text(whole)
    tree = json.loads((folder / "results.json").read_text())
    copy = shutil.copytree(folder, tmp_path / "copy")
    # a run that was killed at its end left one of the two files new and the other old
    for changed in ({"uar": tree["uar"] + 0.01}, {"classes": tree["classes"][:2]}):
        (folder / "results.json").write_text(json.dumps(tree | changed))
        for command in (("report", str(folder)), ("compare", str(folder), str(copy))):
            assert "so the two are not of one run" in say(*command).sentence
    (folder / "results.json").write_text(json.dumps(tree))
    (folder / "predictions.parquet").write_bytes(b"PAR1 and then nothing")
    for command in (("report", str(folder)), ("compare", str(folder), str(copy))):
        assert "predictions.parquet cannot be read" in say(*command).sentence
    (folder / "results.json").write_text(json.dumps(tree | {"uar": {"pooled": 0.5}}))
    newer = say("report", str(folder)).sentence
    assert "results.json cannot be read (uar: " in newer and "if another version of distmer wrote it" in newer
    (folder / "results.json").unlink()
    assert "so no run has ended here" in say("report", str(folder)).sentence
    nowhere = say("index", "--workspace", str(tmp_path / "nowhere"))
    assert nowhere.code == 2 and "there is no such workspace" in nowhere.sentence


def test_the_command_of_some_folds_is_one_that_a_shell_takes() -> None:
    """A subject may be called "S 1" or "a;b"."""
    result = factories.result(factories.plan(), unreached=2)
    predictions = result.predictions
    assert predictions is not None
    named = replace(predictions, fold_ids=("toy/S 1",) * 3 + ("toy/a;b",) * (len(predictions) - 3))
    kept_run = SimpleNamespace(
        results=result.results.model_copy(update={"status": "some-folds"}), predictions=named
    )
    words = shlex.split(_command(cast(Any, kept_run)))
    assert words == ["distmer", "run", "config.yaml", "--fold", "toy/S 1", "--fold", "toy/a;b"]


def test_a_run_without_a_finished_fold_has_a_page_that_says_so(tmp_path: Path, say: Say) -> None:
    folder = kept(tmp_path, factories.result(factories.plan(), failed=6))
    said = say("report", str(folder), "--output", str(tmp_path / "page.html"))
    page = Page((tmp_path / "page.html").read_text())
    assert said.code == 0 and str(tmp_path / "page.html") in said.out
    assert "FAILED: none of the 6 folds finished" in page.text and "there is no score" in page.text
    assert page.text.count("the loss is not finite") >= 6
    with pytest.raises(BadInput, match="so it is not a run"):
        page_of(tmp_path)
    assert read_run(folder).predictions is None


def test_the_mlflow_run_is_on_a_page_that_is_made_later(tmp_path: Path) -> None:
    result = replace(factories.result(factories.plan()), mlflow_run_id="f00ba7")
    folder = kept(tmp_path, result)
    write_results(folder, result.results)
    assert "f00ba7" in write_page(folder).read_text()


def test_the_seal_of_an_audit_is_in_view_where_there_is_one(tmp_path: Path) -> None:
    result = factories.result(factories.plan())
    folder = kept(tmp_path, result)
    assert "audit" not in Page(page_of(folder)).text
    for verdict, alarm in (("passed 3 folds", False), ("leaks: label-shuffle", True)):
        write_results(folder, result.results.model_copy(update={"audited": verdict}))
        page = page_of(folder)
        assert f"audit: {verdict}" in Page(page).text
        assert (f'<span class="pill alarm">audit: {verdict}' in page) == alarm


def test_a_drawing_takes_its_colours_from_the_page() -> None:
    def draw(figure: Figure) -> None:
        figure.text(0.5, 0.5, "<b>$x", color=SERIES[2])

    text = svg(draw, 3, 2, "x")
    assert "var(--s3)" in text and "#0101" not in text and "&lt;b&gt;$x" in text and "date" not in text


def test_a_page_is_light_to_import() -> None:
    heavy = "('torch', 'ray', 'mlflow', 'sklearn', 'matplotlib', 'optuna', 'jinja2')"
    code = "import sys, distmer.report.page, distmer.report.page_run, distmer.cli as c;"
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
