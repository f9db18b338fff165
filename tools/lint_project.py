"""The project's own rules, that no general linter knows. Prints what breaks them; exit code 1.

money-float      an amount of satoshis is an integer: no float annotation, value or conversion, and
                 no true division
commit           only `Database.transaction` commits (and the migration runner, between revisions)
nack             a message is never refused to the broker: it would be redelivered at once, for ever
domain-import    `domain/` uses the standard library and itself: no I/O, no clock, no chance
domain-clock     `domain/` is told the time
file-length      a file over 400 lines holds two ideas
function-length  so does a function over 70
address          no package registry and no path of somebody's machine
unfinished       what is not done is an issue, not a comment

Naive datetimes are ruff's to find (DTZ).
"""

import ast
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

MONEY = re.compile(r"(^|_)(sats|satoshis|amounts?)$")
COMMITTERS = {
    "libs/common/src/memepool_common/db.py",
    "libs/common/src/memepool_common/migrations.py",
}
IMPURE = {
    *("asyncio", "io", "multiprocessing", "os", "pathlib", "random", "secrets", "shutil"),
    *("signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time"),
}
CLOCKS = {"now", "utcnow", "today"}
ADDRESS = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs\.org|deb\.debian\.org"
    r"|--(extra-)?index[-]url|--find[-]links"
    r"|(?<![\w.~-])/(home|Users|root|work)/\w"
)
UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b")
SKIPPED_FOLDERS = {"__pycache__", "node_modules"}
SHOWN_FOLDERS = {".ci"}  # other folders whose name begins with a dot are nobody's source


@dataclass(frozen=True, order=True)
class Finding:
    """One place that breaks one rule."""

    path: str
    line: int
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.detail}"


Found = Iterator[tuple[int, str, str]]
"""Line, rule, detail."""


def lint_text(path: str, text: str) -> list[Finding]:
    """All findings in one file, given its path relative to the repository."""
    found = list(_text_rules(text))
    if path.endswith(".py"):
        tree = ast.parse(text, path)
        rules: list[Callable[[ast.AST], Found]] = [_nack, _money_float, _function_length]
        if "/src/" in path and path not in COMMITTERS:
            rules.append(_commit)
        if "/src/" in path and "/domain/" in path:
            rules.append(_domain)
        found += [finding for node in ast.walk(tree) for rule in rules for finding in rule(node)]
        lines = text.count("\n")
        if lines > FILE_LINES_MAX:
            found.append((1, "file-length", f"{lines} lines, at most {FILE_LINES_MAX}"))
    return sorted({Finding(path, *finding) for finding in found})


def _text_rules(text: str) -> Found:
    for number, line in enumerate(text.splitlines(), start=1):
        for rule, pattern in (("address", ADDRESS), ("unfinished", UNFINISHED)):
            match = pattern.search(line)
            if match:
                yield number, rule, match.group(0)


def _nack(node: ast.AST) -> Found:
    if isinstance(node, ast.Attribute) and node.attr in {"nack", "basic_nack"}:
        yield node.lineno, "nack", "reject a message to its dead-letter queue, or retry it here"


def _commit(node: ast.AST) -> Found:
    if isinstance(node, ast.Call) and _called(node) == "commit":
        yield node.lineno, "commit", "only Database.transaction commits"


def _function_length(node: ast.AST) -> Found:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield node.lineno, "function-length", f"{node.name}: {lines}, at most 70"


def _money_float(node: ast.AST) -> Found:
    """Whatever makes a float of something that is called like money."""
    suspects: list[tuple[str | None, bool]] = []  # a name, and whether it meets a float here
    match node:
        case ast.AnnAssign(target=target, annotation=annotation, value=value):
            suspects.append((_name(target), _says_float(annotation) or _is_float(value)))
        case ast.Assign(targets=targets, value=value):
            suspects += [(_name(target), _is_float(value)) for target in targets]
        case ast.arg(arg=name, annotation=annotation):
            suspects.append((name, _says_float(annotation)))
        case ast.keyword(arg=name, value=value):
            suspects.append((name, _is_float(value)))
        case (
            ast.FunctionDef(name=name, returns=returns)
            | ast.AsyncFunctionDef(name=name, returns=returns)
        ):
            suspects.append((name, _says_float(returns)))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            suspects += [(_name(left), True), (_name(right), True)]
        case ast.AugAssign(target=target, op=ast.Div()):
            suspects.append((_name(target), True))
        case ast.Call(args=args) if _called(node) == "float":
            suspects += [(_name(argument), True) for argument in args]
        case _:
            return
    for name, is_float in suspects:
        if is_float and name and MONEY.search(name):
            yield getattr(node, "lineno", 1), "money-float", f"{name} is in whole satoshis"


def _domain(node: ast.AST) -> Found:
    match node:
        case ast.Import(names=names):
            modules = [alias.name for alias in names]
        case ast.ImportFrom(module=module, level=0):
            modules = [module or ""]
        case ast.Call(func=ast.Attribute(attr=attribute)) if attribute in CLOCKS:
            yield node.lineno, "domain-clock", f"{attribute}() is for the caller to ask"
            return
        case _:
            return
    for module in modules:
        top, _, rest = module.partition(".")
        own = top.startswith("memepool_") and rest.split(".")[0] == "domain"
        if not own and (top in IMPURE or top not in sys.stdlib_module_names):
            yield node.lineno, "domain-import", module


def _name(node: ast.AST | None) -> str | None:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(func=function):
            return _name(function)
        case _:
            return None


def _called(node: ast.Call) -> str | None:
    return _name(node.func)


def _says_float(annotation: ast.AST | None) -> bool:
    return annotation is not None and any(
        isinstance(part, ast.Name) and part.id == "float" for part in ast.walk(annotation)
    )


def _is_float(value: ast.AST | None) -> bool:
    match value:
        case ast.Constant(value=float()):
            return True
        case ast.UnaryOp(operand=operand):
            return _is_float(operand)
        case ast.Call():
            return _called(value) == "float"
        case ast.BinOp(op=ast.Div()):
            return True
        case _:
            return False


def source_files(root: Path) -> Iterator[Path]:
    """The repository's files, by walking it: a copy without git is checked alike."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED_FOLDERS and (name in SHOWN_FOLDERS or not name.startswith("."))
        )
        # In a second work tree `.git` is a file.
        yield from (Path(folder, name) for name in sorted(files) if name != ".git")


def main() -> int:
    """Check every text file of the repository."""
    findings: list[Finding] = []
    for path in source_files(ROOT):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image
        findings += lint_text(path.relative_to(ROOT).as_posix(), text)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
