"""Horizontal bars as SVG without a library or fonts, readable on light and on dark pages."""

from html import escape

WIDTH, LEFT, RIGHT = 760, 190, 70
BAR, STEP, HEAD, GAP, TOP = 14, 19, 26, 14, 44
STYLE = """
  .page { fill: #ffffff } text { fill: #1f2328; font: 12px system-ui, sans-serif } .title { font-size: 15px }
  .title, .mix { font-weight: 600 } .own { fill: #0f766e } .peer { fill: #8b98a9 } .floor { stroke: #b45309 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #e6edf3 } .own { fill: #2dd4bf } .peer { fill: #64748b }
    .floor { stroke: #fbbf24 }
  }
"""


def draw(title, groups):
    """`groups` are (mix, [(label, value, peer)]); each group has its own scale, with the echo as a line through it."""
    groups = [(mix, bars) for mix, bars in groups if bars]
    height = TOP + sum(HEAD + len(bars) * STEP + GAP for _mix, bars in groups)
    parts = [f'<rect class="page" width="{WIDTH}" height="{height}"/>', text(16, 26, title, "title")]
    y = TOP
    for mix, bars in groups:
        parts.append(text(16, y + 14, mix, "mix"))
        y += HEAD
        parts += group(bars, y)
        y += len(bars) * STEP + GAP
    body = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{escape(title)}</title>'
    return f"{head}\n<style>{STYLE}</style>\n{body}\n</svg>\n"


def group(bars, y):
    scale = (WIDTH - LEFT - RIGHT) / max(value for _label, value, _peer in bars)
    for number, (label, value, peer) in enumerate(bars):
        top, length = y + number * STEP, max(1, value * scale)
        kind = "peer" if peer else "own"
        yield text(LEFT - 8, top + 11, label, "label", "end")
        yield f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        yield text(LEFT + length + 6, top + 11, f"{value:,.2f}", "value")
    for floor in (value for label, value, _peer in bars if label == "echo"):
        x, end = LEFT + floor * scale, y + len(bars) * STEP - 3
        yield f'<line class="floor" x1="{x:.1f}" y1="{y - 3}" x2="{x:.1f}" y2="{end}" stroke-dasharray="3 3"/>'


def text(x, y, words, kind, anchor="start"):
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
