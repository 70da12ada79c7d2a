"""Everything that is looked at, in the order in which it should be mended."""

from __future__ import annotations

import os

from pam_totp.doctor import engine, fleet, people, server, stacks, storage
from pam_totp.doctor.findings import SEVERITIES, Finding
from pam_totp.doctor.server import Wanted
from pam_totp.doctor.stacks import Stack
from pam_totp.host import pamfile, pinned, sshd, synchronised
from pam_totp.host import stack as pam
from pam_totp.host.pinned import SetupError
from pam_totp.host.programs import ProgramError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths


def findings(paths: Paths, services: list[str], now: Moment) -> list[Finding]:
    """What is wrong on this host; of the services, with these. The worst first."""
    found: list[Finding] = []
    config, wrong = storage.of_configuration(paths)
    found += wrong
    loaded = {service: stacks.load(service, paths) for service in services}
    settings: dict[str, str] = {}
    robots: list[str] = []
    if pinned.SSHD in services:
        settings, wrong = _settings()
        found += wrong
        service = settings.get("pamservicename", pinned.SSHD)
        if service != pinned.SSHD:
            # OpenSSH 9.8 and later can be told to take another one.
            del loaded[pinned.SSHD]
            loaded[service] = stacks.load(service, paths)
        robots = _robots(paths)
        wanted = _wanted(loaded[service], robots)
        if settings:
            found += server.findings(wanted, settings, paths, config)
    for service, each in loaded.items():
        if isinstance(each, Finding):
            found.append(each)
        else:
            found += stacks.findings(each, paths, server.key_comes_first(settings))
        found += stacks.record(service, paths)
    found += stacks.everywhere(paths)
    modules = dict.fromkeys(module for each in loaded.values() if isinstance(each, Stack) for module in _modules(each))
    found += engine.findings(list(modules) or [_engine()], paths)
    found += storage.findings(paths)
    found += fleet.findings(paths, now)
    if not synchronised.synchronised():
        found.append(Finding("clock-not-synchronised", "neither the kernel nor chrony says so", synchronised.mend()))
    if config is not None and settings:
        found += people.findings(paths, config, settings, robots, now)
    found = list({(each.identifier, each.text): each for each in found}.values())
    return sorted(found, key=lambda each: SEVERITIES.index(each.severity))


def services_of(paths: Paths) -> list[str]:
    """The services that are looked at where none is named: sshd, and those that ask, or that setup made ask."""
    found = [pinned.SSHD, *pinned.services(paths), *pam.services_of_ours(paths)]
    return [each for each in dict.fromkeys(found) if not each.startswith("common-")]


def set_up(paths: Paths) -> bool:
    """Whether anything is, or was, to be in force here: else there is nothing to lose."""
    return bool(pinned.services(paths) or pam.services_of_ours(paths))


def _settings() -> tuple[dict[str, str], list[Finding]]:
    if not os.path.exists(sshd.PROGRAM):
        text = f"{sshd.PROGRAM} is missing: with --service, another service is looked at"
        return {}, [Finding("sshd-missing", text, "apt-get install openssh-server")]
    try:
        sshd.check()
        return sshd.effective(), []
    except ProgramError as error:
        return {}, [server.invalid(error)]


def _robots(paths: Paths) -> list[str]:
    try:
        pin = pinned.load(paths, pinned.SSHD)
    except SetupError:
        return []
    return pin.robots if pin is not None else []


def _wanted(loaded: Stack | Finding, robots: list[str]) -> Wanted:
    if isinstance(loaded, Finding):
        return Wanted(key=False, combined=False, robots=robots)
    arguments = [step.line.arguments or [] for step in loaded.steps]
    key = any("first_factor=publickey" in each for each in arguments)
    return Wanted(key, any("combined=split" in each for each in arguments), robots)


def _modules(loaded: Stack) -> list[str]:
    """The engines that the lines name."""
    lines = [step for step in loaded.steps if step.line.arguments is not None]
    return [pamfile.ENGINES["pam_python" if "pam_python.so" in each.text else "pam_totp"] for each in lines]


def _engine() -> str:
    return next(iter(pamfile.ENGINES.values()))
