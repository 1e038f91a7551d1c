"""The board: results that are published hold no place of this machine, and each row says how to repeat it."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import distmer as dm
from distmer.commands.board import add_to_board, write_board
from distmer.commands.session import Given, Session
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


def test_links_lead_to_folders_of_any_name(say: Say, ran: dict, tmp_path: Path) -> None:
    board, page = tmp_path / "50% #1 results?", tmp_path / "site" / "board.html"
    assert say("board", str(board), "--add", ran["run_dir"], "--output", str(page)).code == 0
    shown = Page(page.read_text())
    (link,) = shown.links
    assert (page.parent / unquote(urlsplit(link).path)).samefile(board / "flowmaps-linear" / "results.json")
    (typed,) = (row for row in shown.text.splitlines() if "distmer run " in row)
    assert f"{board.name}/flowmaps-linear/config.yaml" in shlex.split(typed)
    odd = Path(ran["run_dir"]).with_name("seed 1 #2 100%")
    Path(ran["run_dir"]).rename(odd)
    index = Path(say("index").out.strip())
    (link,) = Page(index.read_text()).links
    assert (index.parent / unquote(urlsplit(link).path)).samefile(odd / "report.html")


def test_twelve_digits_name_a_run_for_every_command(
    say: Say, maps: Path, ran: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false", "evaluation.bootstrap=100")
    other = say("run", "--local", "--json", *settings, "--set", "model.c=0.5").json
    one, two = (Path(run["run_dir"]).name for run in (ran, other))
    assert say("report", one).out.strip() == f"{ran['run_dir']}/report.html"
    assert say("board", "results", "--add", one, "--output", "board.html").code == 0
    compared = say("compare", one, two, "--set", "tracking.enabled=false")
    assert compared.code == 0 and say("report", compared.out.split()[-1][-12:]).code == 0
    assert "tracking.enabled is false" in say("track", one).sentence
    assert "keeps no weights of this run's folds" in say("explain", one).sentence
    assert f"distmer fit {ran['run_dir']}/config.yaml" in say("fit", one).sentence
    fitted = say("fit", "--local", *settings)
    model = next(line.split()[1] for line in fitted.out.splitlines() if line.startswith("folder"))[-12:]
    assert say("predict", model, str(maps / "sub01" / "u_test" / "0")).code == 0
    assert dm.open_run(one).results.digest == ran["digest"]
    assert str(dm.load_model(model).folder).endswith(f"models/{model}")
    for verb in ("report", "track", "explain", "compare", "fit"):
        unknown = say(verb, "0123456789ab")
        assert unknown.code == 2 and f"{tmp_path / 'home'} has these digits" in unknown.sentence, verb
    Path(one).mkdir()  # what lies in the current folder comes first
    assert "so it is not a run" in say("report", one).sentence


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
    tree["data"]["include"], tree["model"]["name"] = None, "/home/somebody/net.py:Net"
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(BadInput, match=r"make a package of this code, name it by package\.module:NAME, and"):
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
    session = Session.open(Given(entry / "config.yaml", [f"data.root={tmp_path}"], str(tmp_path)))
    assert session.model().info.name == results.model and session.config.data.protocol == results.dataset


def test_the_page_of_what_is_committed(tmp_path: Path) -> None:
    shown = Page(write_board(RESULTS, tmp_path / "board.html").read_text())
    assert shown.text.count("distmer run results/") == sum(path.is_dir() for path in RESULTS.iterdir()) >= 3
    assert all((tmp_path / link).resolve().is_file() for link in shown.links)
