"""A picture of a terminal, from a real run.

    .tools/docs/bin/python docs/site/recording.py docs/assets/try-out.svg "make up" "make status"

The commands are run now, in this folder, in a pseudo-terminal, one after the other. What they print
is drawn as a person saw it: colours and all, lines that were overwritten are gone, lines that are
too long are wrapped. This folder's own path is written as `…`. A command that fails ends it, unless
it is written behind `- `.
"""

import argparse
import io
import os
import pty
import re
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 108
# As rich's own, without the fonts that it would have a reader's browser fetch from elsewhere.
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run(command: str) -> tuple[str, int]:
    """What a command prints in a terminal of COLUMNS columns, and its exit code."""
    output = io.BytesIO()

    def keep(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        output.write(data)
        return data

    size = f"stty cols {COLUMNS} rows 60; {command}"
    status = pty.spawn(["/bin/sh", "-c", size], keep)
    return output.getvalue().decode(errors="replace"), os.waitstatus_to_exitcode(status)


def seen(output: str) -> str:
    """What is left on the screen in the end: what `\\r` and `ESC [ K` have overwritten is gone."""
    lines = []
    for line in output.replace("\r\n", "\n").split("\n"):
        *_, last = re.split(r"\r|\x1b\[K", line.rstrip("\r"))
        lines.append(last.rstrip())
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    return text.replace(str(Path.cwd()), "…").strip("\n")


def draw(runs: list[tuple[str, str]], title: str) -> str:
    """The picture, as SVG."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard"
    )
    for index, (command, text) in enumerate(runs):
        if index:
            console.print()
        console.print(Text.assemble(("$ ", "green"), (command, "bold")))
        console.print(Text.from_ansi(text))
    return console.export_svg(title=title, theme=MONOKAI, code_format=FORMAT, unique_id="t")


def main() -> int:
    """Run, draw, and say how large the picture is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path)
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--title", default="")
    chosen = parser.parse_args()
    runs = []
    for words in chosen.commands:
        may_fail, command = words.startswith("- "), words.removeprefix("- ")
        text, code = run(command)
        if code and not may_fail:
            print(f"\n{shlex.quote(command)} ended with {code}; nothing was drawn", file=sys.stderr)
            return 1
        runs.append((command, seen(text)))
    chosen.picture.write_text(draw(runs, chosen.title))
    print(f"\n{chosen.picture}: {chosen.picture.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
