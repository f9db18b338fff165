"""What the endpoints get from the application."""

from typing import Annotated

from fastapi import Depends, Request

from memepool_common.db import Database
from memepool_common.tokens import Principal
from memepool_common.web.deps import Caller
from memepool_payments.settings import Settings
from memepool_payments.use_cases.deposits import DepositKeys
from memepool_payments.use_cases.transfers import Desk

NOT_BUILT = {"x-not-built-yet": True}


async def _member(request: Request, caller: Caller) -> Principal:
    await request.app.state.acquaintance.meet(caller)
    return caller


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _keys(request: Request) -> DepositKeys:
    keys: DepositKeys = request.app.state.deposit_keys
    return keys


Member = Annotated[Principal, Depends(_member)]
"""The caller, with an account: a valid token is proof of its user."""
DatabaseDep = Annotated[Database, Depends(_database)]
DeskDep = Annotated[Desk, Depends(_desk)]
SettingsDep = Annotated[Settings, Depends(_settings)]
DepositKeysDep = Annotated[DepositKeys, Depends(_keys)]
