"""Which tables a store of this code opens, and what it says of all others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from perdure.errors import DefinitionError, SchemaTooNew, SchemaTooOld
from perdure.store.postgres_address import SCHEMA_BYTES_MAX, Address, is_postgres
from perdure.store.postgres_schema import REVISION, SCHEMA
from perdure.store.revisions import judge

SHOP = Address.of("postgresql://app:hidden@db.example/shop?schema=eu")


def test_the_revision_of_this_code_is_taken():
    judge(REVISION, SHOP)


@pytest.mark.parametrize(("found", "said"), [(None, "has no tables"), ("0000", "at revision 0000")])
def test_an_older_one_is_refused_with_the_command_that_migrates(found, said):
    with pytest.raises(SchemaTooOld, match=said) as raised:
        judge(found, SHOP)
    assert "perdure db upgrade --store postgresql+asyncpg://app:***@" in str(raised.value)
    assert "schema=eu" in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_a_newer_one_is_refused():
    with pytest.raises(SchemaTooNew, match=f"at revision 0999, this perdure knows {REVISION}"):
        judge("0999", SHOP)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_an_address_is_for_asyncpg_however_it_is_spelt(scheme):
    url = f"{scheme}://app@db.example/shop?ssl=require"
    address = Address.of(url)
    assert is_postgres(url)
    assert address.url.render_as_string() == "postgresql+asyncpg://app@db.example/shop?ssl=require"
    assert address.schema == SCHEMA


@pytest.mark.parametrize("url", ["sqlite:///postgres.db", "memory://", "orders.db", ""])
def test_what_is_meant_for_another_store_is_told_apart(url):
    assert not is_postgres(url)


@given(st.text(min_size=1))
def test_every_schema_is_kept_as_it_is_named_or_refused(name):
    given_url = URL.create("postgresql", database="shop", query={"schema": name})
    url = given_url.render_as_string(False)
    is_possible = (
        len(name.encode("utf-8", "replace")) <= SCHEMA_BYTES_MAX
        and not name.startswith("pg_")
        and "\0" not in name
    )
    if is_possible:
        assert Address.of(url).schema == name
        assert "schema" not in Address.of(url).url.query
    else:
        with pytest.raises(DefinitionError):
            Address.of(url)
