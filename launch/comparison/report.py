"""report.html of a comparison, its pictures, and what the terminal shows at the end."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.comparison import budget, outcome
from t5x_style.comparison.measures import MEASURES
from t5x_style.comparison.settings import Comparison
from t5x_style.results.html_page import Page, Part

from ..process import whole_files
from . import curves, held_out, results
from .record import Record
from .results import Results

_TITLE = "Comparison of objectives"
_NOTHING = "–"
_EMPTY = "(nothing)"  # what a model wrote into a hole


class Written(NamedTuple):
  """What was written: a text for the terminal, and how many runs failed."""

  text: str
  failed: int


def write(comparison: Comparison, record: Record, command: str) -> Written:
  """Writes report.html, the pictures, results.json and results.csv.

  Args:
    command: the command line of this comparison, for those who repeat it.
  """
  folder = Path(comparison.compare_dir).expanduser()
  found = results.gather(comparison, record)
  results.write_files(found, folder)
  drawn = curves.loss_charts(found.curves)
  for name, chart in drawn.items():
    chart.png(folder / f"{name}.png")
  whole_files.write(folder / "report.html", _page(found, drawn, command).html())
  return Written(_text(found, folder), len(found.failed))


def _text(found: Results, folder: Path) -> str:
  """Returns the outcome for the terminal."""
  lines = ["What to choose"]
  for choice in found.choices:
    lines.append(f"  {choice.purpose}: {_names(choice)}")
    lines.append(f"    {choice.why}")
  lines += [f"  {name} failed: {why}" for name, why in found.failed.items()]
  lines += ["", f"report      {folder / 'report.html'}"]
  lines.append(f"figures     {folder / 'results.csv'}, {folder / 'results.json'}")
  return "\n".join(lines)


def _names(choice: outcome.Choice) -> str:
  return " or ".join(choice.candidates) or "nothing can be said"


def _page(found: Results, drawn: Mapping[str, Any], command: str) -> Page:
  page = Page(_TITLE)
  page.paragraph(_what(found))
  page.contents()
  _conclusion(page, found)
  _measures(page, found)
  _curves(page, drawn)
  _passages(page, found)
  _methods(page, found)
  _halving(page, found)
  _settings(page, found)
  _runs(page, found)
  _environment(page, found, command)
  return page


def _what(found: Results) -> str:
  asked = found.comparison
  unit = budget.UNITS[asked.budget]
  read = [held_out.corpora(x["identity"]).values() for x in found.facts.values()]
  data = ", ".join(dict.fromkeys(corpus["name"] for corpora in read for corpus in corpora))
  seeds = f"{len(asked.seeds)} seeds" if len(asked.seeds) > 1 else "one seed"
  kinds = {
    "flops": "FLOPs are those of the matrix products of forward and backward pass, by formula.",
    "tokens": "Tokens are those that a model reads and writes, without padding.",
    "seconds": "Seconds were turned into steps by the speed of each candidate, measured before.",
  }
  return (
    f"{len(found.facts)} candidates were trained on the same text ({data}), each with {seeds} and "
    f"{asked.amount:,.4g} {unit} a run. {kinds[asked.budget]} All were judged on the same held-out "
    "passages. Settings that all share, such as the learning rate, were tuned for none of them."
  )


def _conclusion(page: Page, found: Results) -> None:
  page.heading("What to choose")
  rows = [[x.purpose, _names(x), x.why] for x in found.choices]
  page.table(["for", "choose", "because"], rows, note=outcome.RULE)
  if len(found.comparison.seeds) == 1:
    page.paragraph("With one seed, how much another seed would change is not known.")
  if found.failed:
    page.table(["failed run", "why"], [list(item) for item in found.failed.items()])


def _measures(page: Page, found: Results) -> None:
  page.heading("Measures")
  shown = [x for x, by in found.table.items() if any(y.mean is not None for y in by.values())]
  ranked = [x for x in shown if MEASURES[x].better]
  facts = [x for x in shown if not MEASURES[x].better]
  if ranked:
    columns = ["measure", "", *found.judged, "guessing"]
    rows = [[*_title(x), *_cells(found, x), _chance(x)] for x in ranked]
    page.table(columns, rows, note="Mean over seeds ± spread; the rule above says what that is.")
  if facts:
    rows = [[*_title(x), *_cells(found, x)] for x in facts]
    page.table(["figure", "", *found.judged], rows)


def _title(name: str) -> tuple[str, str]:
  measure = MEASURES[name]
  better = f", {measure.better} is better" if measure.better else ""
  return measure.title, f"{measure.unit}{better}"


def _cells(found: Results, name: str) -> list[str]:
  measure = MEASURES[name]
  return [
    outcome.shown(measure, x).removesuffix(measure.unit).strip() if x.mean is not None else _NOTHING
    for x in (found.table[name][candidate] for candidate in found.judged)
  ]


def _chance(name: str) -> str:
  measure = MEASURES[name]
  if measure.chance is None:
    return _NOTHING
  return outcome.shown_value(measure, measure.chance, unit=False)


def _curves(page: Page, drawn: Mapping[str, Any]) -> None:
  page.heading("Loss")
  page.paragraph(
    "The loss on held-out text, the mean over seeds and their range. Each objective predicts "
    "something else, so only curves of the same objective can be compared by their height; the "
    "measures above compare all."
  )
  for chart in drawn.values():
    page.chart(chart)


def _passages(page: Page, found: Results) -> None:
  firsts = {name: runs[0] for name, runs in found.judged.items() if runs[0].passages}
  if not firsts:
    return
  page.heading("Passages")
  page.paragraph(
    "Held-out passages, as every model completes them with the likeliest tokens, and as it fills "
    "their hole; what the models wrote is marked. The models are those of the first seed."
  )
  count = min(len(x.passages) for x in firsts.values())
  for index in range(count):
    page.heading(f"Passage {index + 1}", level=3)
    truth = next(iter(firsts.values())).passages[index]
    completed = [("the text", [Part(truth["prompt"]), Part(truth["truth"], True)])]
    for name, judged in firsts.items():
      written = judged.passages[index]["continuation"]
      if written is not None:
        completed.append((name, [Part(truth["prompt"]), Part(written, True)]))
    page.passages(completed)
    filled = [("the text", _hole(truth["hole"], truth["hole"]["truth"]))]
    for name, judged in firsts.items():
      hole = judged.passages[index]["hole"]
      if hole and hole.get("filling") is not None:
        filled.append((name, _hole(hole, hole["filling"])))
    page.passages(filled)


def _hole(hole: Mapping[str, str], filling: str) -> list[Part]:
  return [Part(hole["before"]), Part(filling or _EMPTY, True), Part(hole["after"])]


def _methods(page: Page, found: Results) -> None:
  page.heading("How it was measured")
  rows = [[MEASURES[name].title, text] for name in found.table for text in _methods_of(found, name)]
  page.table(["measure", "method"], rows)


def _methods_of(found: Results, name: str) -> Iterator[str]:
  """Yields each method with its candidates, and each reason for having no value."""
  methods: dict[str, list[str]] = {}
  for candidate, runs in found.judged.items():
    measured = runs[0].measures.get(name)
    if measured is None:
      continue
    if measured.value is None:
      methods.setdefault(f"no value: {measured.reason}", []).append(candidate)
    else:
      count = f" ({measured.count:,} of them)" if measured.count else ""
      methods.setdefault(f"{measured.method}{count}", []).append(candidate)
  for text, candidates in methods.items():
    every = len(candidates) == len(found.judged)
    yield text if every else f"{', '.join(candidates)}: {text}"


def _halving(page: Page, found: Results) -> None:
  rounds = found.record.content["rounds"]
  if not rounds:
    return
  page.heading("Successive halving")
  page.paragraph(
    "Jamieson & Talwalkar 2015 (arXiv 1502.07943): after each part of the budget the better half "
    f"trains on, by {MEASURES[rounds[0]['measure']].title}."
  )
  rows = [
    [number + 1, f"{x['share']:.0%}", name, value, "trains on" if name in x["kept"] else "ends"]
    for number, x in enumerate(rounds)
    for name, value in x["values"].items()
  ]
  page.table(["round", "of the budget", "candidate", "value", ""], rows)


def _settings(page: Page, found: Results) -> None:
  page.heading("Settings")
  data = found.record.content["data"]
  columns = ["candidate", "architecture", "parameters", "without vocabulary", "row", "rows a batch"]
  rows = [
    [
      name,
      x["architecture"].replace("_", "-"),
      x["parameters"],
      x["parameters_without_vocabulary"],
      " + ".join(map(str, x["row"].values())),
      x["batch_size"],
      x["steps"],
      round(x["steps"] * x["step_positions"] * data[name]["text"]),
      f"{x['steps'] * x['step_flops']:.3g}",
    ]
    for name, x in found.facts.items()
  ]
  page.table([*columns, "steps", "tokens of text", "FLOPs"], rows)
  shared, own = _split_settings({name: x["settings"] for name, x in found.facts.items()})
  for name, lines in own.items():
    page.details(f"Settings of {name} that not all share", "\n".join(lines))
  page.details("Settings that all share", "\n".join(shared))


def _split_settings(
  settings: Mapping[str, Mapping[str, str]],
) -> tuple[list[str], dict[str, list[str]]]:
  """Returns the lines that all candidates share, and {candidate: its other lines}."""
  line = lambda item: f"{item[0].removeprefix('t5x_style.')} = {item[1]}"
  every = [set(x.items()) for x in settings.values()]
  common = set.intersection(*every)
  shared = [line(x) for x in next(iter(settings.values())).items() if x in common]
  own = {
    name: [line(item) for item in x.items() if item not in common] for name, x in settings.items()
  }
  return shared, {name: lines for name, lines in own.items() if lines}


def _runs(page: Page, found: Results) -> None:
  page.heading("Runs")
  names = [
    name for name in found.table if any(x.mean is not None for x in found.table[name].values())
  ]
  columns = ["run", *(MEASURES[name].title for name in names), "training", "judging"]
  rows: list[Sequence[Any]] = []
  for runs in found.judged.values():
    for x in runs:
      values = [x.measures[name].value if name in x.measures else None for name in names]
      cells = [
        outcome.shown_value(MEASURES[n], v) if v is not None else None
        for n, v in zip(names, values, strict=True)
      ]
      times = [x.noted.get(f"{part}_seconds") for part in ("training", "judging")]
      rows.append([x.run.name, *cells, *(f"{t:,.0f} s" if t else None for t in times)])
  page.table(columns, rows, note="Each is a MODEL_DIR in runs/, with its own metrics.jsonl.")


def _environment(page: Page, found: Results, command: str) -> None:
  page.heading("Environment")
  content = found.record.content
  rows = [[name, str(value)] for name, value in content["machine"].items()]
  page.table(["", ""], [*rows, ["started", content["started"]]])
  page.details("The command", command)
