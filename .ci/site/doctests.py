"""Examples in docstrings as code: Markdown would take ">>>" for a quotation in a quotation."""

from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Fences the paragraphs of a docstring that begin with a prompt."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            paragraphs = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(map(_fenced, paragraphs))


def _fenced(paragraph: str) -> str:
    return f"```pycon\n{paragraph}\n```" if paragraph.startswith(">>>") else paragraph
