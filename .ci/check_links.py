"""Check that every relative link in the project's Markdown leads to a file, and to the heading it names."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'][^)]*)?\)|^\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)  # https:, mailto: …
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def documents() -> list[Path]:
    """The project's Markdown files, without those in hidden directories such as the environment."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.parts))


def anchors(text: str) -> set[str]:
    """The names under which a document's headings can be linked to; a repeated one is numbered."""
    names: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while (numbered := f"{name}-{number}" if number else name) in names:
            number += 1
        names.add(numbered)
    return names


def broken(document: Path) -> list[str]:
    """What is wrong with the links of one document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    complaints = []
    for match in LINK.finditer(CODE.sub("", text)):
        link = match[1] or match[2]
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.exists() or not target.resolve().is_relative_to(ROOT):
            complaints.append(f"{document}: {link}: no such file in the project")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            complaints.append(f"{document}: {link}: no such heading")
    return complaints


def main() -> int:
    """Print the broken links; the exit code says whether there were any."""
    checked = documents()
    complaints = [complaint for document in checked for complaint in broken(document)]
    print(*complaints, f"links: {len(checked)} documents, {len(complaints)} broken links", sep="\n")
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
