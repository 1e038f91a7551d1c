"""The card of a kept model, ``README.md`` in its folder: what it is, its score, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distmer.experiment.results_file import Results
from distmer.report.document import Facts
from distmer.report.table import Column, Row, Table
from distmer.report.tables import score_table
from distmer.saved.folder import CONFIG, Manifest
from distmer.types import JsonValue

_NOT_FOR = """\
The model tells small, short movements of faces apart, as they were filmed in a laboratory: one cooperating
person in front of a camera, near to it, in even light. It does not tell what a person feels, thinks or
intends, and not whether somebody lies. Do not use it

- to decide about a person or to rate one: in hiring, at work, in schools, at borders, in courts, in insurance
  or by the police. In the European Union, systems that infer emotions at work and in education are prohibited
  except for medical or safety reasons (Regulation (EU) 2024/1689, Article 5(1)(f));
- on people who have not agreed to it;
- as a medical device, or for a diagnosis;
- on clips that are unlike those of its training: `distmer predict` says so of each clip;
- to report a score on any subject listed below. It has seen all of them.

The data sets have agreements of their own. Whether a model that was trained on them may be passed on is said
there, and not here."""


def card(manifest: Manifest, results: Results | None, citation: str) -> str:
    """The card as Markdown. ``results``: of the run of the same configuration, if there is one."""
    m = manifest
    clips = ", ".join(f"{n} {name}" for name, n in m.clips.items())
    parts = [
        f"# {m.model['name']}, fitted to all clips of {m.protocol}",
        f"A model of micro-expressions, made by distmer {m.libraries['distmer']}. It was trained on"
        f" {sum(m.clips.values())} clips of {len(m.subjects)} subjects ({clips}), and answers with one of"
        f" {len(m.classes)} classes: {', '.join(m.classes)}.",
        "    distmer predict FOLDER CLIP",
        "## Its score",
        *_score(m, results),
        "## What it must not be used for",
        _NOT_FOR,
        "## What it is made of",
        Facts(_facts(m, citation)).markdown(),
        _holds(m),
        "## The subjects it has seen",
        _subjects(m.subjects),
    ]
    return "\n\n".join(parts) + "\n"


def _score(m: Manifest, results: Results | None) -> Sequence[str]:
    again = "" if m.protocol == "synthetic" else " --set data.root=FOLDER"
    command = f"    distmer run {CONFIG}{again}"
    if results is None or results.uar is None:
        return [
            "There is none. A score of this configuration needs a model for each held-out subject; this"
            " command trains them (the file lies in this folder), and `distmer fit` then writes it here:",
            command,
        ]
    table = score_table(results)
    done, total = results.fold_counts
    chosen = (m.score or {}).get("setting")
    how = (
        f"Of the same configuration, from {done} of {total} folds: each subject was answered for by a model"
        " that had not seen this subject. This model has seen all of them, so it has no score of its own; on"
        " new people who are filmed in the same way, this is what to expect of it."
    )
    repeat = f"Audited for leaks: {results.audited or 'no'}. To repeat it:"
    if chosen:
        how, command = _of_sweep(results, chosen), "    distmer sweep sweep.yaml"
        repeat = f"To repeat it, with the sweep.yaml of the sweep {results.digest[:12]}:"
    stamps = [f"**No headline: {', '.join(results.stamps)}.**"] if results.stamps else []
    return [*stamps, how, table.markdown() if table else "", repeat, command]


def _of_sweep(results: Results, chosen: Mapping[str, JsonValue]) -> str:
    """What the score of a sweep says of a model with one of its settings."""
    done, total = results.fold_counts
    setting = ", ".join(f"{name} = {_short(value)}" for name, value in chosen["values"].items())
    of = int(chosen["of"])
    if results.mode == "flat" or of == 1:
        return (
            f"Of the sweep that chose the setting ({setting}), from {done} of {total} folds. Each subject was"
            " answered for by a model that had not seen this subject, but every subject had a say in the"
            " choice of the setting, so the score is too high. This model has seen all subjects, and has no"
            " score of its own."
        )
    return (
        f"Of the sweep, from {done} of {total} folds: for each held-out subject or group, a search on the"
        " other subjects alone chose a setting, and a model with this setting that had not seen the subject"
        f" answered. {chosen['searches']} of the {of} searches chose the setting of this model ({setting})."
        " So this is the score of searching and fitting, and not of this setting: a score of it would be too"
        " high, for all subjects have had a say in its choice. This model has seen all subjects, and has no"
        " score of its own."
    )


def _facts(m: Manifest, citation: str) -> list[tuple[str, str]]:
    train = ", ".join(f"{name} {_short(value)}" for name, value in m.train.items())
    options = ", ".join(f"{name} {_short(value)}" for name, value in dict(m.model["options"]).items())
    features = ", ".join(f"{name} {_short(value)}" for name, value in m.features.items())
    return [
        ("model", f"{m.model['name']} ({options})"),
        ("source", citation),
        ("input", f"{', '.join(m.channels)}; {', '.join(f'{k} {_short(v)}' for k, v in m.inputs.items())}"),
        ("features", features or "published flow maps"),
        ("training", "; ".join([*([f"{train}; {m.epochs} epochs"] if m.train else []), f"seed {m.seed}"])),
        ("trained on", m.device),
        ("libraries", ", ".join(f"{name} {version}" for name, version in m.libraries.items())),
        ("identity", m.identity),
    ]


def _holds(m: Manifest) -> str:
    kept = (
        "The folder holds no frame. Of each training clip it keeps flow and strain in 16 × 16 px, so that it"
        " can say how far a new clip is from them."
    )
    if m.kind == "classical" and {"onset", "apex"} & set(m.channels):
        kept += (
            " This kind of model may keep training clips in its weights, and it reads grey images: treat the"
            " folder as you treat the frames."
        )
    return kept


def _subjects(subjects: Sequence[str]) -> str:
    by_set: dict[str, list[str]] = {}
    for subject in subjects:
        dataset, _, name = subject.partition("/")
        by_set.setdefault(dataset, []).append(name)
    rows = [Row((name, str(len(own)), ", ".join(own))) for name, own in by_set.items()]
    return Table((Column("data set"), Column("subjects", right=True), Column("who")), rows).markdown()


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(str(part) for part in value.values()) + ")"
    if isinstance(value, list | tuple):
        return "+".join(_short(part) for part in value) or "none"
    return str(value)
