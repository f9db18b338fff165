"""What a failure while handling events means."""

import psycopg
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

# Class 08: connection; 53: resources; 57P: operator intervention; 40: rollback, try again;
# 55P03: lock not available. (PostgreSQL, appendix A.)
_PASSING_SQLSTATES = ("08", "53", "57P", "40", "55P03")
# What a statement names is not there: a table, a column, a function.
_NOT_MIGRATED_SQLSTATES = ("42P01", "42703", "42883")


def lacks_migration(error: BaseException) -> bool:
    """Whether the code is newer than its database, so that no event at all can be handled yet."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.Error) and cause.sqlstate in _NOT_MIGRATED_SQLSTATES


def is_infrastructure(error: BaseException) -> bool:
    """Whether infrastructure was lost, so that the same work may succeed later unchanged."""
    if isinstance(error, PoolTimeoutError | ConnectionError | TimeoutError | InterfaceError):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_infrastructure, error.exceptions))
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or is_infrastructure(error.orig or ValueError())
    if isinstance(error, psycopg.Error):
        if error.sqlstate is None:
            return isinstance(error, psycopg.OperationalError)
        return error.sqlstate.startswith(_PASSING_SQLSTATES)
    return False
