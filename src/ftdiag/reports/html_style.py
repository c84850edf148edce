"""The style sheet of the HTML report: light, dark, and for paper; and what the document may load: nothing.

In: the colours of the states. Out: text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ftdiag.reports.html_course import SCRIPT_HASH
from ftdiag.wording.states import (
    STATE_COLOURS,
    Colour,
)

POLICY: Final = f"default-src 'none'; style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'"
STYLE: Final = """
:root{@light}
@media (prefers-color-scheme:dark){:root{@dark}}
:root{color-scheme:light dark;--back:#fff;--text:#1c2126;--soft:#5b6670;--line:#d7dde2;--card:#f5f7f9;
--info:#3a78c2;--warning:#b97a10;--critical:#b3261e}
@media (prefers-color-scheme:dark){:root{--back:#15191d;--text:#e6eaee;--soft:#9aa6b1;--line:#333c44;
--card:#1d2329;--info:#78aef0;--warning:#e6ad4c;--critical:#f2857d}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.5rem;background:var(--back);color:var(--text);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.35rem;margin:0 0 .4rem}
h2{font-size:1.1rem;margin:2rem 0 .6rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .3rem}p{margin:.3rem 0}.soft{color:var(--soft)}
code,pre,.place{font-family:ui-monospace,monospace;font-size:.88em;overflow-wrap:anywhere}
pre{background:var(--back);border:1px solid var(--line);padding:.5rem;white-space:pre-wrap;margin:.3rem 0}
table{border-collapse:collapse;width:100%;font-size:.92em}
th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;white-space:nowrap}td{overflow-wrap:anywhere}
.bar{display:flex;height:1rem;min-width:8rem;border-radius:3px;overflow:hidden;background:var(--line)}
.bar.big{height:1.8rem}
.bar span{display:block;min-width:0;-webkit-print-color-adjust:exact;print-color-adjust:exact}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em;
-webkit-print-color-adjust:exact;print-color-adjust:exact}
ul.legend{list-style:none;padding:0;margin:.5rem 0;display:flex;flex-wrap:wrap;gap:.15rem 1.2rem}
.card{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--info);
border-radius:4px;padding:.7rem 1rem;margin:.7rem 0;break-inside:avoid}
.card.warning{border-left-color:var(--warning)}.card.critical{border-left-color:var(--critical)}
.tag{font-size:.8em;font-weight:600;text-transform:uppercase;letter-spacing:.04em;color:var(--info)}
.warning>.tag{color:var(--warning)}.critical>.tag{color:var(--critical)}
details{margin:.2rem 0}summary{cursor:pointer;color:var(--soft)}
svg{display:block;width:100%;height:auto;max-width:44rem}
svg.wide{max-width:none;min-width:44rem}.across{overflow-x:auto}
svg path,svg rect{-webkit-print-color-adjust:exact;print-color-adjust:exact}
.ground{fill:var(--card)}
#flame{position:relative;border:1px solid var(--line);overflow:hidden}
#flame .box{position:absolute;height:17px;overflow:hidden;white-space:nowrap;
font:11px/16px ui-monospace,monospace;padding:0 3px;background:var(--card);
background:color-mix(in srgb,var(--of) 30%,var(--card));border-left:1px solid var(--back);
border-top:2px solid var(--of);cursor:pointer;
-webkit-print-color-adjust:exact;print-color-adjust:exact}
#flame .box.hit{background:var(--warning);color:var(--back)}
#flame .box:focus{outline:2px solid var(--info)}
input,button{font:inherit}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
@media screen and (max-width:48rem){table{display:block;overflow-x:auto}td,th{min-width:9rem}
td.n,th.n{min-width:0}th.n{white-space:normal}body{padding:.8rem}}
@media print{script,button,label,.act{display:none}.card{break-inside:auto}
#flame,svg,pre,li{break-inside:avoid}svg.wide{min-width:0}
body{max-width:none;padding:0;font-size:11px}tr{break-inside:avoid}h2{break-after:avoid}}
"""


def style_sheet() -> str:
    return STYLE.replace("@light", palette(lambda each: each.light)).replace(
        "@dark", palette(lambda each: each.dark)
    )


def palette(which: Callable[[Colour], str]) -> str:
    return ";".join(f"--{state.label}:{which(colour)}" for state, colour in STATE_COLOURS.items())
