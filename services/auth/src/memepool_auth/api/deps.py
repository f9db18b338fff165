"""What auth's routes are given besides session and caller."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request, Response

from memepool_auth.domain.client import (
    Client,
    address_key,
    address_prefix,
    device_name,
    forwarded_address,
)
from memepool_auth.settings import Settings
from memepool_auth.use_cases.sessions import TokenMint
from memepool_common.db import Database


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _mint(request: Request) -> TokenMint:
    mint: TokenMint = await request.app.state.mint()
    return mint


async def _client(request: Request) -> Client:
    peer = request.client.host if request.client else None
    forwarded_for = ",".join(request.headers.getlist("x-forwarded-for"))
    address = forwarded_address(peer, forwarded_for, request.app.state.settings.trusted_hops)
    return Client(
        address_prefix(address),
        address_key(address, request.app.state.address_secret),
        device_name(request.headers.get("user-agent")),
    )


async def _unstored(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


Unstored = Depends(_unstored)
"""The answer holds secrets: no cache on the way may keep it (RFC 6749, section 5.1)."""
SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]
MintDep = Annotated[TokenMint, Depends(_mint)]
ClientDep = Annotated[Client, Depends(_client)]
UserId = Annotated[UUID, Path(alias="userId")]
SessionId = Annotated[UUID, Path(alias="sessionId")]
