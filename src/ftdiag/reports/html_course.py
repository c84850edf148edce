"""Pictures of a range over time for the HTML report: time line, lanes of threads, flame graph.

In: answers of a session (`Course`). Out: SVG and HTML in the colours of the states. The report's one script
zooms and searches the flame graph; it is fixed, and the document's policy names its hash.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ftdiag.datatypes import dataclass
from ftdiag.model import CorePart, Snapshot, ThreadState
from ftdiag.reports.escaping import visible
from ftdiag.reports.html_charts import colour_of
from ftdiag.reports.html_parts import escape
from ftdiag.wording import units
from ftdiag.wording.places import frame_words, place_in
from ftdiag.wording.states import STATE_NAMES, STATE_OF_PART
from ftdiag.wording.threads import thread_name

if TYPE_CHECKING:
    # Brings numpy, which a report of a snapshot alone does not need.
    from ftdiag.session import Box, Lanes, Session, Timeline

SLICES: Final = 300
SHOWN_LANES: Final = 64
LANE_PX: Final = 16
WIDTH: Final = 1000
LEFT: Final = 170
"""Room for the names of threads, and for the scale."""
TALL: Final = 200
FLAME_ROW_PX: Final = 18
STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
MOST_TIMES: Final = 8
HALF_A_TIME: Final = 16
"""Half of the width of a time on the axis."""
MARKED_PAUSE: Final = 0.02
"""Share of the capacity that pauses must have cost in a slice to be marked below the time line."""
_STATE_OF: Final = {int(state): state for state in ThreadState}

SCRIPT: Final = """
(function(){var flame=document.getElementById('flame');if(!flame)return;
var boxes=[].slice.call(flame.querySelectorAll('.box'));
var find=document.getElementById('find'),found=document.getElementById('found');
var whole=document.getElementById('whole');
function zoom(from,share){boxes.forEach(function(box){var b=+box.dataset.b,s=+box.dataset.s;
var left=(b-from)/share,wide=s/share;if(left<0){wide+=left;left=0}if(left+wide>1)wide=1-left;
box.style.display=wide>0.0004?'':'none';box.style.left=100*left+'%';box.style.width=100*wide+'%'})}
boxes.forEach(function(box){function go(){zoom(+box.dataset.b,+box.dataset.s)}
box.addEventListener('click',go);
box.addEventListener('keydown',function(event){if(event.key==='Enter')go()})});
whole.addEventListener('click',function(){zoom(0,1)});
find.addEventListener('input',function(){var words=find.value.toLowerCase(),sum=0,ends=[];
boxes.forEach(function(box){var hit=words!==''&&box.title.toLowerCase().indexOf(words)>=0;
box.classList.toggle('hit',hit);var b=+box.dataset.b,s=+box.dataset.s;
if(hit&&!ends.some(function(e){return b>=e[0]-1e-9&&b+s<=e[1]+1e-9})){ends.push([b,b+s]);sum+=s}});
found.textContent=words===''?'':Math.round(100*sum)+' % of thread-time'})})();
"""
SCRIPT_HASH: Final = "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()


@dataclass(frozen=True, slots=True)
class Course:
    """A range over time, as far as it is known: cores, threads, who calls whom."""

    timeline: Timeline | None
    lanes: Lanes | None
    flame: tuple[Box, ...]


def course_of(session: Session, t0_ns: int | None, t1_ns: int | None) -> Course:
    """What the pictures of a range are made of."""
    return Course(
        session.timeline(t0_ns, t1_ns, SLICES),
        session.lanes(t0_ns, t1_ns, SLICES),
        session.flame_graph(t0_ns, t1_ns),
    )


# --- over time -------------------------------------------------------------------------------------------


def time_line(line: Timeline | None, start_ns: int) -> Iterator[str]:
    """The account of cores over time, as a stack that always fills the capacity."""
    if line is None or line.capacity_cores is None or not line.account:
        return
    slices = len(line.on_cpu_cores)
    order = [part for part in CorePart if part in line.account and part is not CorePart.NO_DEMAND]
    wide = (WIDTH - LEFT) / slices
    below = [0.0] * slices
    shapes = []
    for part in order:
        values = [value or 0.0 for value in line.account[part]]
        above = [low + value for low, value in zip(below, values, strict=True)]
        upper = _edge(above, line.capacity_cores, wide, range(slices))
        lower = _edge(below, line.capacity_cores, wide, reversed(range(slices)), back=True)
        name = escape(STATE_NAMES[STATE_OF_PART[part]] if part is not CorePart.USEFUL else "useful")
        shapes.append(
            f'<path d="M{upper}L{lower}Z" style="fill:{colour_of(STATE_OF_PART[part])}">'
            f"<title>{name}</title></path>"
        )
        below = above
    shapes += _pauses(line, wide)
    top = f"{line.capacity_cores:g} cores"
    yield (
        f'<div class="across"><svg class="wide" viewBox="0 0 {WIDTH} {TALL + 26}" role="img"'
        f' aria-label="cores over time, by what they were there for">'
        f'<rect x="{LEFT}" y="4" width="{WIDTH - LEFT}" height="{TALL}" class="ground"/>'
        f'{"".join(shapes)}<text x="{LEFT - 6}" y="14" text-anchor="end">{top}</text>'
        f'<text x="{LEFT - 6}" y="{TALL + 4}" text-anchor="end">0</text>'
        f"{_axis(line.t0_ns, line.t1_ns, start_ns, TALL + 20)}</svg></div>"
    )


def _pauses(line: Timeline, wide: float) -> Iterator[str]:
    """Slices with stop-the-world pauses, as ticks at the foot of the time line."""
    least = MARKED_PAUSE * (line.capacity_cores or 1.0)
    stopped = line.account.get(CorePart.STOPPED, ())
    places = [place for place, value in enumerate(stopped) if (value or 0.0) >= least]
    if places:
        paths = "".join(
            f"M{LEFT + place * wide:.1f} {TALL + 4}h{max(1.0, wide):.1f}v5h-{max(1.0, wide):.1f}z"
            for place in places
        )
        name = escape(STATE_NAMES[ThreadState.STOPPED])
        yield (
            f'<path d="{paths}" style="fill:{colour_of(ThreadState.STOPPED)}">'
            f"<title>pauses: {name}</title></path>"
        )


def _edge(
    values: Sequence[float],
    capacity: float,
    wide: float,
    places: Iterator[int] | range,
    *,
    back: bool = False,
) -> str:
    points = []
    for place in places:
        y = 4 + TALL * (1 - min(1.0, values[place] / capacity))
        left, right = LEFT + place * wide, LEFT + (place + 1) * wide
        ends = (right, left) if back else (left, right)
        points.append(f"{ends[0]:.1f} {y:.1f} {ends[1]:.1f} {y:.1f}")
    return " ".join(points)


def _axis(t0_ns: int, t1_ns: int, start_ns: int, y: int) -> str:
    length_s = max(1e-9, (t1_ns - t0_ns) / 1e9)
    begin_s = (t0_ns - start_ns) / 1e9
    step = next((step for step in STEPS_S if length_s / step <= MOST_TIMES), STEPS_S[-1])
    marks: list[str] = []
    mark = int(-(-begin_s // step)) * step
    while mark <= begin_s + length_s and len(marks) <= MOST_TIMES + 1:
        x = LEFT + (mark - begin_s) / length_s * (WIDTH - LEFT)
        minutes, seconds = divmod(mark, 60)
        # What stands at an edge stays inside.
        anchor = "start" if x < LEFT + HALF_A_TIME else "end" if x > WIDTH - HALF_A_TIME else "middle"
        marks.append(f'<text x="{x:.0f}" y="{y}" text-anchor="{anchor}">{minutes}:{seconds:02}</text>')
        mark += step
    return "".join(marks)


def lanes(snapshot: Snapshot, of: Lanes | None, start_ns: int) -> Iterator[str]:
    """What each thread did over time: a row of stretches in the colour of the state."""
    if of is None or not of.states:
        return
    shown = [thread for thread in snapshot.threads if thread.info.index in of.states]
    shown.sort(key=lambda thread: (-thread.cpu_ns, thread.info.index))
    left_out = len(shown) - SHOWN_LANES
    wide = (WIDTH - LEFT) / max(1, of.slices)
    rows = []
    for row, thread in enumerate(shown[:SHOWN_LANES]):
        y = row * LANE_PX
        name = visible(thread_name(thread.info), limit=200)
        cut = name if len(name) <= 24 else f"{name[:12]}…{name[-11:]}"
        rows.append(f'<text x="{LEFT - 6}" y="{y + 12}" text-anchor="end">{escape(cut)}</text>')
        by_state: dict[ThreadState, list[str]] = {}
        place = 0
        for code, same in itertools.groupby(of.states[thread.info.index]):
            count = len(list(same))
            state = _STATE_OF.get(code)
            if state is not None:
                x = LEFT + place * wide
                by_state.setdefault(state, []).append(
                    f"M{x:.1f} {y + 2}h{count * wide:.1f}v12h-{count * wide:.1f}z"
                )
            place += count
        rows += [
            f'<path d="{"".join(paths)}" style="fill:{colour_of(state)}">'
            f"<title>{escape(name)}: {escape(STATE_NAMES[state])}</title></path>"
            for state, paths in by_state.items()
        ]
    tall = LANE_PX * min(len(shown), SHOWN_LANES)
    yield (
        f'<div class="across"><svg class="wide" viewBox="0 0 {WIDTH} {tall + 20}" role="img"'
        f' aria-label="what each thread did over time">{"".join(rows)}'
        f"{_axis(of.t0_ns, of.t1_ns, start_ns, tall + 14)}</svg></div>"
    )
    if left_out > 0:
        yield f'<p class="soft">and {units.plural(left_out, "more thread")}</p>'


# --- the flame graph -------------------------------------------------------------------------------------


def flame(boxes: Sequence[Box]) -> Iterator[str]:
    """Who calls whom: as wide as the thread-time, in the colour of the state that most of it went to."""
    if not boxes:
        return
    tall = (1 + max(box.depth for box in boxes)) * FLAME_ROW_PX
    yield (
        '<p class="soft">Thread-time by function; a box stands on its caller.'
        ' <span class="act">Click (or Enter) looks closer.</span>'
        ' <button type="button" id="whole">all of it</button>'
        ' <label>find <input id="find" type="search"></label> <span id="found"></span></p>'
    )
    made = []
    for box in boxes:
        title = (
            f"{frame_words(box.frame, visible)}: {units.percent(box.share, 1)} of thread-time, itself"
            f" {units.percent(box.self_share, 1)}, mostly {STATE_NAMES[box.state]}"
        )
        label = visible(place_in(box.frame).partition(" (")[0], limit=80)
        made.append(
            f'<div class="box" tabindex="0" data-b="{box.begin:.5f}" data-s="{box.share:.5f}"'
            f' style="left:{100 * box.begin:.3f}%;width:{100 * box.share:.3f}%;'
            f'bottom:{box.depth * FLAME_ROW_PX}px;--of:{colour_of(box.state)}"'
            f' title="{escape(title)}">{escape(label)}</div>'
        )
    yield f'<div id="flame" style="height:{tall}px">{"".join(made)}</div><script>{SCRIPT}</script>'
