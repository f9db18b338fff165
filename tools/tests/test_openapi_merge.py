from typing import Any

import pytest

from tools.openapi_merge import SCHEMAS, ClashError, merge


def document(path: str, operation: str, model: str, **schemas: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": SCHEMAS + model}}}
    get = {"operationId": operation, "responses": {"200": {"content": content}}}
    return {
        "paths": {path: {"get": get}},
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http"}}},
    }


def merged(**documents: dict[str, Any]) -> dict[str, Any]:
    return merge(documents, title="All", description="of them")


def answer(whole: dict[str, Any], path: str) -> str:
    schema = whole["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    reference: str = schema["schema"]["$ref"]
    return reference.removeprefix(SCHEMAS)


def test_a_model_that_is_the_same_everywhere_is_kept_once() -> None:
    whole = merged(
        auth=document("/a", "readA", "User", User={"type": "object"}),
        rounds=document("/b", "readB", "User", User={"type": "object"}),
    )
    assert list(whole["components"]["schemas"]) == ["User"]
    assert (answer(whole, "/a"), answer(whole, "/b")) == ("User", "User")
    assert whole["components"]["securitySchemes"] == {"bearer": {"type": "http"}}


def test_models_that_share_only_a_name_get_their_services_name() -> None:
    whole = merged(
        auth=document("/a", "readA", "User", User={"type": "object"}),
        rounds=document("/b", "readB", "User", User={"type": "string"}),
    )
    assert list(whole["components"]["schemas"]) == ["AuthUser", "RoundsUser"]
    assert (answer(whole, "/a"), answer(whole, "/b")) == ("AuthUser", "RoundsUser")


def test_what_refers_to_different_models_is_different() -> None:
    page = {"type": "array", "items": {"$ref": f"{SCHEMAS}Item"}}
    whole = merged(
        auth=document("/a", "readA", "Page", Page=page, Item={"type": "object"}),
        rounds=document("/b", "readB", "Page", Page=page, Item={"type": "string"}),
    )
    schemas = whole["components"]["schemas"]
    assert list(schemas) == ["AuthItem", "AuthPage", "RoundsItem", "RoundsPage"]
    assert schemas["RoundsPage"]["items"] == {"$ref": f"{SCHEMAS}RoundsItem"}


def test_a_path_or_an_operation_that_occurs_twice_is_refused() -> None:
    one = document("/a", "readA", "User", User={"type": "object"})
    with pytest.raises(ClashError, match="rounds is not the only one to answer /a"):
        merged(auth=one, rounds=one)
    with pytest.raises(ClashError, match="more than one operation is called readA"):
        merged(auth=one, rounds=document("/b", "readA", "User", User={"type": "object"}))
