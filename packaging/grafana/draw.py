#!/usr/bin/env python3
"""Draws the panels of the dashboard as a picture (SVG), from the data of a Prometheus that scrapes Tapis.

  packaging/grafana/draw.py http://127.0.0.1:9090 docs/dashboard.svg [--seconds 75]
"""
import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from html import escape
from pathlib import Path

UNIT_WIDTH, UNIT_HEIGHT, GAP = 50, 28, 6  # pixels of a unit of the dashboard's grid, and between panels
COLOURS = ["#3274d9", "#e0752d", "#56a64b", "#a352cc", "#c4162a", "#b89800", "#1f8a92", "#8a6d3b"]
RATE = "10s"  # the time over which rates are computed


def ask(server, path, **query):
    with urllib.request.urlopen(f"{server}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
        return json.load(answer)["data"]["result"]


def number(value, unit):
    """A value as a short text with its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        for size, name in ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (0, "µs")):
            if abs(value) >= size:
                return f"{value / (size or 1e-6):.3g} {name}" if value else "0 s"
    step, names = (1024, ["", "Ki", "Mi", "Gi"]) if unit == "bytes" else (1000, ["", "k", "M", "G"])
    power = 0
    while abs(value) >= step and power < 3:
        value, power = value / step, power + 1
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {names[power]}{ {'bytes': 'B', 'reqps': '/s'}.get(unit, '')}".strip()


def series(server, panel, end, seconds):
    """The lines of a panel: the legend, and times with values."""
    lines = []
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", RATE).replace("$instance", ".*")
        for found in ask(server, "query_range", query=query, start=end - seconds, end=end, step=1):
            labels = found["metric"]
            legend = re.sub(r"{{ *(\w+) *}}", lambda label: labels.get(label[1], ""), target["legendFormat"])
            values = [(at, float(value)) for at, value in found["values"]]
            lines.append((legend.strip(), [(at, value) for at, value in values if math.isfinite(value)]))
    return [line for line in lines if line[1]]


def text(x, y, content, size=11, colour="#444", more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}"{more}>{escape(content)}</text>'


def draw_stat(panel, lines, width, height):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    value = number(lines[0][1][-1][1], unit) if lines else "no data"
    return [text(width / 2, height / 2 + 22, value, 26, COLOURS[0], ' text-anchor="middle"')]


def draw_lines(panel, lines, width, height, start, end):
    if not lines:
        return [text(width / 2, height / 2, "no data", more=' text-anchor="middle"')]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    # The largest lines get the places of the legend.
    lines = sorted(lines, key=lambda line: -max(value for _, value in line[1]))
    shown = lines[:8]
    rows = (len(shown) + 1) // 2
    left, top, right, bottom = 58, 30, width - 10, height - 12 - 15 * rows
    most = max(max(value for _, value in points) for _, points in lines) * 1.05 or 1
    out = []
    for part in range(5):
        y = bottom - (bottom - top) * part / 4
        out.append(f'<path d="M{left} {y:.1f}H{right:.0f}" stroke="#e4e4e4"/>')
        out.append(text(left - 5, y + 4, number(most * part / 4, unit), 10, "#777", ' text-anchor="end"'))
    for at, (_, points) in reversed(list(enumerate(lines))):
        place = [
            f"{left + (right - left) * (moment - start) / (end - start):.1f},{bottom - (bottom - top) * max(value, 0) / most:.1f}"
            for moment, value in points
        ]
        out.append(f'<polyline points="{" ".join(place)}" fill="none" stroke="{COLOURS[at % 8]}" stroke-width="1.5"/>')
    for at, (legend, points) in enumerate(shown):
        x, y = 10 + at % 2 * (width / 2), height - 15 * (rows - at // 2) + 6
        out.append(f'<rect x="{x:.0f}" y="{y - 8:.0f}" width="10" height="8" fill="{COLOURS[at]}"/>')
        limit = int(width / 2 / 6.5)
        label = f"{legend}: {number(points[-1][1], unit)}" if legend else number(points[-1][1], unit)
        out.append(text(x + 14, y, label if len(label) <= limit else label[: limit - 1] + "…", 10))
    return out


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("server", help="the URL of Prometheus")
    arguments.add_argument("file", type=Path, help="the picture")
    arguments.add_argument("--seconds", type=int, default=75, help="how much time the picture shows (default: 75)")
    arguments = arguments.parse_args()
    server, end = arguments.server.rstrip("/"), time.time()
    dashboard = json.loads(Path(__file__).with_name("tapis.json").read_text())
    panels, out = dashboard["panels"], []
    for panel in panels:
        place = panel["gridPos"]
        width, height = place["w"] * UNIT_WIDTH - GAP, place["h"] * UNIT_HEIGHT - GAP
        out.append(f'<g transform="translate({place["x"] * UNIT_WIDTH + GAP},{place["y"] * UNIT_HEIGHT + GAP})">')
        out.append(f'<rect width="{width}" height="{height}" rx="3" fill="#fff" stroke="#d4d4d4"/>')
        out.append(text(10, 18, panel["title"], 12, "#222", ' font-weight="bold"'))
        lines = series(server, panel, end, arguments.seconds)
        is_stat = panel["type"] == "stat"
        out += draw_stat(panel, lines, width, height) if is_stat else draw_lines(
            panel, lines, width, height, end - arguments.seconds, end
        )
        out.append("</g>")
    width = 24 * UNIT_WIDTH + GAP
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * UNIT_HEIGHT + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    ground = f'<rect width="{width}" height="{height}" fill="#f4f5f5"/>'
    arguments.file.write_text("\n".join([head, ground, *out, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
