"""Short tables for people."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers (cells that begin with a digit) to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if cell[:1].isdigit() and cells is not head else cell.ljust(width)
            for cell, width in zip(cells, widths, strict=True)
        ]
        return "  " + "   ".join(padded).rstrip()

    return "\n".join([line(head), "  " + "   ".join("─" * width for width in widths), *(line(row) for row in rows)])
