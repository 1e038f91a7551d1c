"""The board: results that are published hold no place of this machine, and each row says how to repeat it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from distmer.commands.board import add_to_board, write_board
from distmer.commands.session import Session
from distmer.report.run_folder import read_results
from distmer.types import BadInput
from harness import command, toy
from tests.saying import Say, overrides

RESULTS = command.ROOT / "results"


class Page(HTMLParser):
    """The texts and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.links = "", list[str]()
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


@pytest.fixture
def ran(say: Say, maps: Path) -> dict:
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false", "evaluation.bootstrap=100")
    say("audit", "--local", "--folds", "2", *settings)
    return say("run", "--local", "--json", *settings).json


def test_a_run_is_added_without_its_places_and_its_command_repeats_it(
    say: Say, maps: Path, ran: dict, tmp_path: Path
) -> None:
    board, page = tmp_path / "results", tmp_path / "site" / "board.html"
    said = say("board", str(board), "--add", ran["run_dir"], "--output", str(page))
    assert said.code == 0, said.err
    entry = board / "flowmaps-linear"
    for file in (*entry.iterdir(), page):
        assert str(tmp_path) not in file.read_text() and str(maps) not in file.read_text(), file
    assert "mlflow_run_id" not in json.loads((entry / "results.json").read_text())
    shown = Page(page.read_text())
    low, high = ran["uar_ci"]
    for text in (f"{ran['uar']:.4f}", f"[{low:.3f}, {high:.3f}]", "audit: passed 2 folds"):
        assert text in shown.text, text
    (link,) = shown.links
    assert json.loads((page.parent / link).read_text())["digest"] == ran["digest"]
    (typed,) = re.findall(r"distmer run (\S+) --set data\.root=FOLDER", shown.text)
    where = overrides(f"data.root={maps}", "tracking.enabled=false")
    again = say("run", str(tmp_path / typed), "--local", "--json", *where)
    assert again.json["digest"] == ran["digest"] and again.json["uar"] == ran["uar"]


def test_what_is_no_published_result_is_one_sentence(say: Say, maps: Path, ran: dict, tmp_path: Path) -> None:
    board, page, run = tmp_path / "results", tmp_path / "board.html", Path(ran["run_dir"])
    add_to_board(board, run)
    add_to_board(board, run)  # the same again
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false", "evaluation.bootstrap=100")
    other = say("run", "--local", "--json", *settings, "--set", "model.c=0.5").json["run_dir"]
    with pytest.raises(BadInput, match="of another configuration lie there; give --name"):
        add_to_board(board, Path(other))
    add_to_board(board, Path(other), "linear-other")
    assert Page(write_board(board, page).read_text()).text.count("distmer run results/") == 2
    with pytest.raises(BadInput, match="write letters"):
        add_to_board(board, Path(other), "../out")
    whole = json.loads((run / "results.json").read_text())
    for changed, sentence in (
        ({"stamps": ["labels-permuted"]}, r"no headline \(labels-permuted\)"),
        ({"status": "partial"}, "the run is not complete"),
    ):
        (run / "results.json").write_text(json.dumps({**whole, **changed}))
        with pytest.raises(BadInput, match=sentence):
            add_to_board(board, run)
    (run / "results.json").write_text(json.dumps(whole))
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["data"]["include"] = "/home/somebody/list.txt"
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(BadInput, match=r"data\.include is /home/somebody/list\.txt, a place of this machine"):
        add_to_board(board, run)
    (board / "half").mkdir()
    assert "it holds no results.json" in say("board", str(board), "--output", str(page)).sentence
    (board / "half" / "results.json").write_text("{}")
    assert "results.json cannot be read" in say("board", str(board), "--output", str(page)).sentence
    nowhere = say("board", str(tmp_path / "nowhere"), "--output", str(page))
    assert nowhere.code == 2 and "there is no such folder" in nowhere.sentence


@pytest.mark.parametrize("entry", sorted(RESULTS.iterdir()) if RESULTS.is_dir() else [], ids=lambda e: e.name)
def test_what_is_committed_can_be_read_and_names_no_place(entry: Path, tmp_path: Path) -> None:
    if not entry.is_dir():
        return
    results = read_results(entry)
    assert results is not None and results.uar is not None and not results.stamps
    assert results.audited and results.audited.startswith("passed")
    assert {path.name for path in entry.iterdir()} == {"results.json", "config.yaml"}
    for file in entry.iterdir():
        assert not re.search(r'["\s](/|~/|[A-Z]:\\)\w', file.read_text()), file
    session = Session.open(entry / "config.yaml", [f"data.root={tmp_path}"], str(tmp_path), {})
    assert session.model().info.name == results.model and session.config.data.protocol == results.dataset


def test_the_page_of_what_is_committed(tmp_path: Path) -> None:
    shown = Page(write_board(RESULTS, tmp_path / "board.html").read_text())
    assert shown.text.count("distmer run results/") == sum(path.is_dir() for path in RESULTS.iterdir()) >= 3
    assert all((tmp_path / link).resolve().is_file() for link in shown.links)
