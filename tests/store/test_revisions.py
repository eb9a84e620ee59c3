"""Which tables a store of this code opens, and what it says of all others."""

from __future__ import annotations

import re
import traceback
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from perdure.errors import DefinitionError, SchemaTooNew, SchemaTooOld
from perdure.store.postgres_address import SCHEMA_BYTES_MAX, Address, is_postgres, shown
from perdure.store.postgres_schema import REVISION, SCHEMA
from perdure.store.revisions import judge

SHOP = Address.of("postgresql://app:hidden@db.example/shop?schema=eu")


def test_the_revision_of_this_code_is_taken():
    judge(REVISION, SHOP)


@pytest.mark.parametrize(("found", "said"), [(None, "has no tables"), ("0000", "at revision 0000")])
def test_an_older_one_is_refused_with_the_command_that_migrates(found, said):
    with pytest.raises(SchemaTooOld, match=said) as raised:
        judge(found, SHOP)
    assert "set PERDURE_STORE to the URL of the tables' owner and run `perdure db" in str(
        raised.value
    )
    assert "'eu'" in str(raised.value)
    assert "--store" not in str(raised.value)
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


PARTS = ("Qx7v", "Zw9k", "Jj4h")


@example(["Qx7v", "Qx7v"], ["@", ":", "/", "/", "/"], "u@h/s?password={}", "postgresql", False)
@given(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4),
    st.lists(st.text("@:/?#&=%[] \\é", min_size=1, max_size=3), min_size=5, max_size=5),
    st.sampled_from(["u:{}@localhost:7654/shop", ":{}@/s", "u@{}@h/s", "u@h/s?password={}"]),
    st.sampled_from(["postgresql", "postgresql+psycopg", "postgress", "mysql+x"]),
    st.booleans(),
)
def test_no_part_of_a_password_is_shown(parts, between, form, scheme, is_encoded):
    password = "".join(f"{part}{odd}" for part, odd in zip(parts, between, strict=False))
    given_url = f"{scheme}://{form.format(quote(password, safe='') if is_encoded else password)}"
    texts = [shown(given_url)]
    try:
        address = Address.of(given_url)
    except DefinitionError as error:
        texts.append("".join(traceback.format_exception(error)))
    else:
        texts.append(address.shown)
    assert not [part for part in PARTS if any(part in text for text in texts)], texts


def test_a_password_that_is_encoded_is_taken_as_it_is():
    password = "p@ss/w:rd#1?&%"
    address = Address.of(f"postgresql://sp:{quote(password, safe='')}@db.example/shop")
    assert address.url.password == password
    assert address.shown == "postgresql+asyncpg://sp:***@db.example/shop"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+asyncpg://u:sec@ret99@localhost:7654/shop", "'@' that is not encoded.*%40"),
        ("postgresql://sp:p@ss/w:rd#1?@localhost/shop", "'@' that is not encoded.*%40"),
        ("postgresql://u@h/shop?password=hunter22", "'password'; a password stands before the"),
        ("postgresql://u@h/shop?channel=x", "'channel'; known are schema, ssl, sslmode, host"),
        ("postgresql://u@h/shop?sslmode=on", "no such ssl; give one of disable, "),
        ("postgresql://u@h/shop?sslmode=require&ssl=require", "no such ssl; .*, once"),
        ("postgresql://u@h/shop?user=a&user=b", "says one thing twice"),
    ],
)
def test_what_a_url_must_not_have_is_refused_before_anything_connects(url, said):
    with pytest.raises(DefinitionError, match=said) as raised:
        Address.of(url)
    assert not re.search("sec|ret99|rd#1|hunter22", str(raised.value))


@pytest.mark.parametrize("key", ["ssl", "sslmode"])
def test_the_ssl_of_libpq_is_that_of_asyncpg(key):
    address = Address.of(f"postgresql://u@h/shop?{key}=verify-full&schema=eu")
    assert dict(address.url.query) == {"ssl": "verify-full"}
