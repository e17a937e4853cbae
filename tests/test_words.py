"""Code and documents use the words of the field."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Words that are not the field's, and what to write instead.
DIALECT = {
  r"(go|goes|going|went) on(?! (the|a|an|each|every)\b)": "resume, continue",
  r"mend(s|ed|ing)?": "fix, repair",
  r"(made|make|makes|computed) again": "recompute",
  r"anew": "again, new",
  r"whoever": "the caller, the user",
  r"of (ours|theirs)": "this package's, Hugging Face's",
  r"in want of": "without",
  r"(?<!only )so many(?! that)": "this many, or a name for the number",
}


def test_the_words_are_the_fields():
  """A reader finds these words in papers and in the documentation of JAX."""
  tops = (ROOT / top for top in ("t5x_style", "launch", "gin_configs", "docs", "tests"))
  files = [x for top in tops for x in top.rglob("*") if x.suffix in (".py", ".gin", ".md")]
  files = [x for x in files if "_build" not in x.parts]
  wrong = []
  for path in {*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md"} - {Path(__file__)}:
    text = path.read_text().replace("_", " ")
    for words, better in DIALECT.items():
      for match in re.finditer(rf"\b{words}\b", text, re.IGNORECASE):
        number = text.count("\n", 0, match.start()) + 1
        wrong.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}; write: {better}")
  assert not wrong, "\n" + "\n".join(sorted(wrong))
