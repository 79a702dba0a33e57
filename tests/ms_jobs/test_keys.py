"""Names in Redis are made in ``ms_jobs.keys`` alone, and Lua and RQ mean the same ones."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from rq import Queue
from rq.executions import Execution
from rq.job import Job

from ms_jobs import keys
from ms_jobs.keys import JobKey
from tests.support.paths import ROOT

SHIPPED = ("app", "worker", "ms_jobs", "cli")
LUA = ROOT / "ms_jobs" / "lua"
# "msd: " begins what commands say to their users.
KEY = re.compile(r"(msd|rq):(?! )")
# A name as Lua puts it together: 'msd:key:' .. owner .. ':' .. ARGV[5]
LUA_NAME = re.compile(r"'msd:[^']*'(?: \.\. (?:'[^']*'|[\w.]+(?:\[\d+\]|\('\w+'\))?))*")

JOB = JobKey("ann", "0123456789abcdef")
SAMPLES = {
    "key": JOB,
    "owner": JOB.owner,
    "idempotency_key": "twice",
    "digest": "twice",
    "address": "192.0.2.1",
    "model": "mini",
    "name": "host-1",
    "entry": JOB.entry(0),
    "execution": "0f",
}
# What the scripts call the same samples.
IN_LUA = {
    "name": str(JOB),
    "owner": JOB.owner,
    "known": "0123456789abcdef",
    "ARGV[5]": "twice",
    "idempotency_key": "twice",
    "get('model')": "mini",
    "model": "mini",
    "get('worker')": "host-1",
}


def test_shipped_code_writes_no_name_of_redis_outside_keys() -> None:
    files = [path for room in SHIPPED for path in (ROOT / room).rglob("*.py")]
    strays = [stray for path in files if path != ROOT / "ms_jobs" / "keys.py" for stray in _strays(path)]
    assert strays == []


def test_a_stray_name_is_found_and_a_docstring_is_none(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""rq:job:1 tells."""\n\nprint("msd: No.")\nfind = "msd:job:"\nkey = f"rq:queue:{find}"\n')
    assert [stray.rpartition("/")[2] for stray in _strays(module)] == [
        "module.py:4: msd:job:",
        "module.py:5: rq:queue:",
    ]


def test_every_name_that_lua_makes_is_one_of_keys() -> None:
    scripts = {path.name: path.read_text() for path in LUA.glob("*.lua")}
    found = [(file, expression) for file, text in scripts.items() for expression in LUA_NAME.findall(text)]
    assert len(found) == sum(text.count("msd:") for text in scripts.values()) > 20
    known = {*_sample_keys(), "msd:nothing"}
    assert [(file, expression) for file, expression in found if _evaluate(expression) not in known] == []


def test_names_of_rq_are_its_own() -> None:
    entry = JOB.entry(1)
    with Redis() as never_asked:
        queue = Queue(keys.queue_name("mini"), connection=never_asked)
        execution = Execution("0f", entry, connection=never_asked)
        assert keys.queue("mini") == queue.key
        assert keys.rq_execution(entry, "0f") == execution.key
        assert keys.rq_executions(entry) == Job(entry, connection=never_asked).execution_registry.key
    assert keys.rq_job(entry) == Job.key_for(entry)


def test_an_entry_leads_back_to_its_job() -> None:
    key = JobKey("ann-2", "_0-1_2-3_4-5_6-7_")
    assert JobKey.of_entry(key.entry(3)) == key
    assert JobKey.parse(str(key)) == key


def _strays(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and node not in docstrings:
            text = node.value if isinstance(node.value, str) else node.value.decode(errors="replace")
            if KEY.match(text):
                yield f"{path}:{node.lineno}: {text}"


def _sample_keys() -> set[str]:
    """Every name that ``ms_jobs.keys`` makes of ``SAMPLES``."""
    makers = [item for _, item in inspect.getmembers(keys, inspect.isfunction) if item.__module__ == keys.__name__]
    return {maker(*(SAMPLES[name] for name in inspect.signature(maker).parameters)) for maker in makers}


def _evaluate(expression: str) -> str:
    parts = expression.split(" .. ")
    return "".join(part.strip("'") if part.startswith("'") else IN_LUA[part] for part in parts)
