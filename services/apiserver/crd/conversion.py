"""Between the versions of a custom resource. With strategy None only apiVersion differs."""

from __future__ import annotations

from typing import Protocol

from services.apiserver.crd.objects import CustomObject


class Converter(Protocol):
    async def convert(self, objects: list[CustomObject], api_version: str) -> list[CustomObject]:
        """The objects in another version; takes them over. Raises StatusError."""


class Relabel:
    """Strategy None: the objects are the same in all versions but for their apiVersion."""

    async def convert(self, objects: list[CustomObject], api_version: str) -> list[CustomObject]:
        for obj in objects:
            obj.content["apiVersion"] = api_version
        return objects
