"""Where the boxes of a graph go: in layers from top to bottom, their edges around each other (grandalf)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from grandalf.graphs import Edge as Line
from grandalf.graphs import Vertex, graph_core
from grandalf.layouts import SugiyamaLayout, VertexViewer

ACROSS, DOWN, NARROW = 26, 34, 4  # between boxes beside and below each other, and what an edge takes
PASSES = 3  # of sweeps that untangle
ALONE = 30  # between parts that nothing joins
MOST_PASSED = 100_000  # layers, by all edges of a graph
Point = tuple[float, float]
Edge = tuple[int, int]  # numbers of boxes


@dataclasses.dataclass
class Box:
    width: float
    height: float
    texts: Sequence[Any]
    colour: str
    title: str
    x: float = 0  # of its middle, once it is placed
    y: float = 0


def place(boxes: Sequence[Box], edges: Sequence[Edge]) -> tuple[list[list[Point]], float, float]:
    """Put the boxes where they belong; returns the points that each edge goes through, the width and the height.

    An edge leads from a box to a later one.
    """
    vertices = [Vertex(number) for number in range(len(boxes))]
    for vertex, box in zip(vertices, boxes):
        vertex.view = VertexViewer(box.width, box.height)
    lines = [Line(vertices[start], vertices[end])
             for start, end in laid_out(len(boxes), edges)]
    routes: dict[Edge, list[Point]] = {}
    left = height = 0.0
    for members, joints in parts(vertices, lines):
        part = graph_core(members, joints)
        layout = SugiyamaLayout(part)
        layout.xspace, layout.yspace, layout.dw, layout.dh = ACROSS, DOWN, NARROW, NARROW
        layout.init_all(inverted_edges=[], optimize=True)
        layout.draw(PASSES)
        halves = [max(vertex.view.h for vertex in layer) / 2 for layer in layout.layers]
        drawn = dict(route(layout, line, halves) for line in part.E())
        sides = [side for vertex in part.sV for side in (vertex.view.xy[0] - vertex.view.w / 2,
                                                         vertex.view.xy[0] + vertex.view.w / 2)]
        sides += [x for points in drawn.values() for x, _ in points]
        shift = left - min(sides)
        for vertex in part.sV:
            box = boxes[vertex.data]
            box.x, box.y = round(vertex.view.xy[0] + shift, 1), round(vertex.view.xy[1], 1)
            height = max(height, box.y + box.height / 2)
        routes |= {ends: [(round(x + shift, 1), round(y, 1)) for x, y in points] for ends, points in drawn.items()}
        left += max(sides) - min(sides) + ALONE
    return [straightened(routes.get(edge) or direct(boxes, edge)) for edge in edges], max(left - ALONE, 0), height


def parts(vertices: Sequence[Vertex], lines: Sequence[Line]) -> list[tuple[list[Vertex], list[Line]]]:
    """The vertices and edges that hang together; grandalf finds them too, in quadratic time."""
    owner = list(range(len(vertices)))

    def find(number: int) -> int:
        while owner[number] != number:
            owner[number] = number = owner[owner[number]]
        return number

    for line in lines:
        owner[find(line.v[1].data)] = find(line.v[0].data)
    found: dict[int, tuple[list[Vertex], list[Line]]] = {}
    for vertex in vertices:
        found.setdefault(find(vertex.data), ([], []))[0].append(vertex)
    for line in lines:
        found[find(line.v[0].data)][1].append(line)
    return list(found.values())


def laid_out(count: int, edges: Sequence[Edge]) -> list[Edge]:
    """The edges that the layout takes into account, each once: all, unless they pass too many layers together."""
    depths = [0] * count
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        depths[end] = max(depths[end], depths[start] + 1)
    room, kept = MOST_PASSED, []
    for start, end in sorted(dict.fromkeys(edges), key=lambda edge: depths[edge[1]] - depths[edge[0]]):
        room -= depths[end] - depths[start]
        if room < 0:
            break
        kept.append((start, end))
    return sorted(kept, key=lambda edge: edge[::-1])


def direct(boxes: Sequence[Box], edge: Edge) -> list[Point]:
    """The way of an edge that isn't laid out."""
    start, end = (boxes[number] for number in edge)
    return [(start.x, start.y + start.height / 2), (end.x, end.y - end.height / 2)]


def route(layout: SugiyamaLayout, line: Line, halves: Sequence[float]) -> tuple[Edge, list[Point]]:
    """The ends of an edge and the points that it goes through: it turns between layers alone, where no box is.

    halves: of the layers' heights.
    """
    start, end = line.v
    first, last = layout.grx[start].rank, layout.grx[end].rank
    points = [(start.view.xy[0], start.view.xy[1] + start.view.h / 2)]
    for rank in range(first, last + 1):
        x, y = (layout.ctrls[line][rank] if line in layout.ctrls else (start if rank == first else end)).view.xy
        points += [(x, y - halves[rank])] * (rank > first) + [(x, y + halves[rank])] * (rank < last)
    return (start.data, end.data), [*points, (end.view.xy[0], end.view.xy[1] - end.view.h / 2)]


def straightened(points: list[Point]) -> list[Point]:
    """Without the points in the midst of a straight way down."""
    return [point for number, point in enumerate(points)
            if not 0 < number < len(points) - 1 or not points[number - 1][0] == point[0] == points[number + 1][0]]
