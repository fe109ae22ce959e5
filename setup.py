"""Builds the launcher, launcher/tinyinit.c, into the wheel's scripts. All metadata is in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from setuptools import Distribution, setup  # isort: skip  (brings distutils where Python has none)
from distutils.ccompiler import new_compiler
from distutils.command.build_scripts import build_scripts
from distutils.errors import CompileError, LinkError
from distutils.sysconfig import customize_compiler

from setuptools.command.bdist_wheel import bdist_wheel


SOURCE = ["launcher/tinyinit.c"]
COMMON = ["-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE"]
WITHOUT_LIBC = [*COMMON, "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-tree-loop-distribute-patterns"]
# compiler's and linker's flags; the first that build are taken: without a C library, with a static one, with any
VARIANTS = (
    (WITHOUT_LIBC, ["-s", "-static", "-nostdlib"]),
    ([*COMMON, "-DWITH_LIBC"], ["-s", "-static"]),
    ([*COMMON, "-DWITH_LIBC"], ["-s"]),
)


class BuildScripts(build_scripts):
    """Copies the scripts, and compiles the one that is a program."""

    def run(self) -> None:
        super().run()
        compiler = new_compiler()
        customize_compiler(compiler)
        build_temp = self.get_finalized_command("build").build_temp
        Path(self.build_dir).mkdir(parents=True, exist_ok=True)
        for number, (compile_flags, link_flags) in enumerate(VARIANTS, 1):
            try:
                objects = compiler.compile(SOURCE, output_dir=build_temp, extra_postargs=compile_flags)
                compiler.link_executable(objects, "tinyinit", output_dir=self.build_dir, extra_postargs=link_flags)
                return
            except (CompileError, LinkError):
                if number == len(VARIANTS):
                    raise


class Wheel(bdist_wheel):
    """A wheel for this platform, whose Python may be any version."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


class LinuxDistribution(Distribution):
    """Says that there is something to compile, so that `pip install` builds for this platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_scripts": BuildScripts, "bdist_wheel": Wheel}, distclass=LinuxDistribution)
