"""Change one thing in the installed init.py, at random, and see whether the tests notice; many times.

    .venv/3.13/bin/python tools/mutate.py [--number 50] [--seed 1] [--file init.py] [PYTEST-ARGUMENT...]

A mutant that no test notices is shown with its line. Some change nothing that could be noticed: a reader decides.
Status 1 if less than 90 % are noticed.

A mutant may signal every process that it can. So the tests run in a PID namespace of their own: as root, by unshare(1).
"""

import argparse
import ast
import copy
import os
import random
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ENOUGH = 0.9
PATIENCE = 1800  # seconds for the tests of one mutant: many times what they need, so that only a hang takes as long
FAILED = re.compile(r"(?:FAILED|ERROR) (\S+::\S+)|(\S+::\S+).* (?:FAILED|ERROR)")  # as pytest has it, or pytest-xdist
SCRIPT = 'umount -l /proc; mount -t proc proc /proc; "$@"; exit $?'  # in place of the old one, and not on top of it
PATIENCE_OF_TESTS = "10"  # seconds, where they else wait for half a minute
ALONE = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "--", "sh", "-c", SCRIPT, "sh")
OTHER: "dict[type[ast.AST], type[ast.AST]]" = {
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Mult: ast.Add},
}
# whatever is run first fails first
FIRST = ("exit_status", "signal_forwarding", "reaping", "leftovers", "inheritance", "surroundings", "terminal")
QUICK = "not heavy and not peers"

Change = tuple[int, str, Callable[[], None]]


def changes(tree: ast.Module) -> "Iterator[Change]":
    """All single changes: line, what it does, and how it is done to this tree."""
    for_types = {  # what no interpreter runs
        below
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for below in ast.walk(node)
    }
    for parent in ast.walk(tree):
        if parent in for_types or isinstance(parent, ast.arg):
            continue
        for field, value in ast.iter_fields(parent):
            for place, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                line = getattr(node, "lineno", getattr(parent, "lineno", 0))
                for what, new in replacements(node):

                    def change(
                        parent: ast.AST = parent, field: str = field, place: "int | None" = place, new: object = new
                    ) -> None:
                        if place is None:
                            setattr(parent, field, new)
                        else:
                            getattr(parent, field)[place] = new

                    yield line, what, change


def replacements(node: object) -> "Iterator[tuple[str, object]]":
    """What may stand in place of a node."""
    if type(node) in OTHER:
        other = OTHER[type(node)]  # type: ignore[index]
        yield f"{type(node).__name__} becomes {other.__name__}", other()
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} becomes {not node.value}", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield f"{node.value} becomes {node.value + 1}", ast.Constant(node.value + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not is left out", node.operand
    elif isinstance(node, (ast.If, ast.While)):
        yield "the condition is inverted", type(node)(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.Return) and node.value is not None and not is_text(node.value):
        yield "None is returned", ast.Return(ast.Constant(None))
    elif (isinstance(node, ast.Expr) and not is_text(node.value)) or isinstance(
        node, (ast.Assign, ast.AugAssign, ast.Raise)
    ):
        yield "the statement is left out", ast.Pass()


def is_text(node: ast.expr) -> bool:
    """Whether a node is a text, such as a docstring."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def noticed_by(arguments: "list[str]") -> str:
    """The first test that fails, or `a hang`; empty if all pass."""
    return run_tests("-m", QUICK, *arguments) or run_tests("-m", f"not ({QUICK})", *arguments)


def run_tests(*arguments: str) -> str:
    """As above, of some of them. With the first that fails all are ended: others may hang."""
    tests = Path(__file__).parent.parent / "tests"
    first = [str(tests / f"test_{name}.py") for name in FIRST]
    rest = sorted(str(path) for path in tests.glob("test_*.py") if str(path) not in first)
    words = [*ALONE, sys.executable, "-m", "pytest", "-vx", "--form", "installed", "-p", "no:cacheprovider", *arguments]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [*words, *first, *rest],
            env={**os.environ, "TESTS_TIMEOUT": PATIENCE_OF_TESTS, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        ) as running,
    ):
        timer = threading.Timer(PATIENCE, running.kill)
        timer.start()
        try:
            failed = next(filter(None, map(FAILED.search, running.stdout or ())), None)
            if failed:
                return failed[1] or failed[2]
            if running.wait() == 0:
                return ""
            return "nothing that can be named" if running.returncode > 0 else "a hang"
        finally:
            timer.cancel()
            running.kill()


def main() -> int:
    """Try mutant after mutant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="begin with this one, as after an interrupted run")
    parser.add_argument("--file", default="init.py")
    options, arguments = parser.parse_known_args()
    path = Path(sysconfig.get_path("purelib")) / "tinyinit" / options.file
    source = path.read_text()
    tree = ast.parse(source)
    numbers = list(range(len(list(changes(tree)))))
    random.Random(options.seed).shuffle(numbers)  # nosec B311
    survivors = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # through `finally`
    try:
        if failed := noticed_by(arguments):
            raise SystemExit(f"the tests fail without any change: {failed}")
        for count, number in enumerate(numbers[: options.number], 1):
            if count < options.first:
                continue
            mutant = copy.deepcopy(tree)
            line, what, change = list(changes(mutant))[number]
            change()
            path.write_text(ast.unparse(ast.fix_missing_locations(mutant)))
            begin = time.monotonic()
            failed = noticed_by(arguments)
            survivors += not failed
            took = time.monotonic() - begin
            verdict = f"noticed by {failed}" if failed else f"SURVIVES: {source.splitlines()[line - 1].strip()}"
            print(f"{count}: {options.file}:{line}: {what}: after {took:.0f} s {verdict}", flush=True)
    finally:
        path.write_text(source)
    tried = options.number - options.first + 1
    share = 1 - survivors / tried
    print(f"{tried - survivors} of {tried} noticed, {share:.0%}")
    return int(share < ENOUGH)


if __name__ == "__main__":
    raise SystemExit(main())
