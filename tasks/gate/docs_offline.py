"""Makes great-expectations' pages whole by themselves: a hospital's network leads to none of the sites they load.

Scripts, and styles, fonts and images of other hosts are taken out; a style of our own takes their place, and an index
of our own that of the one that its scripts would draw.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.IGNORECASE | re.DOTALL)
_FOREIGN = re.compile(r"<(?:link|img|iframe)\b[^>]*?(?:href|src)\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.IGNORECASE)
_HEAD = re.compile(r"</head\s*>", re.IGNORECASE)
_POLICY = "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'"
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem;color:#1b1f24}
table{border-collapse:collapse;margin:.5rem 0 1rem}
td,th{border:1px solid #c8ced6;padding:.3rem .6rem;text-align:left;vertical-align:top}
.row{display:flex;flex-wrap:wrap;gap:1rem}.collapse{display:block}
.badge{background:#e6eaef;border-radius:.3rem;padding:0 .4rem}
.alert-success,.text-success,.fa-check-circle{color:#176c34}.alert-danger,.text-danger,.fa-times{color:#a31621}
.fa-check-circle::before{content:"\\2713"}.fa-times::before{content:"\\2717"}nav,.modal,.btn{display:none}
"""
_HEADER = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style></head>'


def whole(folder: Path) -> None:
    """Rewrite every page below a folder so that it loads nothing from elsewhere."""
    for page in folder.rglob("*.html"):
        text = _FOREIGN.sub("", _SCRIPT.sub("", page.read_text(encoding="utf-8")))
        page.write_text(_HEAD.sub(lambda _match: _HEADER, text, count=1), encoding="utf-8")


def index(folder: Path, feed: str, pages: Iterable[Mapping[str, Any]]) -> None:
    """Write the list of a feed's pages, in place of the one that scripts draw."""
    rows = "".join(
        f"<tr><td>{page['batch']}</td><td>{html.escape(page['at'])}</td><td>{html.escape(page['table'])}</td>"
        f"<td>{page['held']}</td><td>{page['failed']}</td><td><a href='{html.escape(page['to'])}'>page</a></td></tr>"
        for page in pages
    )
    title = f"Checks of {html.escape(feed)}"
    (folder / "index.html").write_text(
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>{_HEADER}<body><h1>{title}"
        "</h1><table><tr><th>batch</th><th>checked</th><th>table</th><th>held</th><th>failed</th><th></th></tr>"
        f"{rows}</table></body></html>",
        encoding="utf-8",
    )
