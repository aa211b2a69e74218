"""growth.svg: each case at each size."""

from __future__ import annotations

import math

from tests.bench.growth import Growth

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}" font-family="sans-serif" font-size="12">'
LEFT, TOP, WIDTH, ROW = 300, 50, 420, 20
COLOURS = ("#94a3b8", "#6366f1", "#ef4444")


def plot(sizes: list[int], table: list[Growth]) -> str:
    """A dot for each case and size, on a logarithmic scale of ratios."""
    largest = max(2.0, *(ratio[0] for growth in table for ratio in growth.ratios if ratio))
    decades = max(1, math.ceil(math.log10(largest)))

    def x(ratio: float) -> float:
        return LEFT + WIDTH * (math.log10(max(ratio, 0.1)) + 1) / (decades + 1)

    height = TOP + ROW * len(table) + 20
    parts = [
        SVG.format(LEFT + WIDTH + 40, height),
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for decade in range(-1, decades + 1):
        at = x(10.0**decade)
        parts.append(f'<line x1="{at}" x2="{at}" y1="{TOP - 10}" y2="{height - 20}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{at}" y="{height - 5}" text-anchor="middle" fill="#64748b">{10.0**decade:g} x</text>')
    for place, size in enumerate(sizes):
        at = LEFT + place * 140
        parts.append(f'<circle cx="{at}" cy="20" r="5" fill="{COLOURS[place]}"/>')
        parts.append(f'<text x="{at + 10}" y="24">{size:,} customers</text>')
    for row, growth in enumerate(table):
        y = TOP + ROW * row + 5
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{growth.name}</text>')
        dots = zip(growth.ratios, COLOURS, strict=False)
        parts += [f'<circle cx="{x(ratio[0]):.1f}" cy="{y}" r="5" fill="{colour}"/>' for ratio, colour in dots if ratio]
    return "\n".join([*parts, "</svg>", ""])
