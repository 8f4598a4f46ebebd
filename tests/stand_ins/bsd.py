#!/usr/bin/env python3
"""The commonest tools as macOS has them, each called by its own name.

This machine's own do the work, behind a door that lets BSD's options through, and refuses GNU's with BSD's words.
"""

from __future__ import annotations

import getopt
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

NAME = Path(sys.argv[0]).name
# The options that each takes on macOS, as getopt(3) has them.
OPTIONS = {
    "cp": "HLPRafilnpvXcs",
    "date": "jnRuf:r:v:I:",
    "df": "abgHhiklmnPT:t:Y",
    "find": "EHLPXdf:sx",
    "grep": "A:B:C:DEFGHILORSUVZabcd:e:f:hilm:nopqrsuvwxyz",
    "ln": "FLPfhinsvw",
    "mktemp": "dp:qt:u",
    "readlink": "n",
    "sed": "EI:ae:f:i:lnsu",
    "stat": "Ff:Llnqrst:x",
    "tail": "FVb:c:fn:qr",
    "head": "c:n:",
    "touch": "Aacd:fhmr:t:",
    "xargs": "0E:I:J:L:n:oP:pR:S:s:tx",
}
EXIT_CODES = {"grep": 2, "find": 1, "sed": 1}
# What BSD's sed takes for letters, or for nothing, inside a script.
GNU_SCRIPT = re.compile(r"\\[tnswWSb+?|]")


def refuse(option: str) -> NoReturn:
    """Say what BSD's getopt says."""
    word = "unrecognized option `--" if option.startswith("--") else "illegal option -- "
    print(f"{NAME}: {word}{option.lstrip('-')}" + ("'" if option.startswith("--") else ""), file=sys.stderr)
    sys.exit(EXIT_CODES.get(NAME, 1))


def check(arguments: list[str]) -> list[str]:
    """Refuse what macOS does not have.

    Returns:
        the words after the options.
    """
    try:
        options, words = getopt.getopt(arguments, OPTIONS[NAME])
    except getopt.GetoptError as error:
        long = any(argument.startswith(f"--{error.opt}") for argument in arguments)
        refuse(f"--{error.opt}" if long else error.opt)
    if NAME == "sed":
        scripts = [value for name, value in options if name == "-e"] or words[:1]
        for script in scripts:
            if GNU_SCRIPT.search(script):
                print(f"sed: BSD's does not know this: {script}", file=sys.stderr)
                sys.exit(1)
    if NAME == "find":
        for word in words:
            if word in ("-regextype", "-printf"):
                print(f"find: {word}: unknown primary or operator", file=sys.stderr)
                sys.exit(1)
    return words


def main() -> None:
    """Let it through to the real one."""
    if NAME == "uname":
        answers = {"-s": "Darwin", "-m": "arm64", "-r": "24.6.0"}
        wanted = sys.argv[1:] or ["-s"]
        if any(option not in answers for option in wanted):
            print(f"uname: illegal option -- {wanted[0].lstrip('-')}", file=sys.stderr)
            sys.exit(1)
        print(" ".join(answers[option] for option in ("-s", "-r", "-m") if option in wanted))
        return
    check(sys.argv[1:])
    os.execv(f"/usr/bin/{NAME}", [NAME, *sys.argv[1:]])


main()
