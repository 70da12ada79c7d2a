"""The man page and the description of the API have what there is: all of it, and nothing else."""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pam_totp.directory import config
from pam_totp.directory.cli import VERBS, parser

CHECKOUT = Path(__file__).resolve().parents[3]
PAGE = (CHECKOUT / "docs/man/pam-totp-directory.8").read_text(encoding="utf-8")
API = yaml.safe_load((CHECKOUT / "docs/directory-api.yaml").read_text(encoding="utf-8"))


def subparsers(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [each for each in of._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def options(of: argparse.ArgumentParser) -> set[str]:
    return {option for action in of._actions for option in action.option_strings} - {"-h", "--help"}


def entries(text: str) -> dict[str, str]:
    """What a list at its own level has, by the word that each begins with."""
    found: dict[str, str] = {}
    level, name = 0, ""
    for line in text.splitlines():
        level += line.startswith(".Bl ")
        if level == 1 and line.startswith(".It Cm "):
            name = line.split()[2]
        if name:
            found[name] = found.get(name, "") + line + "\n"
        level -= line.startswith(".El")
    return found


DESCRIBED = entries(PAGE.partition(".Sh DESCRIPTION\n")[2].partition(".Sh FILES\n")[0])


def test_the_page_has_every_verb_in_the_order_of_the_help_and_no_other() -> None:
    synopsis = PAGE.partition(".Sh SYNOPSIS\n")[2].partition(".Sh DESCRIPTION\n")[0]
    assert re.findall(r"^\.Nm\n\.Cm (\w+)$", synopsis, re.MULTILINE) == list(DESCRIBED) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_has_every_word_and_option_of_a_verb_and_no_other(verb: str) -> None:
    each = subparsers(parser())[verb]
    whats = subparsers(each)
    if not whats:
        assert set(re.findall(r"^\.It Fl (-[\w-]+)", DESCRIBED[verb], re.MULTILINE)) == {
            option[1:] for option in options(each)
        }
        return
    described = entries(DESCRIBED[verb].partition("\n")[2])
    assert list(described) == list(whats)
    for what, parsed in whats.items():
        heading = described[what].partition("\n")[0]
        assert {f"-{option}" for option in re.findall(r"Fl (-[\w-]+)", heading)} == options(parsed), what


def test_the_page_has_every_setting() -> None:
    found = PAGE.partition("/etc/pam-totp-directory/directory.toml\n")[2].partition(".It Pa")[0]
    own, mail, oidc = found.split("The table\n")
    for text, settings, elsewhere in (
        (own, config.Config, {"mail", "oidc"}),
        (mail.removeprefix(".Cm mail\n"), config.Mail, set()),
        (oidc, config.Oidc, set()),
    ):
        names = set(re.findall(r"^\.(?:Po )?Cm (\w+)", text, re.MULTILINE)) - {"sqlite", "sub"}
        known = {"from" if name == "sender" else name for name in settings.__dataclass_fields__}
        assert names | elsewhere == known


def methods(module: str) -> dict[str, set[str]]:
    """Which methods each view of a module takes."""
    tree = ast.parse((CHECKOUT / f"pam_totp/directory/{module}.py").read_text(encoding="utf-8"))
    found = {}
    for view in (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)):
        for decorator in view.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in ("http.answering", "_for"):
                names = [str(ast.literal_eval(word)) for word in decorator.args if isinstance(word, ast.Constant)]
                names += [str(word.arg) for word in decorator.keywords]
                if names:
                    found[f"{module}.{view.name}"] = {name.lower() for name in names} - {"head"}
    return found


def test_the_description_of_the_api_has_every_path_with_its_methods() -> None:
    urls = (CHECKOUT / "pam_totp/directory/api_urls.py").read_text(encoding="utf-8")
    taken = methods("api") | methods("admin_api")
    views = dict(re.findall(r'path\("([^"]*)", (\w+\.\w+)', urls))
    expected = {"/" + re.sub(r"<\w+:(\w+)>", r"{\1}", path): taken[view] for path, view in views.items()}
    assert {path: set(about) - {"parameters"} for path, about in API["paths"].items()} == expected


def test_every_part_of_the_description_that_is_referred_to_is_there() -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*(references(each) for each in value.values()))
        return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()

    for reference in references(API):
        found: Any = API
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found
