"""A page as a browser would read it: its elements, and what stands in the way of a reader."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "source", "br", "link", "input", "hr"}
REFERENCES = {"src", "srcset", "href", "action", "data", "poster", "background"}


class Read(HTMLParser):
    """Elements in their order, with attributes, the text of each, and whatever is not closed."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.wrong, self.text = [], [], [], []
        self.feed(html)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag, _ in self.open]

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs))
        self.elements.append([*element, ""])
        if tag not in VOID:
            self.open.append((tag, self.elements[-1]))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.wrong.append(f"</{tag}> closes nothing")
            return
        self.open.pop()

    def handle_data(self, data):
        for tag, element in self.open:
            if tag not in ("html", "body", "main", "section"):
                element[2] += data
        if not self.open or self.open[-1][0] != "style":
            self.text.append(data)

    def all(self, tag):
        return [(attrs, text) for name, attrs, text in self.elements if name == tag]

    @property
    def style(self):
        return "".join(text for _, text in self.all("style"))


def faults(html):
    """What a reader on a phone, in print or without sight would stumble over; empty: nothing that can be read off."""
    page = Read(html)
    found = list(page.wrong)
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    if levels.count(1) != 1 or levels[0] != 1:
        found.append(f"one h1, the first heading: {levels}")
    found += [f"h{a} is followed by h{b}" for a, b in pairwise(levels) if b > a + 1]
    found += [
        f"{tag} without a heading's text"
        for tag, _, text in page.elements
        if tag[0] == "h" and tag[1:].isdigit() and not text.strip()
    ]
    found += [
        "an image without an alternative text" for attrs, _ in page.all("img") if not (attrs.get("alt") or "").strip()
    ]
    for tag, attrs, _ in page.elements:
        if tag in ("script", "iframe", "link", "object", "embed", "base", "form"):
            found.append(f"<{tag}>")
        found += [
            f"{tag} refers to {value[:40]}"
            for name, value in attrs.items()
            if name in REFERENCES and not value.startswith("data:image/png;base64,")
        ]
        found += [f"{tag} does something {name}" for name in attrs if name.startswith("on")]
    if re.search(r"url\(|@import|https?:", page.style):
        found.append("the style refers to something outside")
    if not any(attrs.get("lang") for attrs, _ in page.all("html")) or not page.all("title"):
        found.append("no language, or no title")
    views = [attrs.get("content", "") for attrs, _ in page.all("meta") if attrs.get("name") == "viewport"]
    if views != ["width=device-width, initial-scale=1"]:
        found.append(f"viewport: {views}")
    found += [
        f"a cell of {len(attrs)} attributes has no role"
        for tag in ("td", "th")
        for attrs, _ in page.all(tag)
        if "role" not in attrs
    ]
    if len(html.encode()) > 5_000_000:
        found.append(f"{len(html.encode()):,} bytes")
    return found + too_wide(page) + too_faint(page.style)


def rules(style):
    """(where it holds, selector, declarations) of each rule."""
    found, rest, where = [], style, ""
    for match in re.finditer(r"@media([^{]*)\{((?:[^{}]*\{[^{}]*\})*)\s*\}|([^{}@]+)\{([^{}]*)\}", rest):
        where = (match[1] or "").strip()
        inner = [(match[3], match[4])] if match[3] else re.findall(r"([^{}]+)\{([^{}]*)\}", match[2])
        for selector, body in inner:
            pairs = dict(re.findall(r"([-\w]+)\s*:\s*([^;]+);", body + ";"))
            found.append((where, " ".join(selector.split()), {k: v.strip() for k, v in pairs.items()}))
    return found


def pixels(length):
    """A length in pixels, where it is one."""
    match = re.fullmatch(r"([\d.]+)(px|rem|em|pt)", length)
    return float(match[1]) * {"px": 1, "rem": 16, "em": 16, "pt": 4 / 3}[match[2]] if match else 0.0


def too_wide(page, width=360):
    """What would be wider than a phone: fixed widths, texts that do not break, tables that stand side by side."""
    found, held = [], rules(page.style)
    narrow = [(selector, body) for where, selector, body in held if "print" not in where]
    for selector, body in narrow:
        found += [
            f"{selector}: {name} {body[name]}"
            for name in ("width", "min-width")
            if pixels(body.get(name, "")) > width - 32
        ]
        if body.get("white-space") in ("nowrap", "pre") and selector != ".badge":
            found.append(f"{selector} does not break")
    wanted = {"body": ("overflow-wrap", "anywhere"), "pre": ("white-space", "pre-wrap")}
    for selector, (name, value) in wanted.items():
        if not any(selector == s and body.get(name) == value for s, body in narrow):
            found.append(f"{selector} wants {name}: {value}")
    if not any("img" in s and body.get("max-width") == "100%" for s, body in narrow):
        found.append("pictures may be wider than the page")
    small = [
        (s, body)
        for where, s, body in held
        if "max-width" in where and pixels(where.split(":")[1].strip(" )")) >= width
    ]
    if page.all("table") and not any(
        "table" in s.split(", ") and "td" in s and b.get("display") == "block" for s, b in small
    ):
        found.append("tables stand side by side")
    found += [
        f"a badge of {len(text)} letters"
        for attrs, text in page.all("span")
        if "badge" in attrs.get("class", "") and len(text) > 24
    ]
    return found


def luminance(colour):
    """Relative luminance of #rrggbb, by WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Contrast ratio of two colours, 1 to 21, by WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def too_faint(style, least=4.5):
    """Letters whose contrast with their ground is below AA, in light and in dark."""
    held = rules(style)
    light = next(body for where, selector, body in held if selector == ":root" and not where)
    dark = {**light, **next(body for where, selector, body in held if selector == ":root" and "dark" in where)}
    grounds = {("ink", "page"), ("muted", "page"), ("link", "page"), ("ink", "card"), ("muted", "card")}
    for where, _, body in held:
        if "color" in body and "background" in body and "print" not in where:
            names = [re.findall(r"var\(--([-\w]+)\)", body[name]) for name in ("color", "background")]
            grounds |= {(names[0][0], names[1][0])}
    return [
        f"{ink} on {ground} in {name}: {contrast(of[f'--{ink}'], of[f'--{ground}']):.2f}"
        for name, of in (("light", light), ("dark", dark))
        for ink, ground in sorted(grounds)
        if contrast(of[f"--{ink}"], of[f"--{ground}"]) < least
    ]
