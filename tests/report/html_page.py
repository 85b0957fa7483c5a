"""A page as a browser would parse it, and what must hold for every page."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, attributes and text of a page; a parser that meets a stray end tag says so."""

    VOID = ("meta", "img", "br", "use", "path", "wbr")

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open, f"stray </{tag}>"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def loads(self):
        """Whatever a browser would fetch: data: URIs and places on the page itself are not fetched."""
        loading = ("src", "href", "xlink:href", "srcset", "poster", "data", "action", "background")
        addresses = [value for _, name, value in self.attributes if name in loading]
        return [value for value in addresses if not value.startswith(("data:image/jpeg;base64,", "#"))]


def assert_safe(path):
    page, source = Page(path), path.read_text(encoding="utf-8")
    assert page.loads() == []
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "@import" not in source
    assert all(part.startswith("#") for part in source.split("url(")[1:])
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "Research use only. Not for clinical use." in page.text
    return page
