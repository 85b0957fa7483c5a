"""Text from data inside LaTeX: it can neither become a command nor leave its cell."""

from collections.abc import Iterable, Sequence

from medvlp.report.markdown import one_line

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"{\char34}",
        "`": r"\textasciigrave{}",
        "'": r"\textquotesingle{}",
        "-": r"{-}",
        "[": r"{[}",
        "]": r"{]}",
        "†": r"\textdagger{}",
        "‡": r"\textdaggerdbl{}",
        "§": r"\S{}",
        "★": r"$\star$",
        "≈": r"$\approx$",
        "⊘": r"$\oslash$",
        "→": r"$\rightarrow$",
        "≥": r"$\geq$",
        "·": r"\textperiodcentered{}",
        "…": r"\ldots{}",
        "–": r"--",
        "−": r"$-$",
    }
)
PACKAGES = r"\usepackage{booktabs,textcomp}"
"""What a document that takes the tables has to load."""


def latex(value: object) -> str:
    """A value as text that LaTeX prints as it is, on one line. Letters outside of ASCII need a compiler for UTF-8."""
    return one_line(str(value)).translate(_ESCAPES)


def tabular(columns: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a booktabs table. Cells are taken as LaTeX: escape them.

    Args:
        columns: the specification, a letter a column.
        head: rows above the rule, each a whole line without its end.
    """
    rows = [" & ".join(cells) + r" \\" for cells in lines]
    return [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
