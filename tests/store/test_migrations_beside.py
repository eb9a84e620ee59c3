"""The user's own Alembic lives beside ours: neither sees, changes or drops what is the other's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

from perdure.store.migrations import check, not_perdures, upgrade
from tests.servers.catalog import described
from tests.servers.databases import execute

ENVIRONMENT = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, NullPool, Table, create_engine
from perdure.store.migrations import not_perdures

theirs = MetaData()
Table("orders", theirs, Column("id", Integer, primary_key=True))
Table("mail", theirs, Column("id", Integer, primary_key=True), schema="shop")  # as one of ours

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=theirs,
        include_schemas=True,
        include_object={include_object},
    )
    with context.begin_transaction():
        context.run_migrations()
"""

TEMPLATE = """
import sqlalchemy as sa
from alembic import op
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

def upgrade():
    ${upgrades}

def downgrade():
    ${downgrades}
"""


def their_alembic(directory: Path, url: str, include_object: str) -> Config:
    """The user's own migrations, as their service has them."""
    (directory / "versions").mkdir()
    (directory / "env.py").write_text(ENVIRONMENT.format(include_object=include_object))
    (directory / "script.py.mako").write_text(TEMPLATE)
    config = Config()
    config.set_main_option("script_location", str(directory))
    there = make_url(url).set(drivername="postgresql+psycopg")
    config.set_main_option("sqlalchemy.url", there.render_as_string(False))
    return config


def written(directory: Path) -> str:
    """What autogenerate would do."""
    return "".join(path.read_text() for path in sorted((directory / "versions").glob("*.py")))


@pytest.mark.parametrize("schema", ["perdure", "public"])
def test_their_autogenerate_leaves_our_tables_alone(empty_postgres, tmp_path, schema):
    url = f"{empty_postgres}?schema={schema}"
    asyncio.run(upgrade(url))
    execute(empty_postgres, "CREATE SCHEMA shop")
    ours = described(empty_postgres, schema)
    config = their_alembic(tmp_path, empty_postgres, f"not_perdures({schema!r})")
    command.revision(config, autogenerate=True)
    assert "drop_" not in written(tmp_path).partition("def downgrade")[0]
    assert "'orders'" in written(tmp_path)
    assert "'mail'" in written(tmp_path)
    command.upgrade(config, "head")
    assert ours <= described(empty_postgres, schema)
    assert execute(empty_postgres, "SELECT * FROM public.alembic_version, public.orders") == []
    assert len(execute(empty_postgres, "SELECT FROM public.alembic_version")) == 1
    asyncio.run(check(url))
    asyncio.run(upgrade(url))
    command.check(config)  # nothing is left to be done


def test_without_it_their_autogenerate_would_drop_them(empty_postgres, tmp_path):
    asyncio.run(upgrade(f"{empty_postgres}?schema=public"))
    execute(empty_postgres, "CREATE SCHEMA shop")
    config = their_alembic(tmp_path, empty_postgres, "None")
    command.revision(config, autogenerate=True)
    assert "op.drop_table('journal')" in written(tmp_path)


def test_a_table_of_theirs_in_another_schema_is_theirs():
    class Mail:
        schema = "shop"

    assert not_perdures()(Mail, "mail", "table", True, None)
    Mail.schema = "perdure"
    assert not not_perdures()(Mail, "mail", "table", True, None)
