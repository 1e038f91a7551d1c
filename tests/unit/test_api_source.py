"""Code that was typed in a notebook: written down whole, part of a fold's identity, and refused with the
reason where it cannot be."""

from __future__ import annotations

import ast
import itertools
import linecache
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier, ExtraTreesClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

import distmer as dm
from distmer import models, plugins
from distmer.api.naming import model_section
from distmer.config import ModelConfig, TrainConfig
from distmer.models import ResolvedModel, resolve
from distmer.training.tryout import try_out
from distmer.workspace import Workspace

_CELLS = itertools.count()
IMPORTS = (
    "import torch\nfrom torch import nn, tanh\nimport torch.nn.functional as F\nfrom typing import Optional\n"
)
HELPER = "GAIN = [2.0]\n\n\ndef squash(x):\n    return tanh(x) * GAIN[0]\n"
NET = '''
class Base(nn.Module):
    size = 8

    def count(self):
        return len(self.layers)


def wide(width: int):
    return nn.Linear(192, width)


class Net(Base):
    """A network of a notebook."""

    def __init__(self, classes: int, width: Optional[int] = 4):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), wide(width), nn.Linear(width, classes))

    def forward(self, x):
        return F.relu(self.layers(squash(x)))
'''


class Notebook:
    """What IPython does with a cell: each statement is compiled alone, and its text is kept in linecache."""

    def __init__(self, *cells: str) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        for cell in cells:
            self.run(cell)

    def run(self, cell: str) -> None:
        file = f"<cell {next(_CELLS)}>"
        linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
        for statement in ast.parse(cell).body:
            code = compile(ast.Module([statement], []), file, "exec", dont_inherit=True)
            exec(code, self.names)

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def model(entry: Any, home: Workspace) -> ResolvedModel:
    found = resolve(ModelConfig.model_validate(model_section(entry, "dm.loso", home)))
    try_out(found, TrainConfig())
    return found


def test_a_class_of_a_notebook_is_a_module_of_its_own(home: Workspace) -> None:
    """With all that it uses there and nothing else: another process imports the file and has the network."""
    book = Notebook(IMPORTS, "x = torch.zeros(3)\nclassified = 12\n", HELPER, NET)
    found = model(book["Net"], home)
    assert found.info.title == "A network of a notebook." and found.size == 8
    assert found.spec["options"] == {"size": 8, "width": 4}
    (file,) = (home.root / "code").iterdir()  # type: ignore[union-attr]
    assert found.spec["name"] == f"{file.stem}:Net" and "classified" not in file.read_text()
    program = f"from {file.stem} import Net; print(Net(3, 7).layers[1])"
    done = subprocess.run([sys.executable, "-c", program], cwd=file.parent, capture_output=True, text=True)
    assert "Linear(in_features=192, out_features=7" in done.stdout, done.stderr


def test_its_identity_is_all_that_it_uses(home: Workspace) -> None:
    def name(*cells: str) -> str:
        return str(model_section(Notebook(IMPORTS, *cells)["Net"], "dm.loso", home)["name"])

    first = name(HELPER, NET)
    same = name("y = 3\n" + HELPER.replace("def squash", "# a comment\ndef squash"), NET, "unused = 4\n")
    assert same == first
    for helper, net in (
        (HELPER.replace("2.0", "3.0"), NET),  # a constant that a helper uses
        (HELPER.replace("tanh(x)", "torch.sin(x)"), NET),
        (HELPER, NET.replace("F.relu", "F.gelu")),
        (HELPER, NET.replace("size = 8", "size = 9")),  # of its base class
        (HELPER, NET.replace("width: Optional[int] = 4", "width: Optional[int] = 5")),
    ):
        assert name(helper, net) != first
    book = Notebook(IMPORTS, HELPER, NET)
    book.run(HELPER.replace("2.0", "3.0"))  # the cell is run again
    assert (
        model_section(book["Net"], "dm.loso", home)["name"]
        == name(HELPER.replace("2.0", "3.0"), NET)
        != first
    )


def test_a_module_beside_the_notebook_is_part_of_it(home: Workspace, tmp_path: Path) -> None:
    """It is imported in the notebook, and lies neither in the workspace nor where packages are installed."""
    lab = tmp_path / "lab_of_ours"
    lab.mkdir()
    (lab / "our_layers.py").write_text(
        "import our_parts\n\n\ndef squash(x):\n    return our_parts.twice(x)\n"
    )
    (lab / "our_parts.py").write_text("def twice(x):\n    return 2 * x\n")
    sys.path.append(str(lab))
    found = model(Notebook(IMPORTS, "from our_layers import squash\n", NET)["Net"], home)
    assert plugins.own_modules(found.module) == sorted([found.module, "our_layers", "our_parts"])
    assert {str(lab / "our_layers.py"), str(lab / "our_parts.py")} < set(plugins.places_to_ship())


def test_a_factory_and_a_network_with_options(home: Workspace) -> None:
    book = Notebook(
        IMPORTS, HELPER, NET, "def factory(classes):\n    return Net(classes, 5)\nfactory.size = 8\n"
    )
    made = model(book["factory"], home).build(3)
    assert made.layers[1].out_features == 5
    given = model({"name": book["Net"], "width": 6}, home)
    assert given.build(3).layers[1].out_features == 6


def test_an_estimator_is_its_class_and_its_parameters(home: Workspace) -> None:
    """As a configuration names it; being fitted changes nothing."""
    trees = ExtraTreesClassifier(n_estimators=np.int64(7), max_features=0.5)
    section = {
        "name": "sklearn",
        "estimator": "sklearn.ensemble.ExtraTreesClassifier",
        "params": {"n_estimators": 7, "max_features": 0.5},
    }
    assert model_section(trees, "dm.loso", home) == section
    assert model_section(trees.fit(np.eye(4), [0, 1, 0, 1]), "dm.loso", home) == section
    bare = {"name": "sklearn", "estimator": "sklearn.svm.SVC"}
    assert model_section(SVC, "dm.loso", home) == bare
    assert model_section(SVC(), "dm.loso", home) == {**bare, "params": {}}


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(with_mean=False), SVC(C=np.float64(3), random_state=1)),
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=3, random_state=0),
    ],
)
def test_a_pipeline_is_written_as_what_makes_it(estimator: Any, home: Workspace) -> None:
    """It predicts as itself: the pixels of all channels, each standardised, are the row of a clip."""
    rng = np.random.default_rng(0)
    x_NCHW, y_N = rng.normal(size=(30, 3, 28, 28)), np.arange(30) % 3
    ours = model(estimator, home).build(3).fit(x_NCHW, y_N, 0)
    flat = StandardScaler().fit(x_NCHW.reshape(30, -1)).transform(x_NCHW.reshape(30, -1))
    theirs = estimator.fit(flat, y_N)
    assert (ours._pipeline.predict(x_NCHW.reshape(30, -1)) == theirs.predict(flat)).all()
    changed = estimator.set_params(**{list(estimator.get_params())[-1]: 5})
    assert model_section(changed, "dm.loso", home) != model_section(type(estimator), "dm.loso", home)


def test_a_module_that_was_edited_after_its_import_is_refused(home: Workspace, tmp_path: Path) -> None:
    """What runs is not what the file says, and the file would be the identity."""
    file = tmp_path / "edited_nets.py"
    file.write_text(IMPORTS + HELPER + NET)
    plugins.import_file(file)
    net = sys.modules["edited_nets"].Net
    assert model_section(net, "dm.loso", home) == {"name": "edited_nets:Net"}
    file.write_text("# a new first line\n" + IMPORTS + HELPER + NET.replace("F.relu", "F.gelu"))
    linecache.checkcache()
    with pytest.raises(dm.BadInput, match=r"Net, or .*edited_nets.py, was changed after it was defined"):
        model_section(net, "dm.loso", home)


def test_what_is_set_on_a_class_later_is_seen(home: Workspace) -> None:
    book = Notebook(IMPORTS, HELPER, NET)
    first = model(book["Net"], home)
    book.run("Net.inputs = ['u', 'v', 'apex']\n")
    assert model(book["Net"], home).inputs == ("u", "v", "apex") != first.inputs
    book.run("def forward(self, x):\n    return self.layers(x)\n\nNet.forward = forward\n")
    with pytest.raises(dm.BadInput, match="changed after it was defined"):
        model_section(book["Net"], "dm.loso", home)


def test_a_default_that_a_name_gave_is_that_of_the_function(home: Workspace) -> None:
    for before, after, text in (
        ("4", "5", NET.replace("] = 4", "] = WIDTH")),
        ("nn.ReLU", "nn.GELU", NET.replace("classes: int,", "classes: int, *, made=WIDTH,")),
    ):
        inner = text.replace("size = 8", f"size = 8\n    WIDTH = {before}")  # of Base: no name of Net's body
        inner = inner.replace('a notebook."""', f'a notebook."""\n\n    WIDTH = {before}')
        book = Notebook(IMPORTS, HELPER, inner, f"WIDTH = {after}\n")
        model_section(book["Net"], "dm.loso", home)
        book = Notebook(IMPORTS, HELPER, f"WIDTH = {before}\n", text)
        first = model_section(book["Net"], "dm.loso", home)["name"]
        book.run(f"WIDTH = {after}\n")
        with pytest.raises(dm.BadInput, match="was taken from WIDTH, which has another value now; define it"):
            model_section(book["Net"], "dm.loso", home)
        book.run(text)
        assert model_section(book["Net"], "dm.loso", home)["name"] != first


def _cell(text: str, name: str) -> Any:
    return Notebook(IMPORTS, text)[name]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: lambda classes: nn.Linear(2, classes), "is not defined at the top level"),
        (lambda: partial(nn.Linear, 2), "model is a partial"),
        (lambda: nn.Linear(2, 3), "built already; give the class Linear"),
        (
            lambda: _cell("x = torch.zeros(3)\ndef net(c):\n    return x\n", "net"),
            "net uses 'x', a Tensor that",
        ),
        (
            lambda: _cell("def net(c):\n    return nn.Linear(2, c)\nnet.table = torch.zeros(3)\n", "net"),
            "net.table, a Tensor, was set on net later",
        ),
        (
            lambda: _cell("SEEN = {'a': {'x', 'yy'}}\ndef net(c):\n    return SEEN\n", "net"),
            "net uses 'SEEN', a dict that",
        ),
        (lambda: make_pipeline(FunctionTransformer(np.ones(3)), SVC()), "is a ndarray, which has no source"),
        (lambda: resolve, "resolve is distmer's own"),
        (
            lambda: eval("type('Made', (), {'f': 3, '__module__': '__main__'})"),
            "the source of Made cannot be found",
        ),
        (lambda: _cell("class Bare(nn.Module):\n    size = 8\n", "Bare"), "it has no function of its own"),
        (lambda: {"name": 3}, "not a int"),
        (lambda: models.models()["linear"].__class__, "ModelInfo is distmer's own"),
    ],
)
def test_what_cannot_be_named_is_one_sentence(make: Any, said: str, home: Workspace) -> None:
    with pytest.raises(dm.BadInput) as raised:
        model_section(make(), "dm.loso", home)
    assert said in str(raised.value) and str(raised.value).startswith("dm.loso: ")
    assert "\n" not in str(raised.value)
    assert not (home.root / "code").exists()  # type: ignore[union-attr]


def test_a_loss_of_a_notebook_is_a_setting(maps: Path, home: Workspace) -> None:
    """Wherever a setting names code, a function or a class may stand; its options beside it."""
    loss = "def sharp(z_BK, y_B, gamma: float = 1.0):\n    return gamma * F.cross_entropy(z_BK, y_B, {how})\n"
    clips = dm.load("flowmaps", root=maps, workspace=home.root)  # type: ignore[arg-type]
    digests = []
    for how in ("reduction='none'", "None, reduction='none'", "reduction='none', label_smoothing=0.1"):
        train = {
            "epochs": 1,
            "loss": {"name": Notebook(IMPORTS, loss.format(how=how))["sharp"], "gamma": 2.0},
        }
        run = dm.loso(
            clips,
            {"name": "atscnn", "size": 16, "hidden": 16},
            train=train,
            inputs={"normalise": "minmax"},
            evaluation={"bootstrap": 100},
            progress=False,
        )
        assert run.status == "complete"
        digests.append(run.results.digest)
    assert len(set(digests)) == 3  # each text is another loss
