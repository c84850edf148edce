"""The first line of a report and the list of what to fix first agree on every sample, or say why not."""

from __future__ import annotations

import pytest

from ftdiag.model import BottleneckKind
from ftdiag.wording.answer import costliest
from ftdiag.wording.bottlenecks import bottleneck_sentences, ranking_words, same_cause, worth_saying
from golden.test_baseline import IDS, RECORDED, snapshot_of
from tools.samples import Sample


@pytest.mark.parametrize(("version", "sample"), RECORDED, ids=IDS)
def test_answer_and_list_agree_or_say_why(version: str, sample: Sample) -> None:
    # GIVEN a recording with an answer and a list WHEN compared
    snapshot = snapshot_of(version, sample.name)
    found, finding = snapshot.bottlenecks, costliest(snapshot)
    if found is None or found.not_told is not None or finding is None or not worth_saying(found):
        assert ranking_words(snapshot) is None
        return
    first, why = worth_saying(found)[0], ranking_words(snapshot)
    # THEN both begin with the same, or the list says why it does not
    assert (why is None) is same_cause(finding, first)
    sentences = [text for _, text in bottleneck_sentences(snapshot, str)]
    assert (why in sentences) is (why is not None)
    # THEN too few cores are not first where a lock or a line costs more
    if first.kind is BottleneckKind.CORES:
        others = [one for one in found.ranked if one.kind is not BottleneckKind.CORES and not one.context]
        assert all(one.gain_cores <= max(finding.lost_cores, 0.02) for one in others)


def test_they_differ_rarely() -> None:
    # GIVEN all recordings WHEN counted THEN at most one in ten needs the sentence
    differ = [
        f"{version} {sample.name}"
        for version, sample in RECORDED
        if ranking_words(snapshot_of(version, sample.name)) is not None
    ]
    assert len(differ) <= len(RECORDED) / 10, differ
