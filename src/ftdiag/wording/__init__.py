"""Words: every label and phrase that more than one view shows, each in one place.

In: values of the model. Out: plain text without markup or styles. Names that the target chose are put in as
they are, or through a function of the painter (`Shown`) that makes them fit to be shown.
"""

from __future__ import annotations

from collections.abc import Callable

Shown = Callable[[str], str]
"""What a text that the target chose is shown as: escaped and bounded, or itself if the painter does that."""
