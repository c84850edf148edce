"""The one failure of provisioning that a person sees: what failed, why, and what to do.

In: nothing. Out: `ProvisioningFailure`.
"""

from __future__ import annotations


class ProvisioningFailure(Exception):
    """An interpreter could not be had this way. `what` includes the reason; `remedy` is the next step."""

    def __init__(self, what: str, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return self.what if self.remedy is None else f"{self.what}\n{self.remedy}"
