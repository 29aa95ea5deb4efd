"""HTML of MyST's nodes: the text of one page. `render.py` makes the pages of it."""

import html
import re
import unicodedata

from book import Book
from parts import fetch, page_file, tag
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

NUMBERED = ("heading", "figure", "table", "equation", "subequation", "exercise")
PLAIN = {  # MyST's node → the element that holds its children
    **{name: name for name in ("strong", "details", "summary", "span", "div", "aside")},
    **{"paragraph": "p", "emphasis": "em", "subscript": "sub", "superscript": "sup", "delete": "s"},
    **{"underline": "u", "blockquote": "blockquote", "definitionList": "dl", "definitionDescription": "dd"},
    **{"listItem": "li", "tableRow": "tr", "caption": "figcaption", "legend": "div", "abbreviation": "abbr"},
}
THROUGH = ("root", "glossary", "mystRole", "mystDirective", "include", "captionNumber", "smallcaps")
SILENT = ("comment", "mystTarget", "index", "mystComment", "embedPlaceholder", "substitution")


def text_of(node: dict) -> str:
    """The words in a node, without markup."""
    return node.get("value", "") + "".join(text_of(child) for child in node.get("children", []))


def lettered(found: re.Match[str]) -> str:
    """A capital of MathML in the alphabet that its ``mathvariant`` names, as a character."""
    name = f"{found[1].upper()} CAPITAL {found[2]}"
    try:
        letter = unicodedata.lookup(f"MATHEMATICAL {name}")
    except KeyError:  # those that Unicode had before
        letter = unicodedata.lookup(name)
    return f"<mi>{letter}</mi>"


def spaced(formula: str) -> str:
    """The thin space that TeX puts around the name of a function, and browsers leave out: k ln f."""
    name, thin = r"<mi>[A-Za-z]{2,}</mi><mo>\u2061</mo>", '<mspace width="0.1667em"/>'
    after = rf"((?:</m[in]>|</msu[bp]>)(?:<msu[bp]><mrow>)?{name})"
    formula = re.sub(after, lambda m: m[1].replace(">", f">{thin}", 1), formula)
    return re.sub(
        rf"({name}(?:</mrow><m[in]>[^<]*</m[in]></msu[bp]>)?)(?=<m(?:i|n|frac|msqrt|sub|sup|over)\b)",
        rf"\1{thin}",
        formula,
    )


def code_block(source: str, language: str, folded: bool = False, filename: str | None = None) -> str:
    """Coloured code with a button that copies it, below the name of its file where it has one."""
    try:
        lexer = get_lexer_by_name({"ipython3": "python", None: "text"}.get(language, language))
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    inside = highlight(source, lexer, HtmlFormatter(nowrap=True)).rstrip("\n")
    name = f'<div class="filename">{html.escape(filename)}</div>' if filename else ""
    block = f'<div class="code">{name}<pre tabindex="0"><code>{inside}</code></pre></div>'
    return f"<details class=fold><summary>Code</summary>{block}</details>" if folded else block


class Page:
    """Renders one document; ``book`` knows all of them."""

    def __init__(self, book: Book, slug: str) -> None:
        self.book, self.slug = book, slug
        self.document = book.documents[slug]
        self.front, self.contents, self.notes = self.document["frontmatter"], [], []
        self.captions = []
        self.cited = self.document["references"]["cite"]["data"]
        self.body = self.node(self.document["mdast"])

    def children(self, node: dict) -> str:
        return "".join(self.node(child) for child in node.get("children", []))

    def node(self, node: dict) -> str:
        """HTML of one node; its preview is kept where others may refer to it."""
        kind = node["type"]
        if kind in SILENT:
            return ""
        if kind in PLAIN:
            title = node.get("title") if kind == "abbreviation" else None
            return tag(PLAIN[kind], self.children(node), class_=node.get("class"), title=title)
        if kind in THROUGH:
            return self.children(node)
        method = getattr(self, f"on_{kind}", None)
        if method is None:
            raise SystemExit(f"⛔ {self.document['location']}: the theme does not know the node {kind!r}")
        out = method(node)
        if node.get("html_id") and kind in ("container", "math", "exercise", "definitionTerm"):
            self.book.previews[f"{self.slug}.html#{node['html_id']}"] = re.sub(r' id="[^"]*"', "", out)
        return out

    def number(self, node: dict, slug: str) -> str:
        """A node's number with its chapter's: 3.4."""
        chapter = self.book.numbers.get(slug)
        return f"{chapter}.{node['enumerator']}" if chapter else node["enumerator"]

    def on_text(self, node: dict) -> str:
        return html.escape(node["value"], quote=False)

    def on_html(self, node: dict) -> str:
        return node["value"]

    def on_break(self, node: dict) -> str:
        return "<br>"

    def on_thematicBreak(self, node: dict) -> str:
        return "<hr>"

    def on_block(self, node: dict) -> str:
        if node.get("visibility") == "remove":
            return ""
        tags = node.get("data", {}).get("tags", [])
        parts = []
        for child in node["children"]:
            if child["type"] == "container":
                child["alt"] = node.get("data", {}).get("alt")
            parts.append(self.node(child))
        return (
            tag("div", "".join(parts), class_=" ".join(["cell", *tags]))
            if "code" in node.get("kind", "")
            else "".join(parts)
        )

    def on_heading(self, node: dict) -> str:
        inside, anchor = self.children(node), node.get("html_id")
        if node.get("enumerator") and node["depth"] == 2 and self.slug in self.book.numbers:
            inside = tag("span", self.number(node, self.slug), class_="number") + " " + inside
        if node["depth"] in (2, 3):
            self.contents.append((node["depth"], anchor, inside))
        link = tag("a", "#", href=f"#{anchor}", class_="anchor", aria_label=f"Link to {text_of(node)}")
        return tag(f"h{min(node['depth'], 6)}", inside + link, id=anchor)

    def on_inlineCode(self, node: dict) -> str:
        code = tag("code", html.escape(node["value"]))
        where = self.book.objects.get(node["value"])
        return tag("a", code, href=where) if where else code

    def on_code(self, node: dict) -> str:
        if node.get("visibility") == "remove":
            return ""
        return code_block(
            node["value"], node.get("lang"), node.get("visibility") == "hide", node.get("filename")
        )

    def on_inlineMath(self, node: dict) -> str:
        found = re.search(r"<math.*</math>", node["html"], re.DOTALL)
        if not found:
            return html.escape(node["value"])
        # Browsers know no mathvariant but "normal": letters of another alphabet are characters of their own.
        formula = re.sub(r'<mi mathvariant="(script|double-struck)">([A-Z])</mi>', lettered, found.group())
        # MathML takes the bars of |x| for a relation, with space around them.
        return spaced(re.sub(r"<mo([^>]*)>([∣∥])</mo>", r'<mo\1 lspace="0" rspace="0">\2</mo>', formula))

    def on_math(self, node: dict) -> str:
        number = (
            tag("a", f"({self.number(node, self.slug)})", href=f"#{node['html_id']}", class_="number")
            if node.get("html_id")
            else ""
        )
        body = f'<div class="formula" tabindex="0" role="group" aria-label="equation">{self.on_inlineMath(node)}</div>'
        return tag("div", body + number, class_="equation", id=node.get("html_id"))

    def on_mathGroup(self, node: dict) -> str:
        return tag("div", self.children(node), id=node.get("html_id"))

    def on_crossReference(self, node: dict) -> str:
        slug = (node["url"].strip("/") or "index") if node.get("remote") else self.slug
        inside = self.children(node)
        if (
            node.get("kind") in NUMBERED
            and node.get("enumerator")
            and node.get("template", "").replace("%s", node["enumerator"]) == text_of(node)
        ):
            inside = node["template"].replace("%s", self.number(node, slug))
        target = ("" if slug == self.slug else f"{slug}.html") + f"#{node['html_id']}"
        return tag("a", inside, href=target, class_="ref", data_preview=f"{slug}.html#{node['html_id']}")

    def on_link(self, node: dict) -> str:
        url = page_file(node["url"]) if node.get("internal") else node["url"]
        if node.get("static"):
            url = self.book.asset(node["url"])
        return tag("a", self.children(node), href=url, class_=node.get("class"))

    def on_citeGroup(self, node: dict) -> str:
        inside = "; ".join(self.node(child) for child in node["children"])
        return f"({inside})" if node["kind"] == "parenthetical" else inside

    def on_cite(self, node: dict) -> str:
        self.book.previews[f"cite-{node['label']}"] = self.cited[node["label"]]["html"]
        return tag(
            "a",
            self.children(node),
            href=f"#cite-{node['label']}",
            class_="cite",
            data_preview=f"cite-{node['label']}",
        )

    def on_image(self, node: dict) -> str:
        src, size = self.book.asset(node["url"]), ""
        if src.endswith((".png", ".gif", ".jpg")) and (self.book.out / src).is_file():
            # Known before the picture has come: the page then stays where a link led.
            with Image.open(self.book.out / src) as image:
                size = f' width="{image.width}" height="{image.height}"'
        return f'<img src="{src}" alt="{html.escape(node.get("alt") or "")}"{size} loading="lazy">'

    def on_container(self, node: dict) -> str:
        caption = next((child for child in node["children"] if child["type"] == "caption"), None)
        number = (
            next((c for c in caption["children"][0]["children"] if c["type"] == "captionNumber"), None)
            if caption
            else None
        )
        if number and not node.get("parentEnumerator"):
            label = f"{node['kind'].capitalize()} {self.number(number, self.slug)}. "
            number["children"] = [{"type": "strong", "children": [{"type": "text", "value": label}]}]
            self.captions.append((node["html_id"], ". ".join(self.words(caption).split(". ", 2)[:2])))
        self.alt = node.get("alt") or (text_of(caption) if caption else "")
        code = "".join(self.node(c) for c in node["children"] if c["type"] == "code")
        body = "".join(self.node(c) for c in node["children"] if c["type"] not in ("code", "caption"))
        words = self.node(caption) if caption else ""
        figure = words + body if node["kind"] == "table" else body + words
        return code + tag(
            "figure", figure, id=node.get("html_id"), class_=f"{node['kind']} {node.get('class', '')}".strip()
        )

    def words(self, node: dict) -> str:
        """A node's text and formulas, without links."""
        if node["type"] == "inlineMath":
            return self.on_inlineMath(node)
        if node["type"] in ("crossReference", "cite"):
            return re.sub(r"</?a\b[^>]*>", "", self.node(node))
        if "children" in node:  # a role's value is its source
            return "".join(self.words(child) for child in node["children"])
        return html.escape(node.get("value", ""), quote=False)

    def on_outputs(self, node: dict) -> str:
        return "" if node.get("visibility") == "remove" else self.children(node)

    def on_output(self, node: dict) -> str:
        data = node["jupyter_data"]
        if data["output_type"] in ("stream", "error"):
            words = data.get("text") or "\n".join(data.get("traceback", []))
            return self.printed(words)
        bundle = data["data"]
        for mime in ("image/svg+xml", "image/png", "text/html", "text/plain"):
            if mime in bundle and mime.startswith("image"):
                alt = getattr(self, "alt", "") or "Figure made by the code above"
                return self.on_image({"url": bundle[mime]["path"], "alt": alt})
            if mime in bundle:
                entry = bundle[mime]
                words = entry["content"] if "content" in entry else fetch(entry["path"]).decode()
                words = (
                    re.sub(r"<style.*?</style>| border=\"1\"", "", words, flags=re.DOTALL)
                    if "html" in mime
                    else words
                )
                return (
                    tag("div", words, class_="scroll", tabindex="0")
                    if "html" in mime
                    else self.printed(words)
                )
        return ""

    def printed(self, words: str) -> str:
        words = re.sub(r"\x1b\[[0-9;]*m", "", words).rstrip("\n")
        return f'<pre class="output" tabindex="0">{html.escape(words)}</pre>'

    def on_list(self, node: dict) -> str:
        return tag(
            "ol" if node.get("ordered") else "ul",
            self.children(node),
            start=node.get("start") if node.get("start", 1) != 1 else None,
        )

    def on_table(self, node: dict) -> str:
        return tag("div", tag("table", self.children(node)), class_="scroll", tabindex="0")

    def on_tableCell(self, node: dict) -> str:
        return tag(
            "th" if node.get("header") else "td",
            self.children(node),
            style=f"text-align:{node['align']}" if node.get("align") else None,
        )

    def on_definitionTerm(self, node: dict) -> str:
        return tag("dt", self.children(node), id=node.get("html_id"))

    def on_admonition(self, node: dict) -> str:
        kind, title = node.get("kind", "note"), node["children"][0]
        if "dropdown" in node.get("class", ""):
            rest = self.children({"children": node["children"][1:]})
            words = re.sub(r"</?a\b[^>]*>", "", self.children(title))  # no link within what unfolds
            return tag("details", tag("summary", words) + rest, class_=f"note {kind}")
        return tag("aside", self.children(node), class_=f"note {kind}", aria_label=text_of(title))

    def on_admonitionTitle(self, node: dict) -> str:
        return tag("p", self.children(node), class_="title")

    def on_exercise(self, node: dict) -> str:
        title = f"Exercise {self.number(node, self.slug)}"
        children = node["children"]
        if children and children[0]["type"] == "admonitionTitle":
            title, children = f"{title}. {self.children(children[0])}", children[1:]
        return tag(
            "section",
            tag("p", title, class_="title") + self.children({"children": children}),
            class_="exercise",
            id=node["html_id"],
        )

    def on_solution(self, node: dict) -> str:
        return self.on_admonition({**node, "kind": "solution"})

    def on_footnoteReference(self, node: dict) -> str:
        return tag(
            "sup",
            tag(
                "a",
                node["enumerator"],
                href=f"#fn-{node['identifier']}",
                data_preview=f"#fn-{node['identifier']}",
            ),
        )

    def on_footnoteDefinition(self, node: dict) -> str:
        self.notes.append(tag("li", self.children(node), id=f"fn-{node['identifier']}"))
        return ""
