#!/usr/bin/env python3
"""Tests the rules for includes (docs/architecture.md, Rooms and floors), and that env variables are documented."""

import pathlib
import re
import sys
import tempfile
import unittest

FLOORS = {
    "method": 1, "kernels": 1, "text": 1,
    "backend": 2,
    "memory": 3, "model": 3,
    "eviction": 4,
    "engine": 5,
    "serving": 6,
    "eval": 7, "server": 7,
    "cli": 8,
}  # fmt: skip

# Rooms that may not include everything on lower floors and all public headers, with the rooms that they may include.
NARROWER = {
    "method": {"cake"},
    "kernels": set(),
    "text": {"cake"},
    "backend": {"kernels", "cake"},
    "memory": {"backend", "cake"},
    "model": {"backend", "cake"},
    "eviction": {"method", "kernels", "backend", "memory", "cake"},
    "eval": {"text", "cake"},
    "cli": {"eval", "server", "text", "cake"},
}

# The interface of scorers is public, so that users can write one.
PUBLIC_TO_METHOD = {"cake/policy.hpp", "cake/error.hpp"}

INCLUDE = re.compile(r'^\s*#\s*(?:include|include_next|embed)\s*([<"])([^>"]+)[>"]')
ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)


def allowed(room):
    if room in NARROWER:
        return NARROWER[room] | {room}
    return {other for other, floor in FLOORS.items() if floor < FLOORS[room]} | {room, "cake"}


def includes(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if found := INCLUDE.match(line):
            yield number, found[1], found[2]


def sources(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in {".hpp", ".h", ".cpp", ".cc", ".inl"})


def problems(root):
    """Yields every include that docs/architecture.md forbids, as "file:line: what is wrong"."""
    rooms = {p.name: p for p in (root / "src").iterdir() if p.is_dir()}
    for name in sorted(rooms.keys() - FLOORS.keys()):
        yield f"src/{name}: the room has no floor"
    files = [(path, name, allowed(name)) for name in sorted(rooms.keys() & FLOORS.keys()) for path in sources(rooms[name])]
    files += [(path, "cake", {"cake"}) for path in sources(root / "include" / "cake")]
    for path, room, permitted in files:
        for number, quote, target in includes(path):
            where = f"{path.relative_to(root)}:{number}"
            top, slash, _ = target.partition("/")
            ours = slash and (top in FLOORS or top == "cake")
            if ours and quote == "<":
                yield f"{where}: {target} is ours: write it with quotes"
            elif not ours and quote == '"':
                yield f"{where}: \"{target}\" names no room"
            elif ours and top not in permitted:
                yield f"{where}: {room} may not include {target}"
            elif room == "method" and top == "cake" and target not in PUBLIC_TO_METHOD:
                yield f"{where}: of the public face method knows policies and errors, not {target}"
            elif ours and not any((root / base / target).is_file() for base in ("src", "include")):
                yield f"{where}: there is no {target}"
            elif room == "method" and not ours and re.search(r"[./]", target):
                yield f"{where}: method includes the standard library alone, not {target}"
            elif room == "method" and target in {"fstream", "iostream", "cstdio", "filesystem", "print"}:
                yield f"{where}: method does no input or output"


ENVIRONMENT = re.compile(r'(?:getenv\(|envname\()\s*"(\w+)"')


def undocumented_variables(root):
    """Returns the environment variables that src/ reads and the Environment section of docs/cli.md does not mention."""
    section = (root / "docs/cli.md").read_text(encoding="utf-8").partition("\n## Environment\n")[2].partition("\n## ")[0]
    names = {name for path in sources(root / "src") for name in ENVIRONMENT.findall(path.read_text(encoding="utf-8"))}
    return sorted(name for name in names if f"`{name}`" not in section)


class Environment(unittest.TestCase):
    def test_every_variable_is_documented(self):
        self.assertEqual([], undocumented_variables(ROOT))

    def test_one_that_is_not_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "src/cli").mkdir(parents=True)
            (root / "docs").mkdir()
            (root / "docs/cli.md").write_text("`A_C`\n\n## Environment\n\n`A_B`\n\n## More\n\n`A_D`\n", encoding="utf-8")
            (root / "src/cli/a.cpp").write_text('getenv("A_B"); std::getenv( "A_C"); x->envname("A_D");', encoding="utf-8")
            self.assertEqual(["A_C", "A_D"], undocumented_variables(root))


class Structure(unittest.TestCase):
    def test_includes_point_to_lower_floors(self):
        self.assertEqual([], list(problems(ROOT)))

    def test_every_lower_room_and_the_public_face_was_read(self):
        for folder in ("src/method", "src/kernels", "src/text", "src/backend", "src/memory", "src/model", "src/eviction", "src/engine",
                       "src/cli", "include/cake"):
            with self.subTest(folder):
                self.assertTrue(sources(ROOT / folder))

    def problem_of(self, path, line):
        """Returns the problems found in a tree in which one file has one include."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for target in ("src/method/a.hpp", "src/memory/a.hpp", "src/text/a.hpp", "src/model/a.hpp", "src/engine/a.hpp",
                           "src/backend/a.hpp", "src/eviction/a.hpp", "src/eval/a.hpp", "src/cli/a.hpp", "include/cake/a.hpp"):  # fmt: skip
                (root / target).parent.mkdir(parents=True, exist_ok=True)
                (root / target).touch()
            (root / path).write_text(f"#pragma once\n  #  include {line}\n", encoding="utf-8")
            return list(problems(root))

    def test_what_is_forbidden_is_found(self):
        for path, line in [
            ("src/method/b.cpp", '"cake/engine.hpp"'),
            ("src/method/b.cpp", '"memory/a.hpp"'),
            ("src/method/b.cpp", "<ggml.h>"),
            ("src/method/b.cpp", "<iostream>"),
            ("src/memory/b.cpp", '"method/a.hpp"'),
            ("src/memory/b.cpp", '"text/a.hpp"'),
            ("src/text/b.cpp", '"engine/a.hpp"'),
            ("src/model/b.cpp", '"method/a.hpp"'),
            ("src/model/b.cpp", '"memory/a.hpp"'),
            ("src/model/b.cpp", '"text/a.hpp"'),
            ("src/backend/b.cpp", '"memory/a.hpp"'),
            ("src/eviction/b.cpp", '"engine/a.hpp"'),
            ("src/eviction/b.cpp", '"model/a.hpp"'),
            ("src/engine/b.cpp", '"cli/a.hpp"'),
            ("src/engine/b.cpp", '"eval/a.hpp"'),
            ("src/cli/b.cpp", '"engine/a.hpp"'),
            ("src/cli/b.cpp", '"method/a.hpp"'),
            ("include/cake/b.hpp", '"engine/a.hpp"'),
            ("include/cake/b.hpp", "<method/a.hpp>"),
            ("src/engine/b.cpp", '"a.hpp"'),
            ("src/engine/b.cpp", '"../cli/a.hpp"'),
            ("src/engine/b.cpp", '"model/none.hpp"'),
        ]:
            with self.subTest(path=path, line=line):
                self.assertEqual(1, len(self.problem_of(path, line)))

    def test_what_is_allowed_is_not(self):
        for path, line in [
            ("src/method/b.cpp", '"method/a.hpp"'),
            ("src/method/b.cpp", "<vector>"),
            ("src/memory/b.cpp", '"cake/a.hpp"'),
            ("src/memory/b.cpp", "<ggml-cpp.h>"),
            ("src/memory/b.cpp", '"backend/a.hpp"'),
            ("src/eviction/b.cpp", '"method/a.hpp"'),
            ("src/eviction/b.cpp", '"memory/a.hpp"'),
            ("src/engine/b.cpp", '"text/a.hpp"'),
            ("src/engine/b.cpp", '"method/a.hpp"'),
            ("src/engine/b.cpp", '"memory/a.hpp"'),
            ("src/engine/b.cpp", '"model/a.hpp"'),
            ("src/cli/b.cpp", '"eval/a.hpp"'),
            ("src/cli/b.cpp", '"cake/a.hpp"'),
            ("src/cli/b.cpp", "<CLI/CLI.hpp>"),
        ]:
            with self.subTest(path=path, line=line):
                self.assertEqual([], self.problem_of(path, line))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
