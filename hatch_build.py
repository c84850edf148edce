"""Builds the compiled part of the sampler into the wheel, or into the tree for an editable installation.

In: the C files of `src/ftdiag/sources/tick`, a C compiler. Out: one extension module of the stable ABI, which
serves every CPython from 3.11 on; free-threaded hosts have none yet and get one of their own. Without a
compiler the wheel is pure Python, which does the same more slowly. `FTDIAG_COMPILED=1` makes that an error,
`0` does not try.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("src", "ftdiag", "sources", "tick")
MODULE = "ftdiag.sources._tick"


class CompiledTick(BuildHookInterface):  # type: ignore[type-arg]
    """Called by the build backend before a wheel is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell the backend where the result is; see the module."""
        wish = os.environ.get("FTDIAG_COMPILED", "")
        if self.target_name != "wheel" or wish == "0" or sys.platform != "linux":
            return
        stable = not sysconfig.get_config_var("Py_GIL_DISABLED")
        with_editable = version == "editable"
        try:
            built = compiled(Path(self.root), stable=stable)
        except Exception as problem:
            if wish == "1":
                raise
            self.app.display_warning(f"the compiled sampler is left out, ftdiag works without it: {problem}")
            return
        if with_editable:
            place = Path(self.root, SOURCES.parent, built.name)
            # Taken away first: a running process may have it mapped.
            place.unlink(missing_ok=True)
            place.write_bytes(built.read_bytes())
        else:
            build_data["force_include"][str(built)] = f"ftdiag/sources/{built.name}"
            build_data["pure_python"] = False
            if stable:
                platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
                build_data["tag"] = f"cp311-abi3-{platform}"
            else:
                build_data["infer_tag"] = True


def compiled(root: Path, *, stable: bool) -> Path:
    """Compile below a temporary directory; the path of the module. Raises what setuptools raises."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    extension = Extension(
        MODULE,
        [str(path) for path in sorted((root / SOURCES).glob("*.c"))],
        define_macros=[("FTDIAG_STABLE_ABI", "1")] if stable else [],
        extra_compile_args=["-O2", "-std=c11"],
        py_limited_api=stable,
    )
    command = build_ext(Distribution({"name": "ftdiag", "ext_modules": [extension]}))
    scratch = Path(tempfile.mkdtemp(prefix="ftdiag-build-"))
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "temp")
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath(MODULE))
