"""The one setting of a finished sweep that a model is fitted with.

A nested sweep has a search for each held-out subject (or group), and each search chooses a setting. The
setting that most searches have chosen is taken. If there are several, the best mean validation score decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from distmer.digests import digest
from distmer.experiment.results_file import Results
from distmer.report.kept import kind_of, read_run
from distmer.report.run_folder import planned
from distmer.storage import Place
from distmer.types import BadInput, JsonValue


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A sweep's setting, and the score of the sweep.

    ``searches`` of the sweep's ``of`` have chosen it. ``file`` is its whole configuration. ``clips_digest``
    is that of the sweep's clips, with the features of the setting.
    """

    file: Place
    setting: Mapping[str, JsonValue]
    searches: int
    of: int
    results: Results
    clips_digest: str

    def to_json(self) -> dict[str, JsonValue]:
        """What a model's manifest keeps of it, within its score."""
        return {"values": dict(self.setting), "searches": self.searches, "of": self.of}


def read_choice(folder: Place) -> Choice:
    """The choice of the sweep in ``folder``. BadInput if it is no sweep, is not finished, or chose on the
    held-out subjects."""
    if kind_of(folder) != "sweep":
        raise BadInput(
            f"{folder}: it is no sweep; of a run, give the configuration: distmer fit {folder}/config.yaml."
        )
    kept = read_run(folder)
    results = kept.results
    if results.mode == "oracle":
        raise BadInput(
            f"{folder}: the sweep's mode is oracle, so its setting was chosen on the held-out subjects and"
            " its score is no score; give a nested or a flat sweep."
        )
    if results.status != "complete" or not results.chosen:
        raise BadInput(
            f"{folder}: the sweep is {results.status}, so not every search has chosen; run the same"
            " `distmer sweep` command again."
        )
    sweep = dict(kept.settings.get("sweep") or {})
    metric = str(sweep.get("metric", "uar"))
    search, setting, searches = most_chosen(results.chosen, metric)
    from distmer.report.sweep import slug  # Optuna and matplotlib, which only a sweep needs
    from distmer.sweep.plan import features_of

    clips_digest = dict(planned(folder).get("data_by_features") or {}).get(features_of(setting))
    if clips_digest is None:
        raise BadInput(
            f"{folder}: an earlier version has made it, which did not keep what tells whether the clips are"
            " still the same; run the same `distmer sweep` command again, which keeps what was finished."
        )
    file = folder / "chosen" / f"{slug(search)}.yaml"
    return Choice(file, setting, searches, len(results.chosen), results, clips_digest)


def most_chosen(
    chosen: Sequence[Mapping[str, JsonValue]], metric: str
) -> tuple[str, Mapping[str, JsonValue], int]:
    """The id of the first search that chose the most frequent setting, this setting, and how many chose it.

    ``chosen``: one row for each search, with ``search``, ``setting`` and the validation score ``metric``. Of
    equally frequent settings, the one with the higher mean score is taken; of equal means, the first.
    """
    votes: dict[str, list[Mapping[str, JsonValue]]] = defaultdict(list)
    for row in chosen:
        votes[digest(row["setting"])].append(row)
    best = max(votes.values(), key=lambda rows: (len(rows), fmean(float(row[metric]) for row in rows)))
    return str(best[0]["search"]), best[0]["setting"], len(best)
