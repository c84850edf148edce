"""Small C libraries for the workloads whose cause lies outside Python.

In: C source. Out: the path of a shared library, compiled into a temporary directory that is removed when the
program ends, or the extension module that it is. Without a C compiler the workload ends and says so.
"""

from __future__ import annotations

import atexit
import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType


def compiled(source: str, name: str) -> Path:
    """Compiles C source for this interpreter: a library for ctypes or an extension module called `name`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("This workload needs a C compiler. Debian, Ubuntu: sudo apt-get install gcc")
    directory = tempfile.TemporaryDirectory(prefix=f"{name}-")
    atexit.register(directory.cleanup)
    path = Path(directory.name) / f"{name}.c"
    path.write_text(source)
    library = path.with_suffix(sysconfig.get_config_var("EXT_SUFFIX") or ".so")
    include = sysconfig.get_path("include")
    command = [compiler, "-O2", "-shared", "-fPIC", "-pthread", f"-I{include}", str(path), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}.c does not compile:\n{done.stderr}")
    return library


def extension(source: str, name: str) -> ModuleType:
    """Compiles C source into an extension module and imports it as any other."""
    path = str(compiled(source, name))
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[name] = module
    return module
