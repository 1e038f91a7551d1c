"""A comparison of runs as text, Markdown, CSV, LaTeX. "Better" is only said where a corrected test says so."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.table import Table

from distmer.experiment.comparison import Comparison, Entry, Pair, training_seconds
from distmer.report.tables import as_text
from distmer.types import JsonValue


def score_frame(comparison: Comparison) -> pd.DataFrame:
    """One row an entry: scores with intervals and spread, fold-means, floors, per data set, size and cost."""
    return pd.DataFrame([_record(entry) for entry in comparison.entries])


def pair_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a tested pair: differences A − B with intervals, raw and Holm-corrected p-values, and what may be said."""
    rows = [
        {
            "on": pair.on,
            "a": pair.a,
            "b": pair.b,
            "subjects": pair.difference.subjects,
            "clips": pair.difference.clips,
            "clips_in_one_only": pair.difference.unpaired,
            "uar_difference": pair.difference.uar,
            "uar_lo": pair.difference.uar_ci.lo,
            "uar_hi": pair.difference.uar_ci.hi,
            "uar_p": pair.difference.uar_p,
            "uar_p_holm": pair.uar_holm,
            "uf1_difference": pair.difference.uf1,
            "uf1_lo": pair.difference.uf1_ci.lo,
            "uf1_hi": pair.difference.uf1_ci.hi,
            "uf1_p": pair.difference.uf1_p,
            "uf1_p_holm": pair.uf1_holm,
            "verdict": pair.verdict(),
        }
        for pair in comparison.pairs
    ]
    rows += [{"on": u.on, "a": u.a, "b": u.b, "verdict": f"not tested: {u.reason}"} for u in comparison.untested]
    return pd.DataFrame(rows)


def comparison_text(comparison: Comparison, *, width: int = 140, colour: bool = False) -> str:
    """Both tables, for a terminal or a log."""
    scores = Table("", "UAR", "interval", "UF1", "interval", "clips", "parameters", "s a fold", "", box=box.SIMPLE_HEAD)
    for entry in comparison.entries:
        scores.add_row(*_cells(entry))
    parts: list[str | Table] = [f"{comparison.name}: {len(comparison.entries)} rows", scores, *_floor_lines(comparison)]
    if comparison.pairs:
        pairs = Table("A", "B", "UAR A − B", "interval", "p, Holm", "UF1 A − B", "interval", "p, Holm", "", box=box.SIMPLE_HEAD)
        for pair in comparison.pairs:
            d = pair.difference
            pairs.add_row(
                _on(pair.a, pair.on),
                pair.b,
                f"{d.uar:+.4f}",
                _ends([d.uar_ci.lo, d.uar_ci.hi]),
                f"{pair.uar_holm:.3f}",
                f"{d.uf1:+.4f}",
                _ends([d.uf1_ci.lo, d.uf1_ci.hi]),
                f"{pair.uf1_holm:.3f}",
                _said(pair),
            )
        parts += [f"{len(comparison.pairs)} paired tests over subjects, Holm-corrected together:", pairs]
    return as_text([*parts, *_untested_lines(comparison)], width, colour)


def comparison_markdown(comparison: Comparison) -> str:
    """Both tables as Markdown."""
    lines = [f"# {comparison.name}", "", "| | UAR | interval | UF1 | interval | clips | parameters | s a fold | |"]
    lines += ["|---|---:|---|---:|---|---|---:|---:|---|", *(f"| {' | '.join(_cells(e))} |" for e in comparison.entries), ""]
    lines += [*_floor_lines(comparison), ""]
    if comparison.pairs:
        lines += [f"{len(comparison.pairs)} paired permutation tests over subjects, Holm-corrected together.", ""]
        lines += ["| A | B | UAR A − B | interval | p, Holm | verdict |", "|---|---|---:|---|---:|---|"]
        for pair in comparison.pairs:
            d = pair.difference
            ends = _ends([d.uar_ci.lo, d.uar_ci.hi])
            lines.append(f"| {_on(pair.a, pair.on)} | {pair.b} | {d.uar:+.4f} | {ends} | {pair.uar_holm:.3f} | {_said(pair)} |")
        lines.append("")
    return "\n".join([*lines, *(f"- {line}" for line in _untested_lines(comparison)), ""])


def comparison_latex(comparison: Comparison) -> str:
    """The score table as a LaTeX ``tabular`` (booktabs)."""
    lines = [r"\begin{tabular}{lrlrl}", r"\toprule", r"Model & UAR & 95\,\% CI & UF1 & 95\,\% CI \\", r"\midrule"]
    for entry in comparison.entries:
        label, uar, uar_ci, uf1, uf1_ci, *_, note = _cells(entry)
        name = _escape(label + (f" ({note})" if note and entry.predictions is not None else ""))
        cells = [name, uar, uar_ci, uf1, uf1_ci] if entry.predictions is not None else [name, "--", "n/a", "--", "n/a"]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def comparison_files(comparison: Comparison) -> dict[str, str]:
    """Everything a comparison leaves behind, by file name."""
    return {
        "comparison.md": comparison_markdown(comparison),
        "scores.csv": score_frame(comparison).to_csv(index=False),
        "pairs.csv": pair_frame(comparison).to_csv(index=False),
        "scores.tex": comparison_latex(comparison),
    }


def _record(entry: Entry) -> dict[str, JsonValue]:
    r = entry.results
    record: dict[str, JsonValue] = {"on": entry.on, "row": entry.label, "note": _note(entry)}
    if entry.predictions is None:
        return record
    for score in ("uar", "uf1"):
        lo, hi = r.get(f"{score}_ci") or (None, None)
        record |= {score: r[score], f"{score}_lo": lo, f"{score}_hi": hi, f"{score}_sd_seeds": r.get(f"{score}_sd")}
        record |= {f"{score}_foldmean": r[f"{score}_foldmean"]}
        record |= {f"{score}_floor_{name}": floor[score] for name, floor in r["floors"].items()}
        record |= {f"{score}_{name}": of[score] for name, of in r["per_dataset"].items()}
    record |= {"model": r["model"], "clips_used": r["clips_used"], "clips_expected": r["clips_expected"], "selection": r["selection"]}
    record |= {"seeds": len(r["seeds"]), "status": r["status"], "parameters": r.get("parameters")}
    return {**record, "seconds_a_fold": round(training_seconds(entry), 3), "run_dir": r["run_dir"]}


def _cells(entry: Entry) -> list[str]:
    r = entry.results
    label = _on(entry.label, entry.on)
    if entry.predictions is None:
        return [label, "", "", "", "", "", "", "", _note(entry)]
    spread = {score: f" ± {r[f'{score}_sd']:.3f}" if r.get(f"{score}_sd") is not None else "" for score in ("uar", "uf1")}
    return [
        label,
        f"{r['uar']:.4f}{spread['uar']}",
        _ends(r.get("uar_ci")),
        f"{r['uf1']:.4f}{spread['uf1']}",
        _ends(r.get("uf1_ci")),
        f"{r['clips_used']}/{r['clips_expected']}",
        "" if r.get("parameters") is None else f"{r['parameters']:,}",
        f"{training_seconds(entry):.1f}",
        _note(entry),
    ]


def _note(entry: Entry) -> str:
    """What must be read with the row: stamps first."""
    stamps = [f"NOT A HEADLINE: {', '.join(entry.results['stamps'])}"] if entry.results.get("stamps") else []
    partial = [str(entry.results["status"])] if entry.results.get("status", "complete") != "complete" else []
    return "; ".join([*stamps, *partial, *([entry.note] if entry.note else [])])


def _floor_lines(comparison: Comparison) -> list[str]:
    """The floors under the scores, once a data set."""
    lines: dict[str, str] = {}
    for entry in comparison.entries:
        if entry.predictions is not None and entry.on not in lines:
            floors = entry.results["floors"].items()
            told = ", ".join(f"{name} UAR {floor['uar']:.4f} UF1 {floor['uf1']:.4f}" for name, floor in floors)
            lines[entry.on] = f"floors{f' on {entry.on}' if entry.on else ''}: {told}"
    return list(lines.values())


def _said(pair: Pair) -> str:
    """The verdict, and on which clips where not on all."""
    return "; ".join(filter(None, (pair.verdict(), pair.on_part)))


def _untested_lines(comparison: Comparison) -> list[str]:
    return [f"not tested{f' on {pair.on}' if pair.on else ''}: {pair.reason}" for pair in comparison.untested]


def _on(label: str, on: str) -> str:
    return f"{label} on {on}" if on else label


def _ends(ends: list[float] | None) -> str:
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""


def _escape(text: str) -> str:
    return "".join("\\" + c if c in "_%&#$" else c for c in text)
