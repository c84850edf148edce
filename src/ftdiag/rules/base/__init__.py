"""What a rule is made of: facts of a range in, a verdict out.

In: `Facts`, everything that is known of one range of a recording. Out: `Found`, `Clear` or `NotApplicable`
with the reason. This is what rules of other packages import.

A rule says what data it needs, names its thresholds each with a reason, has its prose beside them, and
declares what it claims: locks, lines, libraries, stops, shapes of programs. Who is charged with which lost
core is decided once, in `attribution.charges`, by these claims and their priorities, so that one cause is
one finding.
"""

from __future__ import annotations

from ftdiag.rules.base.charged import Charges, LineCharge, LockCharge, Shape, Shortage
from ftdiag.rules.base.claims import (
    SPIN_SHARE,
    Claims,
    LibraryClaim,
    LineClaim,
    LockClaim,
    Priority,
    ShapeClaim,
    StopCause,
    Wasted,
)
from ftdiag.rules.base.facts import Attribution, Facts, Need, Now, Room
from ftdiag.rules.base.rule import NO_LOSS, NOTHING_GAINS, Advice, Rule, Without
from ftdiag.rules.base.verdicts import (
    MOSTLY_SHARE,
    RELATIVE_DIGITS,
    RESOLVE_SHARE,
    SHORT_HOLD,
    WORTH_SAYING,
    Clear,
    Found,
    Judgement,
    NotApplicable,
    Threshold,
    Verdict,
    evidence,
    finite,
    key_of,
    subject_of,
)

__all__ = [
    "MOSTLY_SHARE",
    "NOTHING_GAINS",
    "NO_LOSS",
    "RELATIVE_DIGITS",
    "RESOLVE_SHARE",
    "SHORT_HOLD",
    "SPIN_SHARE",
    "WORTH_SAYING",
    "Advice",
    "Attribution",
    "Charges",
    "Claims",
    "Clear",
    "Facts",
    "Found",
    "Judgement",
    "LibraryClaim",
    "LineCharge",
    "LineClaim",
    "LockCharge",
    "LockClaim",
    "Need",
    "NotApplicable",
    "Now",
    "Priority",
    "Room",
    "Rule",
    "Shape",
    "ShapeClaim",
    "Shortage",
    "StopCause",
    "Threshold",
    "Verdict",
    "Wasted",
    "Without",
    "evidence",
    "finite",
    "key_of",
    "subject_of",
]
