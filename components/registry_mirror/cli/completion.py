"""`completion bash|zsh|fish`: what a shell needs to complete the command's verbs and flags.

Owns the three dialects. All that they complete is read from the command's own parser, so a new verb
or flag is completed without a word here.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .console import Verb
from .errors import OK


@dataclass(frozen=True)
class Flag:
    """An option of a verb, or what stands without one (`names` is empty)."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    is_file: bool
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """A verb as a shell sees it."""

    verb: str
    help: str
    flags: tuple[Flag, ...]

    @property
    def names(self) -> list[str]:
        """Every spelling of its options."""
        return [name for flag in self.flags for name in flag.names]

    @property
    def places(self) -> list[Flag]:
        """What stands without an option, in order."""
        return [flag for flag in self.flags if not flag.names]


def words(parser: argparse.ArgumentParser) -> list[Words]:
    """Everything that the parser takes. Raises StopIteration for a parser without verbs."""
    (verbs,) = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    about = {action.dest: action.help or "" for action in verbs._choices_actions}
    return [
        Words(name, about.get(name, ""), tuple(map(_flag, sub._actions)))
        for name, sub in verbs.choices.items()
    ]


def _flag(action: argparse.Action) -> Flag:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return Flag(
        tuple(action.option_strings),
        (action.help or "").replace("%%", "%"),
        action.nargs != 0,
        any(word in metavar for word in ("FILE", "FOLDER")),
        tuple(map(str, action.choices or ())),
    )


def bash(program: str, verbs: Sequence[Words]) -> str:
    """For `source <(… completion bash)`."""
    function = "_" + program.replace("-", "_")
    cases = []
    for each in verbs:
        values = [
            f"{'|'.join(flag.names)}) {_bash_reply(flag)} return ;;"
            for flag in each.flags
            if flag.names and flag.takes_value
        ]
        places = [flag for flag in each.places if flag.choices or flag.is_file]
        rest = _bash_reply(places[0]) if places else ":"
        inner = "\n        ".join(values)
        cases.append(
            f"""    {each.verb})
      case $previous in
        {inner or "'') ;;"}
      esac
      case $current in
        -*) COMPREPLY=($(compgen -W {_quoted(" ".join(each.names))} -- "$current")) ;;
        *) {rest.rstrip(";")} ;;
      esac ;;"""
        )
    names = _quoted(" ".join(each.verb for each in verbs))
    body = "\n".join(cases)
    return f"""# bash completion of {program}
{function}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {names} -- "$current"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{body}
  esac
}}
complete -o filenames -F {function} {program}
"""


def _bash_reply(flag: Flag) -> str:
    if flag.choices:
        return f'COMPREPLY=($(compgen -W {_quoted(" ".join(flag.choices))} -- "$current"));'
    return 'COMPREPLY=($(compgen -f -- "$current"));' if flag.is_file else ":;"


def zsh(program: str, verbs: Sequence[Words]) -> str:
    """For a file `_{program}` in a folder of `fpath`, or `source <(… completion zsh)`."""
    function = "_" + program.replace("-", "_")
    listed = "\n".join(f"    {_quoted(f'{each.verb}:{each.help}')}" for each in verbs)
    cases = "\n".join(
        f"      {each.verb})\n        _arguments -s {' '.join(map(_zsh_argument, each.flags))} ;;"
        for each in verbs
    )
    return f"""#compdef {program}
{function}() {{
  local -a verbs
  verbs=(
{listed}
  )
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
{cases}
  esac
}}
compdef {function} {program}
"""


def _zsh_argument(flag: Flag) -> str:
    about = _zsh_text(flag.help)
    value = f"({' '.join(flag.choices)})" if flag.choices else "_files" if flag.is_file else ""
    if not flag.names:
        return _quoted(f"*:{about}:{value}")
    ends = f":value:{value}" if flag.takes_value else ""
    spelt = "{" + ",".join(flag.names) + "}" if len(flag.names) > 1 else flag.names[0]
    return f"{spelt}{_quoted(f'[{about}]{ends}')}"


def _zsh_text(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text


def fish(program: str, verbs: Sequence[Words]) -> str:
    """For `… completion fish | source`."""
    lines = [f"# fish completion of {program}", f"complete -c {program} -f"]
    for each in verbs:
        about = _quoted(each.help)
        lines.append(f"complete -c {program} -n __fish_use_subcommand -a {each.verb} -d {about}")
        seen = f"-n '__fish_seen_subcommand_from {each.verb}'"
        for flag in each.flags:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in flag.names
            )
            value = f"-x -a {_quoted(' '.join(flag.choices))}" if flag.choices else "-r -F"
            parts = [
                f"complete -c {program} {seen}",
                names,
                value if (flag.takes_value and (flag.choices or flag.is_file)) else "",
                "-x"
                if flag.names and flag.takes_value and not flag.choices and not flag.is_file
                else "",
                f"-d {_quoted(flag.help)}" if flag.help else "",
            ]
            if flag.names or flag.choices or flag.is_file:
                lines.append(" ".join(part for part in parts if part))
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A word of all three shells (and so without a line end)."""
    return "'" + text.replace("'", "’") + "'"


SHELLS: dict[str, Callable[[str, Sequence[Words]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def verb(parser: Callable[[], argparse.ArgumentParser]) -> Verb:
    """The verb; `parser` makes that of the whole command."""

    def run(options: argparse.Namespace) -> int:
        whole = parser()
        print(SHELLS[options.shell](whole.prog, words(whole)), end="")
        return OK

    return Verb(
        "completion",
        "what bash, zsh or fish needs to complete this command",
        "swarm-registry-mirror completion bash > ~/.bash_completion.d/swarm-registry-mirror",
        run,
        lambda sub: sub.add_argument("shell", choices=tuple(SHELLS), help="the shell"),
        has_stack=False,
    )
