"""The schema of `install:`, and its way into the model.

It stands in a service's definition, mostly in one that ships with Lictor: the keys say what has to
be there before the first start, and `lictor install NAME` brings it. Nothing of it takes effect at a
start, and Consul KV cannot set any of it.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lictor.core.config.fields import Size, Text, fail
from lictor.core.config.problems import quote
from lictor.core.model.install import InstallFile, InstallSpec

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9.!+_-]+")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def _requirement(value: str) -> str:
    if not _REQUIREMENT.fullmatch(value):
        raise fail(f"expected a package with its exact version, name==1.2.3; got {quote(value)}")
    return value


def _module(value: str) -> str:
    if not _MODULE.fullmatch(value):
        raise fail(f"expected the name of a Python module, got {quote(value)}")
    return value


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise fail("expected a path inside the package", "without a leading / and without ..")
    return value


Requirement = Annotated[str, AfterValidator(_requirement)]
Module = Annotated[str, AfterValidator(_module)]
Inside = Annotated[str, AfterValidator(_inside)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class InstallFileModel(_Part):
    """One file: out of a package of the environment, or one that ships with Lictor."""

    to: Text = Field(description="Where it is put; an absolute path, such as {data_dir}/voices/x")
    package: Module | None = Field(default=None, description="Importable package that holds it")
    path: Inside | None = Field(default=None, description="Its path inside the package")
    resource: Inside | None = Field(default=None, description="A program that ships with Lictor")

    @model_validator(mode="after")
    def _one_source(self) -> InstallFileModel:
        if (self.resource is None) == (self.package is None and self.path is None):
            raise fail("it does not say where the file comes from", "package and path, or resource")
        if self.resource is None and (self.package is None or self.path is None):
            raise fail("`package` and `path` belong together")
        if not self.to.startswith("/"):
            raise fail(f"expected an absolute path for `to`, got {quote(self.to)}")
        return self


class InstallModel(_Part):
    """What `lictor install` brings."""

    venv: Text | None = Field(
        default=None, description="Virtual environment; default: {data_dir}/venvs/{name}"
    )
    packages: list[Requirement] = Field(
        default=[], description="Python packages, pinned, with what they depend on"
    )
    no_deps: list[Requirement] = Field(
        default=[], description="Python packages, pinned, without what they depend on"
    )
    imports: list[Module] = Field(
        default=[], description="Modules that must be importable afterwards"
    )
    files: list[InstallFileModel] = Field(default=[], description="Files to put in place")
    image: Text | None = Field(
        default=None, description="Image to pull; default: that of the container"
    )
    size: Size | None = Field(default=None, description="What is downloaded, for people")


def install_spec(model: InstallModel | None, default_venv: str, image: str | None) -> InstallSpec:
    """The model's form; `image` is the container's, which is pulled where nothing else is said."""
    if model is None:
        return InstallSpec(image=image)
    needs_venv = bool(model.packages or model.no_deps)
    return InstallSpec(
        venv=model.venv or (default_venv if needs_venv else ""),
        packages=tuple(model.packages),
        no_deps=tuple(model.no_deps),
        imports=tuple(model.imports),
        files=tuple(
            InstallFile(file.to, file.package or "", file.path or "", file.resource or "")
            for file in model.files
        ),
        image=model.image or image,
        size=model.size,
    )
