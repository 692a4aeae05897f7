"""A trace as a drawn graph: deliveries, records, runs and batches, versions, destinations, from left to right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

COLUMNS = ("delivery", "record", "run", "batch", "version", "destination", "act")
WIDTH, HEIGHT, GAP, MARGIN = 230, 46, 18, 20
COLOURS = dict(zip(COLUMNS, ("#e8f1fb", "#eaf6ea", "#f3f3f3", "#fff4dd", "#f3ecfa", "#fdeaea", "#ececec"), strict=True))
STYLE = (
    "text{font:12px sans-serif;fill:#222}text.small{font-size:10px;fill:#555}rect{stroke:#8a8a8a}path{stroke:#8a8a8a}"
)

PAGE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;font-size:12px}"
    "td,th{border:1px solid #ccc;padding:3px 6px;text-align:left}"
)


@dataclass(frozen=True, slots=True)
class Node:
    """A box: its kind is its column, `title` and `more` are its two lines, `link` is where it leads."""

    kind: str
    title: str
    more: str = ""
    link: str = ""


def svg(steps: Sequence[dict[str, Any]], runs: str | None = None) -> str:
    """Return the steps of a trace as one SVG that loads nothing; `runs` is the address of Prefect's pages of runs."""
    nodes, edges = _graph(steps, runs)
    columns = [kind for kind in COLUMNS if any(node.kind == kind for node in nodes.values())]
    places: dict[str, tuple[int, int]] = {}
    rows = [0] * len(columns)
    for key, node in nodes.items():
        column = columns.index(node.kind)
        places[key] = (MARGIN + column * (WIDTH + 50), MARGIN + 20 + rows[column] * (HEIGHT + GAP))
        rows[column] += 1
    width = 2 * MARGIN + len(columns) * (WIDTH + 50) - 50
    height = 2 * MARGIN + 20 + max(rows, default=0) * (HEIGHT + GAP)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="lineage"><style>{STYLE}</style>']
    parts += [f'<text x="{MARGIN + n * (WIDTH + 50)}" y="{MARGIN + 6}">{kind}</text>' for n, kind in enumerate(columns)]
    parts += [_edge(places[one], places[other]) for one, other in edges]
    parts += [_box(node, *places[key]) for key, node in nodes.items()]
    return "".join(parts) + "</svg>\n"


def html(steps: Sequence[dict[str, Any]], thing: str, runs: str | None = None) -> str:
    """Return the steps of a trace as one page: the graph, and under it every step with all that is known."""
    names = list(dict.fromkeys(name for step in steps for name in step))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_text(step.get(name))}</td>" for name in names) + "</tr>" for step in steps)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Lineage of {escape(thing)}</title>'
        f"<style>{PAGE}</style><h1>Lineage of {escape(thing)}</h1>{svg(steps, runs)}"
        f"<table><tr>{head}</tr>{body}</table></html>\n"
    )


def _graph(steps: Sequence[dict[str, Any]], runs: str | None) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], None] = {}
    for step in steps:
        for key, node in _nodes(step, runs):
            nodes.setdefault(key, node)
    for step in steps:
        for one, other in _edges(step):
            if one in nodes and other in nodes:
                edges[one, other] = None
    return nodes, list(edges)


def _nodes(step: dict[str, Any], runs: str | None) -> Iterator[tuple[str, Node]]:
    kind = step["kind"]
    if kind == "delivery":
        yield f"delivery {step['delivery']}", Node(kind, f"delivery {step['delivery']}", str(step["name"]))
    if kind == "record":
        yield f"record {step['record']}", Node(kind, f"record {step['record']}", f"{step['place']}, {step['state']}")
    if step.get("batch") is not None:
        maps = str(step.get("mapping_version") or "")[:16]
        yield f"batch {step['batch']}", Node("batch", f"batch {step['batch']}", f"maps {maps}")
    if step.get("run"):
        yield f"run {step['run']}", Node("run", "run", str(step["run"]), f"{runs}/{step['run']}" if runs else "")
    if kind == "version":
        state = "deleted" if step["deleted"] else "current" if step["current"] else "superseded"
        kind_of, _, key = step["resource"].partition("/")
        yield (
            f"version {step['resource']} {step['version']}",
            Node(kind, f"{kind_of} version {step['version']}, {state}", key),
        )
    if kind == "contribution" and step["version"] is not None:
        kind_of, _, key = step["resource"].partition("/")
        yield (
            f"version {step['resource']} {step['version']}",
            Node("version", f"{kind_of} version {step['version']}, of several", key),
        )
    if kind == "destination":
        said = f"{step['status']} {step['code']}, version {step['version']}"
        yield f"destination {step['destination']} {step['resource']}", Node(kind, str(step["destination"]), said)
    if kind == "act":
        yield f"act {step['number']}", Node(kind, f"{step['action']} by {step['actor']}", f"audit {step['number']}")


def _edges(step: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kind = step["kind"]
    batch, run = f"batch {step.get('batch')}", f"run {step.get('run')}"
    if kind == "record":
        record = f"record {step['record']}"
        yield f"delivery {step['record'].partition(':')[0]}", record
        yield record, batch
    if kind == "batch":
        yield f"delivery {step['delivery']}", batch
    if kind in {"record", "batch"}:
        yield run, batch
    if kind in {"version", "contribution"}:
        own = f"version {step['resource']} {step['version']}"
        yield f"record {step['record']}", own
        yield batch, own
    if kind == "destination":
        yield (
            f"version {step['resource']} {step['version']}",
            f"destination {step['destination']} {step['resource']}",
        )


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y, to_x, to_y = start[0] + WIDTH, start[1] + HEIGHT // 2, end[0], end[1] + HEIGHT // 2
    middle = (x + to_x) // 2
    return f'<path d="M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}" fill="none"/>'


def _box(node: Node, x: int, y: int) -> str:
    box = (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{COLOURS[node.kind]}"/>'
        f'<text x="{x + 8}" y="{y + 19}">{_short(node.title)}</text>'
        f'<text class="small" x="{x + 8}" y="{y + 36}">{_short(node.more)}</text><title>{escape(node.more)}</title>'
    )
    return f'<a href="{escape(node.link)}"><g>{box}</g></a>' if node.link else f"<g>{box}</g>"


def _short(text: str) -> str:
    return escape(text if len(text) <= 38 else text[:37] + "…")


def _text(value: Any) -> str:
    return "" if value is None else escape(str(value))
