"""All of `./run vagrant`, from the package to the last step."""

from __future__ import annotations

from contextlib import ExitStack

from tests.lab import cache
from tests.lab.package import debs
from tests.lab.vagrant import covered, image
from tests.lab.vagrant.host import Host
from tests.lab.vagrant.project import Project
from tests.lab.vagrant.scratch import scratch
from tests.lab.vagrant.story import Story
from tests.lab.vagrant.transcript import Transcript


def run(suite: str) -> bool:
    """Make a box of a suite and try it; whether every step went as it should, which is remembered.

    Raises BuildError, MachineError, NoSourcesError, RootError, SessionError or CalledProcessError.
    """
    content = covered.digest(suite)
    packages = debs()
    layer = image.layer(suite)
    transcript = Transcript()
    with ExitStack() as stack:
        host = stack.enter_context(Host(stack.enter_context(scratch()), layer))
        kvm = host.kvm_works(image.IMAGE)
        cache.say(
            "KVM runs guests here: the box will be quick" if kvm else "no KVM that runs guests: emulating the box"
        )
        host.start_libvirt(stack, kvm=kvm)
        project = Project(host, suite, kvm=kvm)
        project.copy(packages)
        project.add_box()
        cache.say(f"vagrant has the box {project.box}")
        Story(project, transcript).run()
    cache.say("the box, its network and the machine around them are gone")
    right = transcript.end()
    if right:
        covered.remember(suite, content)
    return right
