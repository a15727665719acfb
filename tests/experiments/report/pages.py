"""Reads a page back by an HTML parser."""

import html.parser
import re


class Parsed(html.parser.HTMLParser):
    """A page's elements with their attributes, and tables as rows of text by their label."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.open, self.cell = [], {}, [], None
        self.words = []  # Text with the elements around it.
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = self.tables[attributes["aria-label"]] = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((tuple(self.open), data))
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def text(self, tag):
        return [data for within, data in self.words if within[-1:] == (tag,)]


def read(path):
    """A page, once it is sure that a browser would load nothing else."""
    text = path.read_text(encoding="utf-8")
    parsed = Parsed(text)
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "a"), tag
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, name)
        assert not any(name.startswith("on") for name in attributes), tag
    bare = re.sub(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", bare)
    return parsed
